//! What a held call tells its client while it waits. Pure.

use asya_gateway_store::{Kind, Update};
use rmcp::model::{ProgressNotificationParam, ProgressToken};

/// The whole.
const TOTAL: f64 = 100.0;
/// The most that is told before the end: an envelope whose actors are all done has still to reach its end actor.
const NEARLY: f64 = 99.0;
/// The least step that a client sees, where the envelope's own progress stands still (partial results, retries).
const STEP: f64 = 0.000_001;

/// Turns updates into notifications whose progress strictly increases, as MCP demands, and is 100 with the last one.
pub(super) struct Progress {
    token: ProgressToken,
    /// What was told last; below everything at first.
    last: f64,
}

impl Progress {
    pub(super) fn new(token: ProgressToken) -> Self {
        Self { token, last: -1.0 }
    }

    /// What to tell of an update; nothing when no number is left between the last one and the end.
    pub(super) fn tell(&mut self, update: &Update) -> Option<ProgressNotificationParam> {
        let progress = if update.is_final() {
            TOTAL
        } else {
            let percent = update.progress_percent.unwrap_or(0.0).clamp(0.0, NEARLY);
            let step = STEP.min((TOTAL - self.last) / 2.0);
            percent.max(self.last + step)
        };
        if progress <= self.last || (progress >= TOTAL && !update.is_final()) {
            return None;
        }
        self.last = progress;
        let mut told = ProgressNotificationParam::new(self.token.clone(), progress);
        told.total = Some(TOTAL);
        told.message = Some(message(update));
        Some(told)
    }
}

/// The words of an update: a partial result as its JSON (text as it is), anything else as the message.
fn message(update: &Update) -> String {
    if let (Kind::Partial, Some(partial)) = (update.kind, &update.partial) {
        let value = &partial.value;
        return value.to_text().unwrap_or_else(|| value.as_str().to_owned());
    }
    match (&update.message, &update.actor, update.phase) {
        (Some(message), _, _) => message.clone(),
        (None, Some(actor), Some(phase)) => format!("{actor}: {}", phase.as_str()),
        (None, Some(actor), None) => actor.clone(),
        (None, None, _) => update.status.to_string(),
    }
}
