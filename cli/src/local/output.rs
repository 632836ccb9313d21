//! What a runtime prints: into its log file first, then to whoever looks.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::view::{print, say};

/// Lines kept for the report about a runtime that cannot start.
const LAST_LINES: usize = 12;

/// A longer line is cut into pieces of this size, so that a handler that prints no line end fills no memory.
const LONGEST: usize = 64 * 1024;

/// Stands at the end of a piece that is not the last of its line.
const CUT: &[u8] = " … (the line goes on)".as_bytes();

/// How long the rest of the output is waited for when the runtime has ended: once while it is shown too, and once more
/// for the log alone.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the runtimes of one actor said last on standard error.
#[derive(Debug, Clone, Default)]
pub(super) struct LastLines(Arc<Mutex<VecDeque<String>>>);

impl LastLines {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// One indented line each.
    pub(super) fn report(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<_> = lines.iter().map(|line| format!("\n    {line}")).collect();
        lines.concat()
    }
}

/// Where the lines of a pipe go beside the log.
#[derive(Debug)]
pub(super) enum Destination {
    /// The screen, as fast as it takes them: the handler's own prints, by the actor's name.
    Screen(String),
    /// The log of `asya`, and what was said last.
    Log(String, LastLines),
}

impl Destination {
    async fn take(&self, line: &str, hurry: &CancellationToken) {
        match self {
            Self::Screen(actor) => {
                let line = format!("[{actor}] {line}");
                tokio::select! {
                    biased;
                    () = print(&line) => {}
                    () = hurry.cancelled() => say(&line),
                }
            }
            Self::Log(actor, last) => {
                tracing::info!("[{actor}] {line}"); // Seen with --verbose; the log file has it in any case.
                last.push(line.to_owned());
            }
        }
    }
}

/// The tasks that follow the output of one incarnation of a runtime.
#[derive(Debug, Default)]
pub(super) struct Followers {
    tasks: Vec<JoinHandle<()>>,
    hurry: CancellationToken,
}

impl Followers {
    /// Copies lines into the log file and to `destination` until the pipe ends.
    pub(super) fn follow(
        &mut self,
        pipe: impl AsyncRead + Unpin + Send + 'static,
        log: &Path,
        destination: Destination,
    ) -> std::io::Result<()> {
        let log = open_log(log)?;
        let hurry = self.hurry.clone();
        let task = tokio::spawn(copy(BufReader::new(pipe), log, destination, hurry));
        self.tasks.push(task);
        Ok(())
    }

    /// Waits for the last lines of a runtime that has ended. A reader of the screen that does not keep up is waited
    /// for only briefly; the log gets everything.
    pub(super) async fn finish(self) {
        let Self { tasks, hurry } = self;
        let mut all = futures::future::join_all(tasks);
        if tokio::time::timeout(PATIENCE, &mut all).await.is_ok() {
            return;
        }
        hurry.cancel();
        // A process out of reach may hold the pipe for ever; its follower then waits on without harm.
        let _finished = tokio::time::timeout(PATIENCE, all).await;
    }
}

async fn copy(
    mut pipe: impl AsyncBufRead + Unpin,
    log: std::fs::File,
    destination: Destination,
    hurry: CancellationToken,
) {
    let mut log = tokio::fs::File::from_std(log);
    let mut line = Vec::new();
    while let Ok(true) = next_line(&mut pipe, &mut line).await {
        line.push(b'\n');
        let written = log.write_all(&line).await;
        line.pop();
        if let Err(error) = written {
            tracing::warn!(%error, "a runtime's log cannot be written");
            // Go on reading: a full pipe would stop the handler.
        }
        destination.take(&String::from_utf8_lossy(&line), &hurry).await;
    }
    if let Err(error) = log.flush().await {
        tracing::warn!(%error, "a runtime's log cannot be written");
    }
}

/// Reads the next line, without its end, or the next piece of a long one. False at the end of the pipe.
async fn next_line(pipe: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    loop {
        let there = pipe.fill_buf().await?;
        if there.is_empty() {
            return Ok(!line.is_empty());
        }
        let there = &there[..there.len().min(LONGEST + 1 - line.len())];
        if let Some(end) = there.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&there[..end]);
            pipe.consume(end + 1);
            return Ok(true);
        }
        // One byte is left for the line end of a line that just fits.
        let taken = there.len().min(LONGEST - line.len());
        line.extend_from_slice(&there[..taken]);
        let is_full = taken < there.len();
        pipe.consume(taken);
        if is_full {
            line.extend_from_slice(CUT);
            return Ok(true);
        }
    }
}

fn open_log(path: &Path) -> std::io::Result<std::fs::File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::File::options().create(true).append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8]) -> Vec<Vec<u8>> {
        let (mut pipe, mut lines, mut line) = (BufReader::with_capacity(1000, text), Vec::new(), Vec::new());
        while next_line(&mut pipe, &mut line).await.unwrap_or(false) {
            lines.push(line.clone());
        }
        lines
    }

    #[tokio::test]
    async fn lines_come_without_their_ends_the_last_one_too() {
        assert_eq!(lines(b"a\n\nb").await, [&b"a"[..], b"", b"b"]);
    }

    #[tokio::test]
    async fn a_line_that_just_fits_is_not_cut() {
        let text = [&vec![b'x'; LONGEST][..], b"\nb\n"].concat();
        assert_eq!(lines(&text).await, [&text[..LONGEST], b"b"]);
    }

    #[tokio::test]
    async fn a_line_without_end_comes_in_pieces_that_say_so() {
        let text = [&vec![b'x'; 2 * LONGEST + 5][..], b"\nb\n"].concat();
        let full = [&text[..LONGEST], CUT].concat();
        assert_eq!(lines(&text).await, [&full[..], &full, b"xxxxx", b"b"]);
    }
}
