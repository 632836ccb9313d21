//! Progress of one call, on standard error: a bar on a terminal, else a line for each change.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::following::Event;
use super::words::note;

/// How wide the bar is, in columns.
const TEMPLATE: &str = "Processing: {percent:>3}% |{bar:30}| {msg}";

/// Shows progress.
pub(super) struct Bar {
    live: Option<ProgressBar>,
    said: String,
}

impl Bar {
    pub(super) fn new() -> Self {
        Self {
            live: None,
            said: String::new(),
        }
    }

    /// Shows an event. Nothing is shown before the first that tells progress.
    pub(super) fn show(&mut self, event: &Event) {
        let Some(percent) = event.progress_percent else {
            return;
        };
        let words = [
            event.actor(),
            event.envelope_state.as_deref().or(Some(&event.status)),
        ];
        let words: Vec<_> = words.into_iter().flatten().collect();
        let words = words.join(" | ");
        let percent = percent.clamp(0.0, 100.0).round();
        if !console::user_attended_stderr() {
            let line = format!("Processing: {percent:>3}% | {words}");
            if line != self.said {
                note(&line);
                self.said = line;
            }
            return;
        }
        let bar = self.live.get_or_insert_with(bar);
        bar.set_message(words);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
        bar.set_position(percent as u64);
    }

    /// Says a line beside it.
    pub(super) fn note(&self, line: &str) {
        match &self.live {
            Some(bar) => bar.suspend(|| note(line)),
            None => note(line),
        }
    }

    /// Leaves the last state where it is.
    pub(super) fn end(self) {
        if let Some(bar) = self.live {
            bar.abandon();
        }
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(100), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
    }
    bar
}
