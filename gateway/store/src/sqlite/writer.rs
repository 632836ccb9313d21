//! The one task that writes: it takes whatever waits, does it in one transaction, and answers.
//!
//! Group commit is what makes it fast: while one transaction is made durable, the next group gathers. When a group
//! fails, its operations run again one by one, so that none fails for another's sake.
//!
//! How durable a transaction is depends on what it says. What must outlive a power failure is written with
//! `synchronous = FULL`: a new envelope, because its caller was told that it is there; an end, because the end actor
//! acknowledges its message after it; what became of an outbox message. Progress is written with `NORMAL`, which
//! survives the death of the process but not that of the machine: the next report tells as much.

use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Row};
use tokio::sync::{broadcast, mpsc, oneshot};
use tracing::{debug, warn};

use super::error::Failure;
use super::operation::{Answer, Operation};
use super::work::Work;
use crate::store::Changed;

/// Most operations in one transaction.
const GROUP_COUNT: usize = 512;
/// Most bytes of JSON and bodies in one transaction, one operation aside.
const GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Operations that may wait before callers wait to be let in.
const QUEUE: usize = 4096;
/// How often to look whether another process has written.
const FOREIGN_POLL: Duration = Duration::from_millis(250);
/// How often an operation is begun anew because a version had moved.
const ATTEMPTS: usize = 5;

type Outcome = Result<Answer, Failure>;

/// An operation, and who waits for it.
struct Waiting {
    operation: Operation,
    answer: oneshot::Sender<Outcome>,
}

/// Where operations are handed in.
#[derive(Clone)]
pub(super) struct Desk {
    queue: mpsc::Sender<Waiting>,
}

impl Desk {
    /// Whether anybody works behind it.
    pub(super) fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Does one operation. Once it is handed in, it is done whether or not anybody waits.
    pub(super) async fn run(&self, operation: Operation) -> Outcome {
        let (answer, done) = oneshot::channel();
        let waiting = Waiting { operation, answer };
        self.queue.send(waiting).await.map_err(|_| Failure::Closed)?;
        done.await.map_err(|_| Failure::Closed)?
    }
}

/// The task's state.
struct Writer {
    connection: SqliteConnection,
    queue: mpsc::Receiver<Waiting>,
    hints: broadcast::Sender<Changed>,
    /// Whether the connection makes commits durable against power failures.
    is_full: bool,
    data_version: Option<i64>,
    next_poll: Instant,
}

/// Starts the task. It ends when it is told to close, or when every desk is gone.
pub(super) fn start(connection: SqliteConnection, hints: broadcast::Sender<Changed>) -> Desk {
    let (queue, waiting) = mpsc::channel(QUEUE);
    let writer = Writer {
        connection,
        queue: waiting,
        hints,
        is_full: true,
        data_version: None,
        next_poll: Instant::now() + FOREIGN_POLL,
    };
    tokio::spawn(writer.run());
    Desk { queue }
}

impl Writer {
    async fn run(mut self) {
        let mut closing = None;
        // Settles what counts as foreign from here on.
        self.look_for_others().await;
        while closing.is_none() {
            let Some(mut group) = self.gather().await else {
                break;
            };
            closing = take_closing(&mut group);
            if closing.is_some() {
                // What was handed in before the end is still done.
                self.queue.close();
                while let Some(waiting) = self.queue.recv().await {
                    group.push(waiting);
                }
                group.retain(|waiting| !matches!(waiting.operation, Operation::Close));
            }
            self.work(group).await;
            self.look_for_others_in_time().await;
        }
        let closed = self.connection.close().await;
        if let Some(answer) = closing {
            let _nobody_waits = answer.send(closed.map(|()| Answer::Done).map_err(Failure::from));
        }
    }

    /// Waits for operations and takes what is there; empty when it is time to look for others. `None` at the end.
    async fn gather(&mut self) -> Option<Vec<Waiting>> {
        let wait = self.next_poll.saturating_duration_since(Instant::now());
        let first = match tokio::time::timeout(wait, self.queue.recv()).await {
            Ok(first) => first?,
            Err(_elapsed) => return Some(Vec::new()),
        };
        let mut bytes = first.operation.bytes();
        let mut group = vec![first];
        while group.len() < GROUP_COUNT && bytes < GROUP_BYTES {
            let Ok(next) = self.queue.try_recv() else {
                break;
            };
            bytes += next.operation.bytes();
            group.push(next);
        }
        Some(group)
    }

