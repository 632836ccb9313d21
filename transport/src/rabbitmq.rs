//! RabbitMQ, over AMQP 0-9-1: classic and quorum queues, RabbitMQ 3.10 and newer.
//!
//! What it is: the transport of most installations, with the topology of contract data-plane §4. What it is not: it
//! uses no management API and no plugins, and it changes no queue that it did not create, besides adding a binding.
//!
//! Start reading at [`RabbitMqTransport::connect`], then `link` (a connection that comes back), `publisher` (confirms)
//! `session` (credit) and `clerk` (acknowledgements).
//!
//! # How it works
//!
//! There are two connections, so that a broker short of memory, which stops reading from publishers, still gets
//! acknowledgements. Each is replaced when it is lost, for ever, with growing and random waits; [`state`] tells how
//! they are. A lost connection makes the receipts of its deliveries stale (the broker delivers them again) and the
//! publishes on it unavailable (repeat them with the same id).
//!
//! *Publishing.* One channel with confirms, any number of messages under way. The routing key is the actor's name; what
//! is unroutable is sent again straight to the queue through the default exchange, and only then called so. While the
//! broker holds publishers up (memory or disk alarm), publishes wait.
//!
//! *Consuming.* One channel for each consumer, prefetch equal to what the caller can hold. Acknowledgements are sent
//! together where they are contiguous. A settlement resolves when its frame has been written to the socket; AMQP does
//! not confirm acknowledgements, so a connection that is lost right then delivers the message once more.
//!
//! *Delays.* A message that is to come back later waits in a delay queue `<queue>.delay-<milliseconds>`, outside of
//! anybody's prefetch. Should it be impossible to put it there, the delivery is held in this process for as long and
//! then given back. Delays are rounded up to the next of forty steps between 100 ms and a day. A classic queue hands an
//! expired message over without waiting for the disk, so a crash of the broker in that very moment can lose it; where
//! quorum queues are created the delay queues are quorum queues, which hand over at least once.
//!
//! *Counting deliveries.* Quorum queues count; a message that went through a delay queue carries its count in the
//! header `x-asya-deliveries`. For classic queues the count is exact for what the same process gives back, and a lower
//! bound of 2 for what others did.
//!
//! # Logs of the client library
//!
//! `lapin` logs every closed channel as an error, and messages that come back with their bodies. All of that is
//! reported here by other means: programs should turn the target `lapin` off.
//!
//! [`state`]: RabbitMqTransport::state

use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;

use self::consumer::RabbitConsumer;
use self::counters::Counting;
use self::link::{Link, Phase};
use self::mailbox::Mailbox;
use self::memory::Memory;
use self::message::Message;
use self::publisher::Publisher;
use self::pump::Pump;
use self::receipt::Office;
use self::registry::Registry;
use self::settings::Settings;
use crate::{Administration, ConsumeError, Consumer, Outgoing, PublishError, QueueName, Transport};

mod administration;
mod backoff;
mod clerk;
mod consumer;
mod counters;
mod deck;
mod delay;
mod dial;
mod error;
mod feeds;
mod flight;
mod keeper;
mod ledger;
mod link;
mod mailbox;
mod memory;
mod message;
mod options;
mod order;
mod publisher;
mod pump;
mod receipt;
mod registry;
mod route;
mod session;
mod settings;
mod topology;

pub use counters::Counters;
pub use error::{ConnectError, RabbitError};
pub use keeper::{RabbitMqKeeper, Wanted};
pub use options::{
    Address, AddressError, Backoff, ClientCertificate, QueueOptions, RabbitMqOptions, TlsFiles,
};
pub use settings::QueueArguments;

/// A RabbitMQ broker. Clones share their connections, which close when the last clone, consumer and receipt is gone.
#[derive(Debug, Clone)]
pub struct RabbitMqTransport {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Arc<Settings>,
    consuming: Link,
    publishing: Link,
    office: Office,
    registry: Arc<Registry>,
    counting: Arc<Counting>,
}

/// How the connections are, for health endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BrokerState {
    /// Both work.
    Connected,
    /// Messages are delivered, but publishes wait because the broker is short of memory or disk.
    Blocked {
        /// Since when.
        since: Instant,
        /// What the broker said.
        reason: String,
    },
    /// At least one is lost and being re-established.
    Reconnecting {
        /// Since when.
        since: Instant,
        /// What went wrong last.
        reason: String,
    },
}

impl RabbitMqTransport {
    /// Connects, and makes sure of the exchange. Needs a Tokio runtime, in which tasks of the transport run.
    ///
    /// While nobody answers it keeps trying for as long as
    /// [`connect_patience`](RabbitMqOptions::connect_patience) allows, and logs why. Drop the future to give up.
    ///
    /// # Errors
    /// When trying again is of no use before somebody has changed something: see [`ConnectError`].
    pub async fn connect(options: RabbitMqOptions) -> Result<Self, ConnectError> {
        let settings = Arc::new(Settings::check(options)?);
        let counting = Arc::new(Counting::default());
        let open = |purpose| Link::open(Arc::clone(&settings), purpose, Arc::clone(&counting));
        let consuming = open("consuming").await?;
        let publishing = open("publishing").await?;
        let office = Office {
            publisher: Publisher::start(Arc::clone(&settings), publishing.watch(), Arc::clone(&counting)),
            memory: Arc::new(Memory::default()),
        };
        let registry = Arc::new(Registry::default());
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                consuming,
                publishing,
                office,
                registry,
                counting,
            }),
        })
    }

    /// How the connections are now.
    #[must_use]
    pub fn state(&self) -> BrokerState {
        for link in [&self.inner.consuming, &self.inner.publishing] {
            if let Phase::Down(trouble) = link.phase() {
                let (since, reason) = (trouble.since, trouble.reason.clone());
                return BrokerState::Reconnecting { since, reason };
            }
        }
        if let Phase::Blocked(_, trouble) = self.inner.publishing.phase() {
            let (since, reason) = (trouble.since, trouble.reason.clone());
            return BrokerState::Blocked { since, reason };
        }
        BrokerState::Connected
    }

    /// What has been counted since [`connect`](Self::connect). Cheap: reads a few atomics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.inner.counting.read()
    }
}

impl Transport for RabbitMqTransport {
    fn name(&self) -> &'static str {
        "rabbitmq"
    }

    fn max_message_size(&self) -> Option<usize> {
        Some(self.inner.settings.max_message_size())
    }

    fn consume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Box<dyn Consumer>, ConsumeError>> {
        Box::pin(async move {
            let mailbox = Arc::new(Mailbox::default());
            let pump = Pump {
                queue: queue.clone(),
                settings: Arc::clone(&self.inner.settings),
                link: self.inner.consuming.watch(),
                mailbox: Arc::clone(&mailbox),
                office: self.inner.office.clone(),
                registry: Arc::clone(&self.inner.registry),
                counting: Arc::clone(&self.inner.counting),
            };
            tokio::spawn(pump.run());
            Ok(Box::new(RabbitConsumer::new(mailbox)) as Box<dyn Consumer>)
        })
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'static, Result<(), PublishError>> {
        let delay = message.delay;
        self.inner.office.publisher.publish(Message::from(message), delay)
    }

    fn administration(&self) -> &dyn Administration {
        self
    }
}
