//! Deleting a queue that nobody needs, without losing what is stored in the same moment.
//!
//! Classic queues have conditions for that: `if-empty` and `if-unused` are checked by the broker together with the
//! deletion. Quorum queues do not know them. There the queue gets an exclusive consumer first, which the broker
//! grants only while there is no other, and which may hold any number of messages. What it is sent in the first moment
//! goes back, and the queue stays. A quorum queue sends what it stores to that consumer in the same step in which it
//! stores it, so whatever else came in before the deletion arrives here, and goes back into the queue, made anew. (A
//! message of a delay queue goes to the queue that it waited for.)
//!
//! Not seen from here are messages that somebody took and still holds without being a consumer any more: a sidecar
//! that ends does so. Whoever lets a queue be vacated has made sure that there are none.
//!
//! One gap is RabbitMQ's own, for queues of both kinds: a message that it has routed to a queue, but not stored there
//! yet, when the queue is deleted is confirmed to its publisher and dropped. Nobody can see such a message.

use futures::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{Confirmation, Consumer, ErrorKind};

use super::connection::Dedicated;
use super::{
    Arc, AtWork, Connection, Duration, Inner, OPERATION, QueueName, Refusal, ShortString, queue_name,
    timeout, topology,
};
use crate::rabbitmq::error::refusal;

/// How long the broker may take to tell a consumer that its queue is gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long a message that is stored already may take to come.
const FIRST: Duration = Duration::from_millis(200);

/// How often caught messages are tried to be put back.
const ATTEMPTS: u32 = 5;

/// Where messages go that arrive while their queue is deleted. It is made if it is missing.
#[derive(Debug, Clone)]
pub(super) struct Refuge {
    pub(super) queue: QueueName,
    pub(super) arguments: FieldTable,
}

impl Inner {
    /// Why a queue must stay: what it holds, or who consumes.
    pub(super) async fn in_use(
        &self,
        connection: &Connection,
        queue: &QueueName,
    ) -> lapin::Result<Option<String>> {
        let Some(name) = queue_name(queue) else {
            return Ok(None);
        };
        let counts = topology::look_hard(connection, &name).await?;
        Ok(counts.and_then(|counts| {
            let topology::Counts { ready, consumers } = counts;
            match (ready, consumers) {
                (0, 0) => None,
                (0, _) => Some(format!("{queue} has {}", counted(consumers, "consumer"))),
                _ => Some(format!("{queue} holds {}", counted(ready, "message"))),
            }
        }))
    }

    /// Deletes the queue if it is empty and unused; otherwise tells why not.
    pub(super) async fn vacate(
        self: &Arc<Self>,
        dedicated: &Arc<Dedicated>,
        queue: &QueueName,
        refuge: &Refuge,
    ) -> lapin::Result<Option<String>> {
        let connection = dedicated.connection();
        let Some(name) = queue_name(queue) else {
            return Ok(None);
        };
        if topology::look_hard(connection, &name).await?.is_none() {
            return Ok(None);
        }
        if let Some(reason) = self.in_use(connection, queue).await? {
            return Ok(Some(reason));
        }
        // Quorum queues answer the conditions by closing the whole connection, so this is one of its own.
        let Ok(own) = self.dedicated().await else {
            return Err(closed());
        };
        match topology::delete(own.connection(), name.clone(), true).await {
            Ok(_) => Ok(None),
            Err(error) => match refusal(&error) {
                Some((Refusal::NotFound, _)) => Ok(None),
                Some((Refusal::Precondition, reason)) => {
                    Ok(Some(self.in_use(connection, queue).await?.unwrap_or(reason)))
                }
                Some((Refusal::NotImplemented, _)) => {
                    self.vacate_quorum(dedicated, queue, name, refuge).await
                }
                _ => Err(error),
            },
        }
    }

