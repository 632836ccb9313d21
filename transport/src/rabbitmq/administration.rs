//! Declaring, deleting and counting queues.

use std::time::{Duration, Instant};

use futures::future::{BoxFuture, try_join_all};
use lapin::Connection;
use lapin::options::QueueDeleteOptions;
use lapin::types::ShortString;

use super::RabbitMqTransport;
use super::delay::{STEPS, delay_queue};
use super::dial::dial;
use super::error::{RabbitError, Refusal, refusal};
use super::link::Line;
use super::settings::queue_name;
use super::topology;
use crate::{AdminError, Administration, DeleteMode, Depth, QueueName};

/// How long a consumer that was just dropped may take to leave its queue.
const LEAVING: Duration = Duration::from_secs(2);

impl Administration for RabbitMqTransport {
    /// Creates the queue as [`QueueOptions`](super::QueueOptions) say, and binds it under its actor's name.
    fn declare<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<(), AdminError>> {
        Box::pin(async move {
            let (name, line) = (named(queue)?, self.inner.consuming.line().map_err(unavailable)?);
            let settings = &self.inner.settings;
            let declaring = async {
                topology::create(&line.connection, &name, &settings.queue_arguments).await?;
                topology::bind(&line.connection, settings, queue, queue.actor()).await
            };
            line.attempt(declaring).await.map_err(broken)?;
            self.inner.registry.found(queue);
            Ok(())
        })
    }

    /// `IfEmpty` also needs the queue to have no consumers. The broker does not tell who holds unsettled messages of a
    /// queue without consumers; those of this process are known and count.
    fn delete<'a>(&'a self, queue: &'a QueueName, mode: DeleteMode) -> BoxFuture<'a, Result<(), AdminError>> {
        Box::pin(async move {
            let line = self.inner.consuming.line().map_err(unavailable)?;
            self.look(&line, queue).await?;
            match mode {
                DeleteMode::Always => delete_anyway(&line, queue).await?,
                DeleteMode::IfEmpty => self.delete_if_empty(&line, queue).await?,
            }
            self.inner.registry.missing(queue);
            let deleting = delete_delay_queues(&line.connection, queue);
            line.attempt(deleting).await.map_err(broken)
        })
    }

    /// `unsettled` are the deliveries in this process; `delayed` is not counted.
    fn depth<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Depth, AdminError>> {
        Box::pin(async move {
            let line = self.inner.consuming.line().map_err(unavailable)?;
            let counts = self.look(&line, queue).await?;
            Ok(Depth {
                ready: counts.ready.into(),
                unsettled: self.inner.registry.unsettled(queue),
                delayed: 0,
            })
        })
    }

    /// The queues that this process has declared, consumed or looked at: AMQP cannot list queues.
    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>, AdminError>> {
        Box::pin(std::future::ready(Ok(self.inner.registry.known())))
    }
}

impl RabbitMqTransport {
    async fn look(&self, line: &Line, queue: &QueueName) -> Result<topology::Counts, AdminError> {
        let name = named(queue)?;
        let looked = line.attempt(topology::look(&line.connection, &name)).await;
        let Some(counts) = looked.map_err(broken)? else {
            self.inner.registry.missing(queue);
            return Err(AdminError::NoSuchQueue(queue.clone()));
        };
        self.inner.registry.found(queue);
        Ok(counts)
    }

    async fn delete_if_empty(&self, line: &Line, queue: &QueueName) -> Result<(), AdminError> {
        self.check_empty(line, queue).await?;
        // Quorum queues answer the conditions by closing the whole connection, so this is one of its own.
        let dialled = dial(&self.inner.settings, "administration").await;
        let (own, cutter) =
            dialled.map_err(|error| unavailable(RabbitError::Disconnected(error.reason())))?;
        let conditions = QueueDeleteOptions {
            if_unused: true,
            if_empty: true,
            ..QueueDeleteOptions::default()
        };
        let deleting = tokio::time::timeout(
            self.inner.settings.options.connect_timeout,
            delete(&own, queue, conditions),
        );
        let deleted = deleting.await;
        cutter.cut();
        match deleted {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => match refusal(&error) {
                // Something came in between; the second look finds it.
                Some((Refusal::Precondition, reason)) => {
                    self.check_empty(line, queue).await?;
                    Err(unavailable(RabbitError::Refused(reason)))
                }
                Some((Refusal::NotImplemented, _)) => {
                    self.check_empty(line, queue).await?;
                    delete_anyway(line, queue).await
                }
                _ => Err(broken(error)),
            },
            Err(_) => Err(unavailable(RabbitError::Disconnected(
                "no answer to the deletion".into(),
            ))),
        }
    }

    /// Nothing ready, nothing in our hands, nothing delayed, nobody who consumes.
    async fn check_empty(&self, line: &Line, queue: &QueueName) -> Result<(), AdminError> {
        let started = Instant::now();
        let mut first = true;
        loop {
            let counts = self.look(line, queue).await?;
            let held = self.inner.registry.unsettled(queue);
            // Not each time: a look at a queue that does not exist costs a channel number.
            let delayed = if std::mem::take(&mut first) || counts.consumers == 0 {
                let looking = line.attempt(delayed(&line.connection, queue));
                looking.await.map_err(broken)?
            } else {
                0
            };
            let messages = u64::from(counts.ready) + held + delayed;
            if messages > 0 {
                let queue = queue.clone();
                return Err(AdminError::NotEmpty { queue, messages });
            }
            if counts.consumers == 0 {
                return Ok(());
            }
            if started.elapsed() > LEAVING {
                let (queue, consumers) = (queue.clone(), counts.consumers);
                return Err(unavailable(RabbitError::InUse { queue, consumers }));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn delete_anyway(line: &Line, queue: &QueueName) -> Result<(), AdminError> {
    let deleting = delete(&line.connection, queue, QueueDeleteOptions::default());
    line.attempt(deleting).await.map_err(broken)
}

async fn delete(
    connection: &Connection,
    queue: &QueueName,
    options: QueueDeleteOptions,
) -> lapin::Result<()> {
    let Some(name) = queue_name(queue) else {
        return Ok(()); // there is no such queue
    };
    let channel = topology::channel(connection).await?;
    channel.queue_delete(name, options).await.map(|_| ())
}

/// How many messages wait for a delay to pass.
async fn delayed(connection: &Connection, queue: &QueueName) -> lapin::Result<u64> {
    let names = STEPS
        .into_iter()
        .filter_map(|step| queue_name(&delay_queue(queue, step)));
    let looking = names.map(|name| async move { topology::look(connection, &name).await });
    let counts = try_join_all(looking).await?;
    Ok(counts
        .into_iter()
        .flatten()
        .map(|counts| u64::from(counts.ready))
        .sum())
}

/// Deleting a queue that does not exist is no error on RabbitMQ.
async fn delete_delay_queues(connection: &Connection, queue: &QueueName) -> lapin::Result<()> {
    let channel = topology::channel(connection).await?;
    let names = STEPS
        .into_iter()
        .filter_map(|step| queue_name(&delay_queue(queue, step)));
    for name in names {
        channel.queue_delete(name, QueueDeleteOptions::default()).await?;
    }
    Ok(())
}

fn named(queue: &QueueName) -> Result<ShortString, AdminError> {
    queue_name(queue).ok_or_else(|| AdminError::NoSuchQueue(queue.clone()))
}

fn unavailable(error: RabbitError) -> AdminError {
    AdminError::Unavailable(error.boxed())
}

fn broken(error: lapin::Error) -> AdminError {
    unavailable(error.into())
}
