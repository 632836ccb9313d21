//! The embedded queue: durable, in one SQLite file, shared by any number of processes on one machine.
//!
//! What it is: the transport of `asya up` and of every test that needs a real broker without installing one. What it
//! is not: a network service. All processes must see the same local disk, since SQLite's write-ahead log and the
//! lock files need one kernel; a directory on NFS is not supported.
//!
//! Start reading at [`LocalTransport::open`], then `writer` (the one thread that writes), then `store` (the SQL).
//!
//! # How it works
//!
//! A queue directory holds `queue.db` (with its `-wal` and `-shm` companions) and `owners/<uuid>.lock`. Each opened
//! transport has one thread with one connection. Publishes, settlements and claims reach it over a channel; it
//! takes what is there (up to 512 requests or 16 MiB), does all of it in one transaction and then answers. The
//! busier it is, the more requests share one commit. A consumer that finds nothing waits with that thread and is
//! served inside the very transaction that brings its message; a message published by another process is noticed
//! within about 25 ms.
//!
//! Messages of one queue are handed out in the order of publication. One that comes back (retry, lost consumer)
//! takes its old place, ahead of what was published after it; one that is due after a delay likewise. So a caller that
//! gives messages back at once, over and over, sees the same ones again first: retry with a delay. A single `receive`
//! hands out at most about 16 MiB (or one message), whatever the credit.
//!
//! # Why leases end with their owner and not with time
//!
//! A handler may run for seconds or for hours, and no lease time suits both: too short and a slow step runs twice,
//! too long and a crash blocks its messages. Here a lease lives as long as the process that took it. Each opened
//! transport keeps an exclusive lock (`flock`) on a file of its own; the operating system ends the lock with the
//! process, however that dies. Every transport looks for such files every 500 ms and when it opens, and gives the
//! leases of the dead back at once, their delivery counts kept. A process that is merely stopped or slow loses
//! nothing.
//!
//! # Why SQLite
//!
//! Measured on a virtual machine with two cores, bodies of 1 KiB, batches of 100, hops (claim, publish, ack) per
//! second: SQLite 55–57 k with `synchronous=NORMAL` and 45–49 k with `FULL`; fjall 125–134 k with fsync; redb
//! 84–92 k. The other two are faster, but only one process may open their files, while here a gateway, a runner and
//! a curious developer share one; the file can be inspected and mended with a tool that everybody has; and SQLite is
//! linked once for this queue and the gateway's tables. `cargo run --release -p asya-transport --example store_bench`
//! repeats the SQLite part, and measures this transport as a whole: with 100 messages in flight 11–25 k hops, or
//! 23–39 k times publish, claim and ack, per second, in two runs on two cores that were busy with other work as well.
//!
//! # Looking inside
//!
//! Safe at any time, also while the queue is in use:
//!
//! ```text
//! sqlite3 queue.db 'SELECT * FROM depths'
//! sqlite3 queue.db "SELECT id, state, deliveries, message_id, substr(body, 1, 80) FROM contents WHERE queue = 'asya-x'"
//! ```
//!
//! Space of consumed messages is used again, but the file does not shrink by itself; `VACUUM` while nothing runs does
//! that.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread::JoinHandle;

use futures::future::BoxFuture;

use self::command::{Change, Claim, Command, Mailbox};
use self::counting::Counter;
use crate::{AdminError, Administration, BoxError, ConsumeError, Consumer, DeleteMode, Delivery, Depth};
use crate::{Outgoing, PublishError, QueueName, Transport};

mod command;
mod counting;
mod error;
mod options;
mod owner;
mod reaper;
mod receipt;
mod schema;
mod store;
mod waiting;
mod writer;

pub use error::{OpenError, StoreError};
pub use options::{Durability, LocalOptions};

/// The queues of one directory. Clones share one writer thread.
///
/// Dropping the last clone finishes what was asked before, gives every unsettled message back and waits for the
/// thread to end. Consumers and receipts do not keep it open: afterwards a `receive` is unavailable and a receipt stale.
#[derive(Debug, Clone)]
pub struct LocalTransport {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    mailbox: Arc<Mailbox>,
    counter: Counter,
    max_message_size: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LocalTransport {
    /// Opens the queues in `directory`, creating what is missing. Blocks for some milliseconds.
    ///
    /// # Errors
    /// When the directory cannot be written, the file is not a queue file of this or an older version, or the limits
    /// in `options` are impossible. See [`OpenError`].
    pub fn open(directory: &Path, options: &LocalOptions) -> Result<Self, OpenError> {
        if options.max_message_size > LocalOptions::LARGEST_MESSAGE {
            let (asked, largest) = (options.max_message_size, LocalOptions::LARGEST_MESSAGE);
            return Err(OpenError::MessageSize { asked, largest });
        }
        let not_writable = |path: &Path| {
            let path = path.to_owned();
            |source: std::io::Error| OpenError::NotWritable {
                path,
                source: source.into(),
            }
        };
        fs::create_dir_all(directory).map_err(not_writable(directory))?;
        let path = directory.join("queue.db");
        let mut connection = schema::open_writer(&path, options)?;
        let owners = directory.join("owners");
        let owner = owner::Owner::register(&owners).map_err(not_writable(&owners))?;
        reaper::give_back_leases_of_the_unknown(&mut connection, &owner)
            .map_err(|error| OpenError::from_sqlite(&path, error))?;
        let counter = Counter::new(schema::open_reader(&path)?);

        let (sender, commands) = mpsc::channel();
        let mailbox = Arc::new(Mailbox {
            commands: sender,
            ended: OnceLock::new(),
            path: Arc::new(path),
        });
        let thread =
            writer::start(connection, owner, commands, Arc::clone(&mailbox)).map_err(OpenError::Thread)?;
        let max_message_size = options.max_message_size;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            inner: Arc::new(Inner {
                mailbox,
                counter,
                max_message_size,
                thread,
            }),
        })
    }

    /// The counts of all queues, in name order, by one query beside the writer thread. Needs a Tokio runtime.
    pub async fn depths(&self) -> Result<Vec<(QueueName, Depth)>, AdminError> {
        self.inner.count(store::depths).await
    }
}

