//! The live lines on a terminal. They belong to the thread that writes.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One line per name, changing in place at the bottom of the screen.
pub(super) struct Lines {
    all: MultiProgress,
    each: Vec<ProgressBar>,
}

impl Lines {
    pub(super) fn new(names: &[String]) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let look = ProgressStyle::with_template("  {prefix} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let each = names
            .iter()
            .map(|name| {
                let line = all.add(ProgressBar::no_length()).with_style(look.clone());
                line.set_prefix(format!("{name:width$}"));
                line
            })
            .collect();
        Self { all, each }
    }

    /// Shows these messages, in the order of the names.
    pub(super) fn show(&self, messages: Vec<String>) {
        for (line, message) in self.each.iter().zip(messages) {
            line.set_message(message);
        }
    }

    /// Takes the lines away while something else is written.
    pub(super) fn suspend(&self, write: impl FnOnce()) {
        self.all.suspend(write);
    }

    /// Takes the lines away for good.
    pub(super) fn clear(self) {
        // A terminal that has gone away cannot be cleared and need not be.
        let _cleared = self.all.clear();
        self.all.set_draw_target(ProgressDrawTarget::hidden());
    }
}
