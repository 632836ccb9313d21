//! The node, its queues, and the speed at which one of them fills.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use asya_tests::rabbitmq::Broker;
use asya_transport::QueueName;
use futures::future::try_join_all;
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};

use crate::meter::as_f64;
use crate::stage::envelope;

/// The actor whose queue is emptied.
pub const STEP: &str = "work";
/// The actor whose queue fills.
pub const NEXT: &str = "happy-end";

const ERRORS: &str = "error-end";
/// The exchange that everybody publishes to.
pub(super) const EXCHANGE: &str = "asya";

/// Publishes awaited together when a queue is filled.
const FILL: u64 = 1024;
/// Pause between two looks at a queue: often enough to time a stretch of a second, too seldom to be felt.
const LOOK: Duration = Duration::from_millis(20);
/// Longest time in which a queue that should fill may stay as it is.
const STANDSTILL: Duration = Duration::from_secs(30);

/// What the broker keeps messages in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A classic queue.
    Classic,
    /// A quorum queue, here of one member.
    Quorum,
}

/// A running node; stopped when dropped.
pub struct Node {
    broker: Broker,
    vhost: String,
    // Closes with its last user.
    _connection: Connection,
    channel: Channel,
}

/// The name of the queue of `actor`.
#[must_use]
pub fn address_of(actor: &str) -> String {
    QueueName::for_actor(actor).to_string()
}

impl Node {
    /// Why there can be none on this machine.
    #[must_use]
    pub fn missing() -> Option<String> {
        let installed = Broker::is_installed();
        (!installed).then(|| "RabbitMQ is not installed: `make deps-test` does that".into())
    }

    /// Starts one, with an exchange and no queues.
    pub async fn start() -> Result<Self> {
        let broker = tokio::task::spawn_blocking(|| Broker::start(None)).await?;
        let vhost = broker.vhost();
        let connection = connect(&url(&broker, &vhost)).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                EXCHANGE.into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await?;
        Ok(Self {
            broker,
            vhost,
            _connection: connection,
            channel,
        })
    }

    /// Where it is, with the credentials of a throwaway node.
    #[must_use]
    pub fn url(&self) -> String {
        url(&self.broker, &self.vhost)
    }

    /// One more connection to it.
    pub async fn connect(&self) -> Result<Connection> {
        connect(&self.url()).await
    }

    /// Makes all queues anew, and puts `count` messages of `size` bytes into the one that is to be emptied.
    pub async fn fill(&self, kind: Kind, count: u64, size: usize) -> Result<()> {
        self.lay(kind).await?;
        for first in (0..count).step_by(usize::try_from(FILL)?) {
            let numbers = first..count.min(first + FILL);
            let sent = numbers.map(async |number| {
                let body = envelope(number, r#""work""#, size);
                self.publish(&number.to_string(), &body).await
            });
            try_join_all(sent).await?;
        }
        let stored = self.depth(STEP).await?;
        ensure!(stored == count, "{stored} of {count} messages are in the queue");
        Ok(())
    }

    /// Makes all queues anew, empty.
    pub async fn lay(&self, kind: Kind) -> Result<()> {
        for actor in [STEP, NEXT, ERRORS] {
            let name: ShortString = address_of(actor).into();
            self.channel
                .queue_delete(name.clone(), QueueDeleteOptions::default())
                .await?;
            let options = QueueDeclareOptions {
                durable: true,
                ..QueueDeclareOptions::default()
            };
            let mut arguments = FieldTable::default();
            if kind == Kind::Quorum {
                arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            }
            self.channel
                .queue_declare(name.clone(), options, arguments)
                .await?;
            let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
            self.channel
                .queue_bind(name, EXCHANGE.into(), actor.into(), options, arguments)
                .await?;
        }
        Ok(())
    }

    /// Puts one message into the queue that is to be emptied; returns once it is confirmed.
    pub async fn publish(&self, message_id: &str, body: &[u8]) -> Result<()> {
        let options = BasicPublishOptions::default();
        let (exchange, key) = (ShortString::default(), address_of(STEP).into());
        let publishing = self
            .channel
            .basic_publish(exchange, key, options, body, persistent(message_id));
        let confirmation = publishing.await?.await?;
        ensure!(confirmation.is_ack(), "the broker refused a message");
        Ok(())
    }

    /// Messages that wait in the queue of `actor`; those in somebody's hands do not count.
    pub async fn depth(&self, actor: &str) -> Result<u64> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = address_of(actor).into();
        let queue = self.channel.queue_declare(name, options, FieldTable::default());
        Ok(u64::from(queue.await?.message_count()))
    }

    /// Messages per second, from the time when at least `from` had arrived until at least `to` have.
    ///
    /// Beginning and end of a run stay outside, so that what one party does in the time before its first message, or
    /// for its last, does not count.
    pub async fn rate(&self, from: u64, to: u64) -> Result<f64> {
        let (begun, first) = self.reached(from).await?;
        let (ended, last) = self.reached(to).await?;
        ensure!(last > first, "all {to} messages arrived between two looks");
        Ok(as_f64(last - first) / ended.duration_since(begun).as_secs_f64())
    }

    /// Waits until `count` messages have arrived; returns when, and how many they are then.
    pub async fn reached(&self, count: u64) -> Result<(Instant, u64)> {
        let (mut moved, mut seen) = (Instant::now(), 0);
        loop {
            let asked = Instant::now();
            let depth = self.depth(NEXT).await?;
            // The broker counted somewhere between question and answer.
            let now = asked + asked.elapsed() / 2;
            if depth >= count {
                return Ok((now, depth));
            }
            if depth > seen {
                (moved, seen) = (now, depth);
            }
            ensure!(
                moved.elapsed() < STANDSTILL,
                "only {depth} of {count} messages arrived, and none for {STANDSTILL:?}"
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether `count` messages were moved, each once, and nothing is left or went wrong.
    pub async fn check_moved(&self, count: u64) -> Result<()> {
        let (left, arrived) = (self.depth(STEP).await?, self.depth(NEXT).await?);
        let failed = self.depth(ERRORS).await?;
        ensure!(
            (left, arrived, failed) == (0, count, 0),
            "of {count} messages {left} are left, {arrived} arrived and {failed} failed"
        );
        Ok(())
    }
}

fn url(broker: &Broker, vhost: &str) -> String {
    format!("amqp://guest:guest@127.0.0.1:{}/{vhost}", broker.port)
}

pub(super) async fn connect(url: &str) -> Result<Connection> {
    Connection::connect(url, ConnectionProperties::default())
        .await
        .context("cannot connect to the node")
}

/// The properties that every party gives its messages.
pub(super) fn persistent(message_id: &str) -> BasicProperties {
    BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_message_id(message_id.into())
}