    async fn work(&mut self, group: Vec<Waiting>) {
        if group.is_empty() {
            return;
        }
        let (operations, answers): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|waiting| (waiting.operation, waiting.answer))
            .unzip();
        let outcomes = self.outcomes(&operations).await;
        for (outcome, answer) in outcomes.into_iter().zip(answers) {
            let _nobody_waits = answer.send(outcome);
        }
    }

    /// One outcome for each operation.
    async fn outcomes(&mut self, operations: &[Operation]) -> Vec<Outcome> {
        let failure = match self.transact(operations).await {
            Ok(answers) => return answers.into_iter().map(Ok).collect(),
            Err(failure) => failure,
        };
        match failure {
            // Nothing was begun: one by one would be no better, and each would wait for the lock anew.
            Failed::ToBegin(failure) => operations.iter().map(|_| Err(failure.clone())).collect(),
            Failed::Within(failure) if operations.len() == 1 && !failure.is_worth_a_retry() => {
                vec![Err(failure)]
            }
            Failed::Within(failure) => {
                if operations.len() > 1 {
                    warn!(
                        "a group of {} writes failed and runs one by one: {failure:?}",
                        operations.len()
                    );
                }
                let mut outcomes = Vec::with_capacity(operations.len());
                for operation in operations {
                    outcomes.push(self.alone(operation).await);
                }
                outcomes
            }
        }
    }

    async fn alone(&mut self, operation: &Operation) -> Outcome {
        let mut attempt = 1;
        loop {
            match self.transact(std::slice::from_ref(operation)).await {
                Ok(answers) => return answers.into_iter().next().ok_or(Failure::Closed),
                Err(Failed::Within(failure)) if failure.is_worth_a_retry() && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(Failed::Within(failure) | Failed::ToBegin(failure)) => return Err(failure),
            }
        }
    }

    /// Does all of it in one transaction, and tells of the changes.
    async fn transact(&mut self, operations: &[Operation]) -> Result<Vec<Answer>, Failed> {
        let is_full = operations.iter().any(Operation::must_outlive_the_machine);
        self.set_durability(is_full).await.map_err(Failed::ToBegin)?;
        // It takes the lock at once, so that what is read here still stands when it is written. Begun and ended by hand:
        // SQLite itself ends a transaction that finds no room, which a guard would not know of.
        self.execute("BEGIN IMMEDIATE").await.map_err(Failed::ToBegin)?;
        let mut work = Work::new(&mut self.connection);
        let done = work.all(operations).await;
        let changes = work.into_changes();
        let done = match done {
            Ok(answers) => self.execute("COMMIT").await.map(|()| answers),
            Err(failure) => Err(failure),
        };
        let answers = match done {
            Ok(answers) => answers,
            Err(failure) => {
                if let Err(error) = self.execute("ROLLBACK").await {
                    debug!("nothing was left to undo: {error:?}");
                }
                return Err(Failed::Within(failure));
            }
        };
        for change in changes {
            let _nobody_listens = self.hints.send(change);
        }
        Ok(answers)
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), Failure> {
        sqlx::query(sql).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn set_durability(&mut self, is_full: bool) -> Result<(), Failure> {
        if self.is_full != is_full {
            let sql = if is_full {
                "PRAGMA synchronous = FULL"
            } else {
                "PRAGMA synchronous = NORMAL"
            };
            self.execute(sql).await?;
            self.is_full = is_full;
        }
        Ok(())
    }

    async fn look_for_others_in_time(&mut self) {
        if Instant::now() >= self.next_poll {
            self.look_for_others().await;
            self.next_poll = Instant::now() + FOREIGN_POLL;
        }
    }

    /// Another process that writes to the file cannot tell us, so we look.
    async fn look_for_others(&mut self) {
        let row = sqlx::query("PRAGMA data_version")
            .fetch_one(&mut self.connection)
            .await;
        let version = match row.and_then(|row| row.try_get(0)) {
            Ok(version) => Some(version),
            Err(error) => {
                warn!("cannot see whether another process has written: {error}");
                None
            }
        };
        if version != self.data_version && self.data_version.is_some() {
            let _nobody_listens = self.hints.send(Changed::Everything);
        }
        self.data_version = version;
    }
}

/// Where a transaction failed.
enum Failed {
    ToBegin(Failure),
    Within(Failure),
}

/// Who asked for the end, if anybody did.
fn take_closing(group: &mut Vec<Waiting>) -> Option<oneshot::Sender<Outcome>> {
    let place = group
        .iter()
        .position(|waiting| matches!(waiting.operation, Operation::Close))?;
    Some(group.remove(place).answer)
}

/// What the desk and the readers share.
pub(super) type Hints = broadcast::Sender<Changed>;

/// Listeners that fall further behind than this must assume anything.
pub(super) fn hints() -> Hints {
    broadcast::channel(4096).0
}
