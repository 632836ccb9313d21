//! Keeping queues for an operator: one connection that is opened when it is needed, and closed when it is not.
//!
//! What it is: declaring, comparing, binding, recording owners, counting, and deleting what nobody needs. What it is
//! not: it neither publishes nor consumes for anybody. The transport's own [`Administration`](crate::Administration)
//! does what a sidecar needs; this knows about owners.
//!
//! # Owners
//!
//! Each owned queue has a durable, internal, direct exchange `asya-owners.<queue>`, to which it is bound once for each
//! owner, with the owner as the routing key. To give a queue up is to remove one's own binding and to delete that
//! exchange *if unused*: the broker refuses when another owner is left, so the last one is known for certain.
//!
//! While a queue is made or given up, the exclusive queue `asya-owners.<queue>.lock` exists. The broker lets only one
//! connection have it and removes it when that connection ends, so that what another cluster does comes before or
//! after, and a process that dies holds nobody up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use lapin::types::ShortString;
use lapin::{Connection, ErrorKind};
use tokio::sync::watch;
use tokio::time::timeout;

use self::connection::Opened;
use self::release::Scope;
use super::RabbitMqOptions;
use super::dial::{DialError, dial};
use super::error::{ConnectError, RabbitError, Refusal, is};
use super::settings::{QueueArguments, Settings, queue_name};
use super::topology;
use crate::QueueName;
use crate::keeping::{Ensured, KeepError, QueueOwner, ReleaseMode, Released};

mod connection;
mod ensure;
mod lock;
mod release;
mod vacate;

/// How long any operation may take, connecting apart.
const OPERATION: Duration = Duration::from_secs(20);

/// How long a failed attempt to connect answers for all who ask: they need not wait for the same timeout in turn.
const FAILED: Duration = Duration::from_secs(2);

/// How long a connection stays that nobody uses.
const IDLE: Duration = Duration::from_mins(3);

/// How a queue is made sure of.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Who uses it from now on.
    pub owner: QueueOwner,
    /// What a queue that is made looks like, and an existing one is compared with. Those of
    /// [`QueueOptions`](super::QueueOptions) are not used here.
    pub arguments: QueueArguments,
    /// Whether a missing queue is made.
    pub create: bool,
    /// Whether its dead-letter queue (`<queue>-dlq`) is made as well.
    pub dead_letter: bool,
    /// Whether a queue with other arguments is made anew while it is empty, unused and nobody else's.
    pub recreate: bool,
}

/// Keeps the queues of one broker and user. Clones share their connection.
#[derive(Debug, Clone)]
pub struct RabbitMqKeeper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    opened: tokio::sync::Mutex<Opened>,
    used: Mutex<Instant>,
    busy: Mutex<HashMap<QueueName, Weak<tokio::sync::Mutex<()>>>>,
    /// How much is being done, also for callers that have stopped waiting.
    at_work: watch::Sender<usize>,
}

