//! Live progress on standard error: on a terminal one line per actor that changes in place, else a plain line now and
//! then. Standard output belongs to the results alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use asya_transport::Depth;
use console::style;

use super::told::{Pace, Told};
use super::tracker::{ActorFigures, Tracker};
use super::writer::{Job, ask, say};

/// Pause between two looks at the figures for live lines.
const LIVE_INTERVAL: Duration = Duration::from_millis(150);

/// Pause between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(2);

/// The display of one run.
pub(crate) struct Screen {
    /// What the live lines are about; none without a terminal.
    live: Option<Vec<String>>,
    pace: Mutex<Pace>,
}

impl Screen {
    /// A display for these actors, live when standard error is a terminal.
    pub(crate) fn new<'a>(actors: impl Iterator<Item = &'a str>) -> Self {
        let live = console::user_attended_stderr().then(|| actors.map(str::to_owned).collect::<Vec<_>>());
        if let Some(names) = &live {
            ask(Job::Live(names.clone()));
        }
        Self {
            live,
            pace: Mutex::default(),
        }
    }

    /// Shows what a handler tells about an envelope, at once and as a line of its own. On a terminal the actor's live
    /// line has it.
    pub(crate) fn tell(&self, actor: &str, id: &str, told: &Told) {
        if self.live.is_some() {
            return;
        }
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if pace.allows(actor, Instant::now()) {
            say(&told.plain(actor, id));
        }
    }

    /// How long the figures may be shown before new ones are worth a look.
    pub(crate) fn interval(&self) -> Duration {
        if self.live.is_some() {
            LIVE_INTERVAL
        } else {
            PLAIN_INTERVAL
        }
    }

    /// Shows the present figures. `said` is the last plain line, which is not said twice.
    pub(crate) fn show(&self, tracker: &Tracker, depths: &BTreeMap<String, Depth>, said: &mut String) {
        if let Some(names) = &self.live {
            let none = ActorFigures::default();
            let message = |actor: &String| {
                let figures = tracker.actors().get(actor).unwrap_or(&none);
                live_line(figures, depths.get(actor))
            };
            ask(Job::Show(names.iter().map(message).collect()));
            return;
        }
        let now = plain_line(tracker, depths);
        if now != *said {
            say(&now);
            *said = now;
        }
    }

    /// Takes the live lines away for good; the summary tells the same and more.
    pub(crate) fn clear(&self) {
        if self.live.is_some() {
            ask(Job::Clear);
        }
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
    let retried = match figures.retried {
        0 => String::new(),
        count => format!(" {} retried", style(format!("{count:>6}")).for_stderr().yellow()),
    };
    let told = figures.told().map_or_else(String::new, |told| {
        format!("  {}", style(told.live()).for_stderr().cyan())
    });
    format!(
        "{} queued {} running {} done {failed} failed{retried}{told}",
        number(waiting),
        number(figures.running() as u64),
        style(format!("{:>6}", figures.done)).for_stderr().green(),
    )
}

fn plain_line(tracker: &Tracker, depths: &BTreeMap<String, Depth>) -> String {
    let queued: u64 = depths.values().map(Depth::total).sum();
    let running: usize = tracker.actors().values().map(ActorFigures::running).sum();
    let retried = match tracker.actors().values().map(|actor| actor.retried).sum() {
        0_usize => String::new(),
        count => format!(", {count} runs retried"),
    };
    format!(
        "{} finished ({} failed), {} open, {queued} messages queued, {running} running{retried}",
        tracker.finished(),
        tracker.failed(),
        tracker.open()
    )
}
