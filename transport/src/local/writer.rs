//! The one thread that writes: it gathers what is asked, does it in one transaction, and answers.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tracing::{debug, error, info, warn};

use super::command::{Change, Claim, Command, Mailbox};
use super::error::StoreError;
use super::owner::Owner;
use super::store::{self, Found, Lease, Look};
use super::waiting::Waiting;
use super::{reaper, receipt};
use crate::{ConsumeError, QueueName};

/// Most requests in one transaction.
const BATCH_COUNT: usize = 512;
/// Most bytes of bodies in one transaction, one message aside.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// How often a waiting consumer's file is checked for what other processes wrote.
const FOREIGN_POLL: Duration = Duration::from_millis(25);
/// How often dead owners are looked for.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// How often a batch is tried when another process holds the lock; each time waits about ten seconds.
const BUSY_ATTEMPTS: usize = 2;

/// State of the writer thread.
pub(super) struct Writer {
    connection: Connection,
    owner: Owner,
    commands: Receiver<Command>,
    mailbox: Arc<Mailbox>,
    waiting: Waiting,
    next_lease: i64,
    /// Leases whose return failed, to be tried again.
    owed: Vec<Lease>,
    data_version: i64,
    next_foreign_poll: Instant,
    next_housekeeping: Instant,
}

/// What is done in one transaction: first the changes, then the claims, which see their effect.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    claims: VecDeque<Claim>,
    bytes: usize,
}

impl Batch {
    fn add_change(&mut self, change: Change) {
        self.bytes += change.bytes();
        self.changes.push(change);
    }

    fn len(&self) -> usize {
        self.changes.len() + self.claims.len()
    }

    fn has_room(&self) -> bool {
        self.len() < BATCH_COUNT && self.bytes < BATCH_BYTES
    }

    /// The same work as batches of one.
    fn split(self) -> impl Iterator<Item = Self> {
        let changes = self.changes.into_iter().map(|change| Self {
            changes: vec![change],
            ..Self::default()
        });
        let claims = self.claims.into_iter().map(|claim| Self {
            claims: [claim].into(),
            ..Self::default()
        });
        changes.chain(claims)
    }
}