    async fn vacate_quorum(
        self: &Arc<Self>,
        dedicated: &Arc<Dedicated>,
        queue: &QueueName,
        name: ShortString,
        refuge: &Refuge,
    ) -> lapin::Result<Option<String>> {
        let channel = topology::channel(dedicated.connection()).await?;
        let options = BasicConsumeOptions {
            exclusive: true,
            ..BasicConsumeOptions::default()
        };
        let tag = ShortString::default();
        let consuming = channel.basic_consume(name.clone(), tag, options, FieldTable::default());
        let mut consumer = match consuming.await {
            Ok(consumer) => consumer,
            Err(error) => {
                return match refusal(&error) {
                    Some((Refusal::NotFound, _)) => Ok(None),
                    Some((Refusal::Access, reason)) => Ok(Some(format!("{queue} is in use: {reason}"))),
                    _ => Err(error),
                };
            }
        };
        if let Ok(Some(Ok(_))) = timeout(FIRST, consumer.next()).await {
            // With the channel goes everything back that it has.
            channel.close(200, "the queue is in use".into()).await?;
            return Ok(Some(format!("{queue} has just got a message")));
        }
        // From here on nobody may interrupt: what is caught must be put back. The task keeps the connection, and with
        // it the lock, also when whoever asked for this has stopped waiting.
        let (inner, dedicated) = (Arc::clone(self), Arc::clone(dedicated));
        let (queue, refuge) = (queue.clone(), refuge.clone());
        let at_work = AtWork::begin(self);
        let deleting = tokio::spawn(async move {
            let _at_work = at_work;
            // A channel ends when it is dropped.
            let _open = channel;
            inner
                .delete_and_put_back(&dedicated, &queue, name, consumer, &refuge)
                .await
        });
        deleting.await.unwrap_or_else(|_| Err(closed()))
    }

    async fn delete_and_put_back(
        &self,
        dedicated: &Dedicated,
        queue: &QueueName,
        name: ShortString,
        mut consumer: Consumer,
        refuge: &Refuge,
    ) -> lapin::Result<Option<String>> {
        let deleting = topology::delete(dedicated.connection(), name, false);
        let deleted = timeout(OPERATION, deleting)
            .await
            .unwrap_or_else(|_| Err(closed()));
        let mut caught = Vec::new();
        // Ends when the broker says that the queue is gone; until then it may still send.
        while let Ok(Some(Ok(delivery))) = timeout(FAREWELL, consumer.next()).await {
            caught.push(delivery);
        }
        if caught.is_empty() {
            return deleted.map(|_| None);
        }
        let messages = counted(caught.len() as u64, "message");
        self.put_back(refuge, caught).await?;
        Ok(Some(format!(
            "{messages} came to {queue} while it was being deleted, so it stays"
        )))
    }

    /// Makes the queue again and stores the messages, as they came.
    async fn put_back(&self, refuge: &Refuge, mut caught: Vec<Delivery>) -> lapin::Result<()> {
        let total = caught.len();
        for attempt in 1.. {
            let Err(error) = self.put_back_once(refuge, &mut caught).await else {
                return Ok(());
            };
            let left = caught.len();
            if attempt == ATTEMPTS {
                tracing::error!(queue = %refuge.queue, total, left, %error, "messages that came during the deletion of their queue are lost");
                return Err(error);
            }
            tracing::warn!(queue = %refuge.queue, total, left, %error, "cannot put messages back, trying again");
            tokio::time::sleep(Duration::from_millis(200) * attempt).await;
        }
        Ok(())
    }

    /// Takes out of `caught` what the broker has confirmed.
    async fn put_back_once(&self, refuge: &Refuge, caught: &mut Vec<Delivery>) -> lapin::Result<()> {
        let own = self.dedicated().await.map_err(|_| closed())?;
        let Some(name) = queue_name(&refuge.queue) else {
            return Ok(());
        };
        topology::create(own.connection(), &name, &refuge.arguments).await?;
        let channel = topology::channel(own.connection()).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        while let Some(delivery) = caught.first() {
            let options = BasicPublishOptions {
                mandatory: true,
                ..BasicPublishOptions::default()
            };
            let publishing = channel.basic_publish(
                ShortString::default(),
                name.clone(),
                options,
                &delivery.data,
                delivery.properties.clone(),
            );
            match publishing.await?.await? {
                Confirmation::Ack(None) => drop(caught.remove(0)),
                Confirmation::Ack(Some(_)) | Confirmation::Nack(_) | Confirmation::NotRequested => {
                    return Err(closed());
                }
            }
        }
        Ok(())
    }
}

fn closed() -> lapin::Error {
    ErrorKind::InvalidConnectionState(lapin::ConnectionState::Closed).into()
}

fn counted(count: impl Into<u64> + Copy, what: &str) -> String {
    let count: u64 = count.into();
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
