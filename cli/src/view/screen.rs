//! Live progress on standard error: on a terminal one line per actor that changes in place, else a plain line now and
//! then. Standard output belongs to the results alone.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use asya_transport::Depth;
use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::tracker::{ActorFigures, Tracker};

/// Pause between two plain lines while nothing else is said.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// The one screen of this process, once there is one: log lines go above its live lines.
static SCREEN: OnceLock<MultiProgress> = OnceLock::new();

/// Writes to standard error without tearing the live lines.
pub(crate) struct SharedScreen;

impl SharedScreen {
    /// For the log.
    pub(crate) fn writer() -> Self {
        Self
    }
}

impl std::io::Write for SharedScreen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let write = || std::io::stderr().write_all(bytes);
        match SCREEN.get() {
            Some(screen) => screen.suspend(write)?,
            None => write()?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Says one line above the live ones, if there are any.
pub(crate) fn say(line: &str) {
    // In one piece: the live lines come back after each. Nothing can be done about a standard error that takes no text.
    let _written = SharedScreen.write_all(format!("{line}\n").as_bytes());
}

/// The live display of one run.
pub(crate) struct Screen {
    lines: Option<Lines>,
    plain: Mutex<Plain>,
}

struct Lines {
    all: MultiProgress,
    actors: BTreeMap<String, ProgressBar>,
}

struct Plain {
    last: Instant,
    said: String,
}

impl Screen {
    /// A display for these actors, live when standard error is a terminal.
    pub(crate) fn new<'a>(actors: impl Iterator<Item = &'a str>) -> Arc<Self> {
        let lines = console::user_attended_stderr().then(|| Lines::new(actors));
        Arc::new(Self {
            lines,
            plain: Mutex::new(Plain {
                last: Instant::now(),
                said: String::new(),
            }),
        })
    }

    /// Shows the present figures.
    pub(crate) fn show(&self, tracker: &Tracker, depths: &BTreeMap<String, Depth>) {
        let none = ActorFigures::default();
        if let Some(lines) = &self.lines {
            for (actor, line) in &lines.actors {
                let figures = tracker.actors().get(actor).unwrap_or(&none);
                line.set_message(live_line(figures, depths.get(actor)));
            }
            return;
        }
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        if plain.last.elapsed() < PLAIN_INTERVAL {
            return;
        }
        let now = plain_line(tracker, depths);
        plain.last = Instant::now();
        if now != plain.said {
            say(&now);
            plain.said = now;
        }
    }

    /// Takes the live lines away for good; the summary tells the same and more.
    pub(crate) fn clear(&self) {
        if let Some(lines) = &self.lines {
            // A terminal that has gone away cannot be cleared and need not be.
            let _cleared = lines.all.clear();
            lines.all.set_draw_target(ProgressDrawTarget::hidden());
        }
    }
}

impl Lines {
    fn new<'a>(actors: impl Iterator<Item = &'a str>) -> Self {
        let all = SCREEN
            .get_or_init(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)))
            .clone();
        let names: Vec<_> = actors.map(str::to_owned).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let look =
            ProgressStyle::with_template("  {prefix} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let actors = names
            .into_iter()
            .map(|name| {
                let line = all.add(ProgressBar::no_length()).with_style(look.clone());
                line.set_prefix(format!("{name:width$}"));
                (name, line)
            })
            .collect();
        Self { all, actors }
    }
}

fn live_line(figures: &ActorFigures, depth: Option<&Depth>) -> String {
    let waiting = depth.map_or(0, |depth| depth.total().saturating_sub(figures.running() as u64));
    let number = |count: u64| match count {
        0 => style(format!("{count:>6}")).for_stderr().dim(),
        _ => style(format!("{count:>6}")).for_stderr().bold(),
    };
    let failed = style(format!("{:>6}", figures.failed)).for_stderr();
    let failed = if figures.failed > 0 {
        failed.red().bold()
    } else {
        failed.dim()
    };
    format!(
        "{} queued {} running {} done {failed} failed",
        number(waiting),
        number(figures.running() as u64),
        style(format!("{:>6}", figures.done)).for_stderr().green(),
    )
}

fn plain_line(tracker: &Tracker, depths: &BTreeMap<String, Depth>) -> String {
    let queued: u64 = depths.values().map(Depth::total).sum();
    let running: usize = tracker.actors().values().map(ActorFigures::running).sum();
    let finished = tracker.finished().len();
    format!(
        "{finished} finished ({} failed), {} open, {queued} messages queued, {running} running",
        tracker.failed(),
        tracker.open()
    )
}
