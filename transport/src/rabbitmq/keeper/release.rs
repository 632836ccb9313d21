//! Giving a queue up.

use lapin::options::ExchangeDeleteOptions;
use lapin::types::FieldTable;

use super::connection::Dedicated;
use super::ensure::dead_letter_arguments;
use super::lock::locked;
use super::vacate::Refuge;
use super::{
    Arc, Connection, Inner, KeepError, OPERATION, QueueArguments, QueueName, QueueOwner, Refusal,
    ReleaseMode, Released, ShortString, owners, queue_name, timeout, topology,
};
use crate::rabbitmq::delay::{STEPS, delay_queue};
use crate::rabbitmq::error::refusal;

/// What is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The queue with its dead letters.
    Everything,
    /// The queue without its dead letters.
    QueueAlone,
}

impl Inner {
    pub(super) async fn release(
        self: &Arc<Self>,
        queue: &QueueName,
        owner: &QueueOwner,
        mode: ReleaseMode,
        arguments: &QueueArguments,
        scope: Scope,
    ) -> Result<Released, KeepError> {
        let turn = self.turn(queue);
        let _turn = turn.lock().await;
        // Many of the questions asked here close their channel, and the connection ends with the work.
        let dedicated = Arc::new(self.dedicated().await?);
        let work = Box::pin(self.release_locked(&dedicated, queue, owner, mode, arguments, scope));
        let work = locked(dedicated.connection(), queue, work);
        match timeout(OPERATION, work).await {
            Ok(released) => released.map_err(|error| self.broken(error)),
            Err(_) => Err(self.silent()),
        }
    }

    async fn release_locked(
        self: &Arc<Self>,
        dedicated: &Arc<Dedicated>,
        queue: &QueueName,
        owner: &QueueOwner,
        mode: ReleaseMode,
        arguments: &QueueArguments,
        scope: Scope,
    ) -> lapin::Result<Released> {
        let connection = dedicated.connection();
        if let Some(reason) = still_owned(connection, queue, &owner.to_string()).await? {
            return Ok(Released::Kept(reason));
        }
        match mode {
            ReleaseMode::Never => return Ok(Released::Kept("queues are retained".into())),
            ReleaseMode::Always => {
                let delayed = existing_delay_queues(connection, queue).await?;
                let all = std::iter::once(queue.clone()).chain(delayed);
                for name in all.filter_map(|queue| queue_name(&queue)) {
                    topology::delete(connection, name, false).await?;
                }
            }
            ReleaseMode::IfEmpty => {
                // Not worth the trouble with its delay queues if it stays anyway.
                if let Some(reason) = self.in_use(connection, queue).await? {
                    return Ok(Released::Kept(reason));
                }
                let delayed = existing_delay_queues(connection, queue).await?;
                let refuge = Refuge {
                    queue: queue.clone(),
                    arguments: arguments.0.clone(),
                };
                for queue in delayed.iter().chain([queue]) {
                    if let Some(reason) = self.vacate(dedicated, queue, &refuge).await? {
                        return Ok(Released::Kept(reason));
                    }
                }
            }
        }
        if scope == Scope::QueueAlone {
            return Ok(Released::Gone);
        }
        let dead_letter = queue.dead_letter();
        let refuge = Refuge {
            queue: dead_letter.clone(),
            arguments: dead_letter_arguments(arguments.are_quorum()),
        };
        let work = self.release_dead_letters(dedicated, &dead_letter, mode, &refuge);
        locked(connection, &dead_letter, work).await
    }

    /// An actor `x-dlq` has its own queue under the name of the dead letters of `x`, where there are none. It is recorded
    /// as every owner is.
    async fn release_dead_letters(
        self: &Arc<Self>,
        dedicated: &Arc<Dedicated>,
        queue: &QueueName,
        mode: ReleaseMode,
        refuge: &Refuge,
    ) -> lapin::Result<Released> {
        if let Some(reason) = others_own(dedicated.connection(), queue).await? {
            tracing::info!(%queue, reason, "not deleted with the queue whose dead letters it is named for");
            return Ok(Released::Gone);
        }
        if mode == ReleaseMode::IfEmpty {
            let kept = self.vacate(dedicated, queue, refuge).await?;
            return Ok(kept.map_or(Released::Gone, Released::Kept));
        }
        if let Some(name) = queue_name(queue) {
            topology::delete(dedicated.connection(), name, false).await?;
        }
        Ok(Released::Gone)
    }
}

/// Removes the record of this owner; tells why the queue must stay if another owner is left, or may be.
async fn still_owned(
    connection: &Connection,
    queue: &QueueName,
    owner: &str,
) -> lapin::Result<Option<String>> {
    let (Some(name), Some(exchange), Ok(key)) = (
        queue_name(queue),
        queue_name(&owners(queue)),
        ShortString::try_new(owner),
    ) else {
        return Ok(Some(format!(
            "the names are too long to tell who else owns {queue}"
        )));
    };
    let channel = topology::channel(connection).await?;
    let unbinding = channel.queue_unbind(name, exchange, key, FieldTable::default());
    if let Err(error) = unbinding.await {
        match refusal(&error) {
            Some((Refusal::NotFound, _)) => {}
            Some((Refusal::Access, reason)) => return Ok(Some(untold(queue, &reason))),
            _ => return Err(error),
        }
    }
    others_own(connection, queue).await
}

fn untold(queue: &QueueName, reason: &str) -> String {
    format!("it cannot be told who else owns {queue}: {reason}")
}

/// Deletes the record if nobody is left in it; tells why the queue must stay otherwise.
async fn others_own(connection: &Connection, queue: &QueueName) -> lapin::Result<Option<String>> {
    let Some(exchange) = queue_name(&owners(queue)) else {
        return Ok(Some(untold(queue, "the name is too long")));
    };
    let channel = topology::channel(connection).await?;
    let options = ExchangeDeleteOptions {
        if_unused: true,
        ..ExchangeDeleteOptions::default()
    };
    match channel.exchange_delete(exchange, options).await {
        Ok(()) => Ok(None),
        Err(error) => match refusal(&error) {
            Some((Refusal::NotFound, _)) => Ok(None),
            Some((Refusal::Precondition, _)) => {
                Ok(Some(format!("another cluster or namespace uses {queue}")))
            }
            Some((Refusal::Access, reason)) => Ok(Some(untold(queue, &reason))),
            _ => Err(error),
        },
    }
}

/// Delay queues go away by themselves or stay, see `delay`; most of the possible ones do not exist.
async fn existing_delay_queues(connection: &Connection, queue: &QueueName) -> lapin::Result<Vec<QueueName>> {
    let mut existing = Vec::new();
    for delaying in STEPS.map(|step| delay_queue(queue, step)) {
        let Some(name) = queue_name(&delaying) else {
            continue;
        };
        if topology::look_hard(connection, &name).await?.is_some() {
            existing.push(delaying);
        }
    }
    Ok(existing)
}