/// Starts the thread.
pub(super) fn start(
    connection: Connection,
    owner: Owner,
    commands: Receiver<Command>,
    mailbox: Arc<Mailbox>,
) -> std::io::Result<JoinHandle<()>> {
    thread::Builder::new().name("asya-queue".into()).spawn(move || {
        let now = Instant::now();
        let mut writer = Writer {
            connection,
            owner,
            commands,
            mailbox,
            waiting: Waiting::default(),
            next_lease: 0,
            owed: Vec::new(),
            data_version: 0,
            next_foreign_poll: now,
            next_housekeeping: now,
        };
        let mailbox = Arc::clone(&writer.mailbox);
        // The state is given up after a panic; the lock of the owner ends with it, so its leases come back.
        let outcome = catch_unwind(AssertUnwindSafe(|| writer.run()));
        let _first_cause_stays = mailbox.ended.set(match outcome {
            Ok(()) => StoreError::Closed,
            Err(panic) => {
                let message = panic_message(panic.as_ref());
                error!(queue_file = %mailbox.path.display(), "the writer thread of the queue panicked: {message}");
                StoreError::WriterEnded(message.into())
            }
        });
        writer.close();
    })
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

impl Writer {
    fn run(&mut self) {
        let mut open = true;
        while open {
            let mut batch = Batch::default();
            open = self.collect(&mut batch);
            self.housekeeping(&mut batch);
            self.wake_waiting(&mut batch);
            self.work(batch);
        }
    }

    /// Waits for requests and takes what is there. `false` when this was the last batch.
    fn collect(&self, batch: &mut Batch) -> bool {
        let mut next = match self.commands.recv_timeout(self.patience()) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return false,
        };
        while let Some(command) = next {
            match command {
                Command::Change(change) => batch.add_change(change),
                Command::Claim(claim) => batch.claims.push_back(claim),
                Command::Close => return false,
            }
            next = if batch.has_room() {
                self.commands.try_recv().ok()
            } else {
                None
            };
        }
        true
    }

    /// How long to wait for requests before something else is to be done.
    fn patience(&self) -> Duration {
        let now = Instant::now();
        let housekeeping = self.next_housekeeping.saturating_duration_since(now);
        if self.waiting.is_empty() {
            return housekeeping;
        }
        let foreign = self.next_foreign_poll.saturating_duration_since(now);
        let due = self.waiting.next_due().unwrap_or(Duration::MAX);
        housekeeping.min(foreign).min(due)
    }

    /// Every [`HOUSEKEEPING`]: gives back the leases of dead owners, and those whose return failed before.
    fn housekeeping(&mut self, batch: &mut Batch) {
        let now = Instant::now();
        if now < self.next_housekeeping {
            return;
        }
        self.next_housekeeping = now + HOUSEKEEPING;
        for lease in std::mem::take(&mut self.owed) {
            batch.add_change(Change::GiveBack(lease));
        }
        match reaper::give_back_leases_of_the_dead(&mut self.connection, &self.owner) {
            Ok(0) => {}
            Ok(leases) => {
                info!(
                    leases,
                    "messages held by processes that ended are available again"
                );
                let claims = self.waiting.take_all();
                batch.claims.extend(claims);
            }
            Err(cause) => warn!(%cause, "cannot look for processes that ended with messages in hand"),
        }
    }

    /// Adds the waiting consumers that may find something now: before others that came later.
    fn wake_waiting(&mut self, batch: &mut Batch) {
        if self.waiting.is_empty() {
            return;
        }
        let mut awake: Vec<QueueName> = batch
            .changes
            .iter()
            .filter_map(Change::touches)
            .cloned()
            .collect();
        awake.extend(self.waiting.due());
        awake.extend(self.changed_elsewhere());
        for queue in awake {
            for claim in self.waiting.take(&queue).into_iter().rev() {
                batch.claims.push_front(claim);
            }
        }
    }

    /// The queues in which another process may have left something for a waiting consumer.
    fn changed_elsewhere(&mut self) -> Vec<QueueName> {
        let now = Instant::now();
        if now < self.next_foreign_poll {
            return Vec::new();
        }
        self.next_foreign_poll = now + FOREIGN_POLL;
        self.waiting.forget_abandoned();
        let version = self.read_data_version();
        if version == Some(self.data_version) {
            return Vec::new();
        }
        self.data_version = version.unwrap_or(self.data_version);
        let connection = &self.connection;
        self.waiting.look_again(|queue| {
            // What goes wrong here goes wrong again in the claim, which reports it to the consumer.
            store::look(connection, queue).unwrap_or(Look::Worthwhile)
        })
    }

    /// SQLite's counter of commits by other connections; it does not move by our own.
    fn read_data_version(&self) -> Option<i64> {
        let read = || {
            self.connection
                .prepare_cached("PRAGMA data_version")?
                .query_row([], |row| row.get(0))
        };
        read()
            .inspect_err(|cause| debug!(%cause, "cannot read the data version"))
            .ok()
    }

    /// Does a batch. If it fails as a whole, its parts are tried one by one, so that a request that cannot be done
    /// (a body that does not fit on the disk) does not spoil the others.
    fn work(&mut self, mut batch: Batch) {
        if batch.len() == 0 {
            return;
        }
        match self.attempt_while_busy(&mut batch) {
            Ok(()) => self.confirm(batch),
            Err(cause) if batch.len() == 1 || is_busy(&cause) => self.fail(batch, cause),
            Err(_) => {
                for mut single in batch.split() {
                    match self.attempt_while_busy(&mut single) {
                        Ok(()) => self.confirm(single),
                        Err(cause) => self.fail(single, cause),
                    }
                }
            }
        }
    }

    fn attempt_while_busy(&mut self, batch: &mut Batch) -> rusqlite::Result<()> {
        let mut result = self.attempt(batch);
        for _ in 1..BUSY_ATTEMPTS {
            if !result.as_ref().is_err_and(is_busy) {
                break;
            }
            result = self.attempt(batch);
        }
        result
    }

    /// Everything in one transaction, or nothing.
    fn attempt(&mut self, batch: &mut Batch) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in &mut batch.changes {
            change.execute(&transaction, &self.owner.id)?;
        }
        // A queue that is empty for one consumer is so for the next.
        let mut empty: HashMap<QueueName, Option<i64>> = HashMap::new();
        for claim in &mut batch.claims {
            claim.found = if claim.is_abandoned() {
                None
            } else if let Some(&due) = empty.get(&claim.queue) {
                Some(Found::Nothing { due })
            } else {
                let (owner, numbers) = (&self.owner.id, &mut self.next_lease);
                Some(store::claim(
                    &transaction,
                    owner,
                    numbers,
                    &claim.queue,
                    claim.credit,
                )?)
            };
            if let Some(Found::Nothing { due }) = claim.found {
                empty.insert(claim.queue.clone(), due);
            }
        }
        transaction.commit()
    }

    fn confirm(&mut self, batch: Batch) {
        for change in batch.changes {
            change.confirm();
        }
        for mut claim in batch.claims {
            match claim.found.take() {
                Some(Found::Messages(messages)) => {
                    let deliveries = messages.into_iter();
                    let deliveries = deliveries
                        .map(|claimed| receipt::delivery(claimed, &self.mailbox))
                        .collect();
                    claim.answer(Ok(deliveries));
                }
                Some(Found::NoSuchQueue) => {
                    let queue = claim.queue.clone();
                    claim.answer(Err(ConsumeError::NoSuchQueue(queue)));
                }
                Some(Found::Nothing { due }) => self.waiting.add(claim, due),
                None => {}
            }
        }
    }

    fn fail(&mut self, batch: Batch, cause: rusqlite::Error) {
        let cause = StoreError::from_sqlite(&self.mailbox.path, cause);
        warn!(requests = batch.len(), %cause, "the queue file could not be written");
        for change in batch.changes {
            self.owed.extend(change.fail(&cause));
        }
        for claim in batch.claims {
            claim.fail(&cause);
        }
    }

    /// Gives back what is still held and leaves. If that fails, the lock file stays for others to find.
    fn close(mut self) {
        let cause = self.mailbox.cause();
        for claim in self.waiting.take_all() {
            claim.fail(&cause);
        }
        let left = store::give_all_back(&self.connection, &self.owner.id)
            .map_err(|cause| cause.to_string())
            .and_then(|_| self.owner.retire().map_err(|cause| cause.to_string()));
        if let Err(cause) = left {
            warn!(%cause, "the messages in hand are left to the next process that opens the queue");
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
