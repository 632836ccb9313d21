//! One line of progress for whoever waits; on a terminal always the same one.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

/// How often it is written on a terminal, and into a log.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The line of one soak, on standard error.
#[derive(Debug)]
pub struct Line {
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Line {
    /// The time begins; nothing is shown yet.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
            shown: None,
            terminal: stderr().is_terminal(),
        }
    }

    /// Shows what `text` makes of the time that has passed, unless it was just shown.
    pub fn show(&mut self, text: impl FnOnce(Duration) -> String) {
        let (terminal, log) = PAUSE;
        let (pause, start, end) = if self.terminal {
            (terminal, "\r\x1b[K", "")
        } else {
            (log, "", "\n")
        };
        if self.shown.is_some_and(|shown| shown.elapsed() < pause) {
            return;
        }
        self.shown = Some(Instant::now());
        let time = self.started.elapsed();
        let (seconds, text) = (time.as_secs(), text(time));
        // Only to pass the time; a closed standard error is no reason to stop.
        let _unheard = write!(stderr(), "{start}{seconds:>4} s  {text}{end}");
    }

    /// Leaves the line.
    pub fn end(&self) {
        if self.terminal && self.shown.is_some() {
            let _unheard = writeln!(stderr());
        }
    }
}
