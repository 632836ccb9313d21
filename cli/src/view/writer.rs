//! The one thread that writes to standard error.
//!
//! Whoever reads standard error may read slowly or not at all, and a write then blocks. Nothing that makes decisions
//! may wait for that: everybody else hands lines to a bounded queue. [`say`] and the log drop a line when the queue is
//! full, [`print`] waits for room, which holds back the handler that prints, and [`say_last`] waits for a bounded time.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::lines::Lines;

/// Lines that may wait for the reader.
const QUEUE: usize = 256;

/// How long all last words together wait for the reader.
const LAST_WORDS: Duration = Duration::from_secs(3);

static WRITER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();

/// Lines dropped since the last one was written.
static LOST: AtomicU64 = AtomicU64::new(0);

/// When the time for last words ends; set by the first of them.
static LAST_MOMENT: OnceLock<Instant> = OnceLock::new();

/// What the thread is asked to do.
pub(super) enum Job {
    /// Whole lines, with their line ends.
    Text(Vec<u8>),
    /// One live line for each of these names from now on.
    Live(Vec<String>),
    /// What the live lines say now, in the order of the names.
    Show(Vec<String>),
    /// No live lines from now on.
    Clear,
    /// The same, and then whole lines.
    Last(String),
    /// Everything before this is written.
    Flush(oneshot::Sender<()>),
}

/// Says one line above the live ones, if there are any; dropped when nobody reads.
pub(crate) fn say(line: &str) {
    say_bytes(format!("{line}\n").into_bytes());
}

/// Says one line as soon as there is room for it.
pub(crate) async fn print(line: &str) {
    // Fails only when the thread could not be started: then nothing can be said at all.
    let _unsaid = writer().send(Job::Text(format!("{line}\n").into_bytes())).await;
}

/// Says lines at the end of the command, below everything else. Waits a few seconds for a reader, once for all of
/// the last words.
pub(crate) async fn say_last(lines: &str) {
    // Whoever has not read in that time does not get the rest either.
    let _unsaid =
        tokio::time::timeout_at(last_moment(), writer().send(Job::Last(format!("{lines}\n")))).await;
}

/// Waits until everything is written, within the same time as [`say_last`].
pub(crate) async fn flush() {
    let (done, written) = oneshot::channel();
    let _unread = tokio::time::timeout_at(last_moment(), async move {
        if writer().send(Job::Flush(done)).await.is_ok() {
            let _written = written.await;
        }
    })
    .await;
}

/// For jobs that a later one makes good: dropped when nobody reads.
pub(super) fn ask(job: Job) {
    let _dropped = writer().try_send(job);
}

/// Writes log lines.
pub(crate) struct LogLines;

impl LogLines {
    /// For the log.
    pub(crate) fn writer() -> Self {
        Self
    }
}

impl std::io::Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        say_bytes(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn say_bytes(text: Vec<u8>) {
    if let Err(TrySendError::Full(_)) = writer().try_send(Job::Text(text)) {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

fn last_moment() -> Instant {
    *LAST_MOMENT.get_or_init(|| Instant::now() + LAST_WORDS)
}

fn writer() -> &'static mpsc::Sender<Job> {
    WRITER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel(QUEUE);
        // Without the thread there is nobody who could say so.
        let _started = std::thread::Builder::new()
            .name("stderr".into())
            .spawn(move || write_all(queue));
        jobs
    })
}

fn write_all(mut queue: mpsc::Receiver<Job>) {
    let mut lines: Option<Lines> = None;
    while let Some(job) = queue.blocking_recv() {
        match job {
            Job::Text(text) => write(lines.as_ref(), &text),
            Job::Live(names) => lines = Some(Lines::new(&names)),
            Job::Show(messages) => {
                if let Some(lines) = &lines {
                    lines.show(messages);
                }
            }
            Job::Clear => clear(&mut lines),
            Job::Last(text) => {
                clear(&mut lines);
                write(None, text.as_bytes());
            }
            Job::Flush(done) => {
                let _nobody_waits = done.send(());
            }
        }
    }
}

fn clear(lines: &mut Option<Lines>) {
    if let Some(lines) = lines.take() {
        lines.clear();
    }
}

/// Nothing can be done about a standard error that takes no text.
fn write(lines: Option<&Lines>, text: &[u8]) {
    let write = || {
        let mut stderr = std::io::stderr().lock();
        let _written = stderr.write_all(text);
        let lost = LOST.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _written = writeln!(
                stderr,
                "note: {lost} lines are not shown: standard error is read too slowly"
            );
        }
    };
    match lines {
        Some(lines) => lines.suspend(write),
        None => write(),
    }
}