impl Inner {
    async fn count<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, AdminError> {
        self.counter.run(query).await.map_err(|cause| match cause {
            counting::CountError::Sqlite(cause) => {
                AdminError::Unavailable(StoreError::from_sqlite(&self.mailbox.path, cause).boxed())
            }
            counting::CountError::Task(cause) => AdminError::Unavailable(cause.into()),
        })
    }

    /// Asks the writer thread for an administrative change.
    fn administrate(
        &self,
        change: impl FnOnce(command::Reply<Result<(), AdminError>>) -> Change,
    ) -> BoxFuture<'static, Result<(), AdminError>> {
        let answer = self.mailbox.ask(|reply| Command::Change(change(reply)));
        let mailbox = Arc::clone(&self.mailbox);
        Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(AdminError::Unavailable(mailbox.cause().boxed())))
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _already_ended = self.mailbox.commands.send(Command::Close);
        let thread = self
            .thread
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // The last clone may be dropped by a waker that runs on the writer thread itself, which cannot wait for itself.
        let ours = |thread: &JoinHandle<()>| thread.thread().id() == std::thread::current().id();
        if let Some(thread) = thread.filter(|thread| !ours(thread)) {
            // The thread catches its own panics and reports them to whoever asks something.
            let _reported = thread.join();
        }
    }
}

impl Transport for LocalTransport {
    fn name(&self) -> &'static str {
        "local"
    }

    fn max_message_size(&self) -> Option<usize> {
        Some(self.inner.max_message_size)
    }

    fn consume<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Box<dyn Consumer>, ConsumeError>> {
        let consumer = LocalConsumer {
            queue: queue.clone(),
            mailbox: Arc::clone(&self.inner.mailbox),
        };
        Box::pin(std::future::ready(Ok(Box::new(consumer) as Box<dyn Consumer>)))
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'static, Result<(), PublishError>> {
        let (size, limit) = (message.body.len(), self.inner.max_message_size);
        if size > limit {
            return Box::pin(std::future::ready(Err(PublishError::TooLarge { size, limit })));
        }
        let mailbox = Arc::clone(&self.inner.mailbox);
        let answer = mailbox.ask(|reply| Command::Change(Change::Publish { message, reply }));
        Box::pin(async move {
            answer
                .await
                .unwrap_or_else(|_| Err(PublishError::Unavailable(mailbox.cause().boxed())))
        })
    }

    fn administration(&self) -> &dyn Administration {
        self
    }
}

impl Administration for LocalTransport {
    fn declare<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<(), AdminError>> {
        self.inner.administrate(|reply| Change::Declare {
            queue: queue.clone(),
            reply,
        })
    }

    fn delete<'a>(&'a self, queue: &'a QueueName, mode: DeleteMode) -> BoxFuture<'a, Result<(), AdminError>> {
        self.inner.administrate(|reply| Change::Delete {
            queue: queue.clone(),
            mode,
            reply,
        })
    }

    fn depth<'a>(&'a self, queue: &'a QueueName) -> BoxFuture<'a, Result<Depth, AdminError>> {
        Box::pin(async move {
            let name = queue.clone();
            let depth = self
                .inner
                .count(move |connection| store::depth(connection, &name))
                .await?;
            depth.ok_or_else(|| AdminError::NoSuchQueue(queue.clone()))
        })
    }

    /// Every queue of the directory: it belongs to one installation.
    fn list(&self) -> BoxFuture<'_, Result<Vec<QueueName>, AdminError>> {
        Box::pin(self.inner.count(store::list))
    }
}

#[derive(Debug)]
struct LocalConsumer {
    queue: QueueName,
    mailbox: Arc<Mailbox>,
}

impl Consumer for LocalConsumer {
    fn receive(&mut self, credit: usize) -> BoxFuture<'_, Result<Vec<Delivery>, ConsumeError>> {
        Box::pin(async move {
            let queue = self.queue.clone();
            let answer = self.mailbox.ask(|reply| {
                Command::Claim(Claim {
                    queue,
                    credit,
                    found: None,
                    reply,
                })
            });
            answer
                .await
                .unwrap_or_else(|_| Err(ConsumeError::Unavailable(self.mailbox.cause().boxed())))
        })
    }
}