impl RabbitMqKeeper {
    /// Checks the options and connects to nothing yet.
    ///
    /// # Errors
    /// When a name or an argument cannot be sent over AMQP.
    pub fn new(options: RabbitMqOptions) -> Result<Self, ConnectError> {
        let inner = Inner {
            settings: Settings::check(options)?,
            opened: tokio::sync::Mutex::default(),
            used: Mutex::new(Instant::now()),
            busy: Mutex::default(),
            at_work: watch::Sender::new(0),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Makes sure of the exchange, the queue, its dead letters, its bindings (under the actor's name and under its
    /// own), and of the owner's record. Never declares an existing queue with other arguments.
    pub async fn ensure(&self, queue: &QueueName, wanted: &Wanted) -> Result<Ensured, KeepError> {
        let (inner, queue, wanted) = (Arc::clone(&self.inner), queue.clone(), wanted.clone());
        self.finish(async move { inner.ensure(&queue, &wanted).await })
            .await
    }

    /// How many messages are ready; `None` if there is no such queue.
    pub async fn ready(&self, queue: &QueueName) -> Result<Option<u64>, KeepError> {
        let (inner, queue) = (Arc::clone(&self.inner), queue.clone());
        let name = named(&queue)?;
        let looking = async move {
            inner
                .with_connection(|connection| {
                    let name = name.clone();
                    Box::pin(async move { topology::look_hard(&connection, &name).await })
                })
                .await
        };
        Ok(self.finish(looking).await?.map(|counts| counts.ready.into()))
    }

    /// Gives the queue up for `owner`, and deletes it and its delay queues if `mode` allows and nobody else owns it. No
    /// stored message is lost by that unless `mode` is [`ReleaseMode::Always`]. With `dead_letter` its dead-letter queue
    /// goes too, unless somebody is recorded there as an owner: then it is an actor's own queue, called like this.
    ///
    /// AMQP tells nothing of messages that somebody has taken without being a consumer any more. Whoever calls this with
    /// [`ReleaseMode::IfEmpty`] has made sure that there are none.
    ///
    /// `arguments` are those with which the queue is made again should a message arrive in the same moment.
    pub async fn release(
        &self,
        queue: &QueueName,
        owner: &QueueOwner,
        mode: ReleaseMode,
        arguments: &QueueArguments,
        dead_letter: bool,
    ) -> Result<Released, KeepError> {
        let (inner, queue, owner) = (Arc::clone(&self.inner), queue.clone(), owner.clone());
        let arguments = arguments.clone();
        let scope = if dead_letter {
            Scope::Everything
        } else {
            Scope::QueueAlone
        };
        self.finish(async move { inner.release(&queue, &owner, mode, &arguments, scope).await })
            .await
    }

    /// Waits until nothing is being done any more, also nothing whose caller has stopped waiting: a process that ends
    /// before may take a message along that came while its queue was being deleted.
    pub async fn settled(&self) {
        // The sender is here, so that this does not fail.
        drop(self.inner.at_work.subscribe().wait_for(|works| *works == 0).await);
    }

    /// Runs `work` to its end, also when the caller stops waiting for it: half a change would leave a lock behind.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, KeepError>> + Send + 'static,
    ) -> Result<T, KeepError> {
        let at_work = AtWork::begin(&self.inner);
        let work = async move {
            let _at_work = at_work;
            work.await
        };
        match tokio::spawn(work).await {
            Ok(result) => result,
            Err(ended) => Err(KeepError::Refused(format!(
                "the work at the broker ended early: {ended}"
            ))),
        }
    }
}

/// Counts as work of a keeper while it lives.
struct AtWork(Arc<Inner>);

impl AtWork {
    fn begin(inner: &Arc<Inner>) -> Self {
        inner.at_work.send_modify(|works| *works += 1);
        Self(Arc::clone(inner))
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.at_work.send_modify(|works| *works -= 1);
    }
}

impl Inner {
    /// One change of a queue at a time in this process; [`lock`] sees to the others.
    fn turn(&self, queue: &QueueName) -> Arc<tokio::sync::Mutex<()>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = busy.get(queue).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        busy.insert(queue.clone(), Arc::downgrade(&turn));
        turn
    }

    fn broker(&self) -> String {
        self.settings.options.address.to_string()
    }

    fn broken(&self, error: lapin::Error) -> KeepError {
        match RabbitError::from(error) {
            RabbitError::Refused(reason) => {
                KeepError::Refused(format!("RabbitMQ at {} refused: {reason}", self.broker()))
            }
            other => KeepError::Refused(format!("RabbitMQ at {}: {other}", self.broker())),
        }
    }
}

fn named(queue: &QueueName) -> Result<ShortString, KeepError> {
    queue_name(queue).ok_or_else(|| {
        KeepError::Refused(format!(
            "{:?} cannot be the name of a queue: it is empty or longer than 255 bytes",
            queue.as_str()
        ))
    })
}

/// Where the owners of a queue are recorded.
fn owners(queue: &QueueName) -> QueueName {
    QueueName::from_full_name(&format!("asya-owners.{queue}"))
}
