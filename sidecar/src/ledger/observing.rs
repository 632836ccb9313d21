//! What the ledger tells about itself: counts and ages, for observers and for the reaper. Nothing here changes it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Ledger;
use super::entry::{Entry, Stage, State};

impl Ledger {
    /// How many deliveries at `now` have been waiting for longer than `age` for their messages to be taken.
    pub(crate) fn stalled(&self, now: Instant, age: Duration) -> usize {
        let inner = self.lock();
        let is_old = |entry: &&Entry| {
            entry
                .planned
                .is_some_and(|planned| now.saturating_duration_since(planned) > age)
        };
        inner.entries.values().filter(is_old).count()
    }

    /// How long the longest call under way has been running at `now`.
    pub(crate) fn longest_run(&self, now: Instant) -> Option<Duration> {
        let inner = self.lock();
        if inner.assigned == 0 {
            return None;
        }
        let running = inner.entries.values().filter_map(|entry| match &entry.state {
            State::Assigned { since, .. } => since.map(|since| now.saturating_duration_since(since)),
            _ => None,
        });
        running.max()
    }

    /// How many calls are under way, without what was written ahead.
    pub(crate) fn calls(&self) -> usize {
        let inner = self.lock();
        let runs = |entry: &&Entry| matches!(entry.state, State::Assigned { since: Some(_), .. });
        inner.entries.values().filter(runs).count()
    }

    /// How many deliveries the runtime has in its hands, with what was written ahead.
    pub(crate) fn assigned(&self) -> usize {
        self.lock().assigned
    }

    /// How many entries are in each stage.
    pub(crate) fn count(&self) -> HashMap<Stage, usize> {
        let inner = self.lock();
        let mut counts = HashMap::new();
        for entry in inner.entries.values() {
            *counts.entry(entry.stage()).or_default() += 1;
        }
        counts
    }

    /// Whether the given stage has work that nobody has taken.
    pub(crate) fn waiting(&self, stage: Stage) -> bool {
        let inner = self.lock();
        match stage {
            Stage::Arrived | Stage::Routing => !inner.to_admit.is_empty() || !inner.to_route.is_empty(),
            Stage::Ready => !inner.to_run.is_empty(),
            Stage::Publishing => !inner.to_publish.is_empty(),
            Stage::Settling => !inner.to_settle.is_empty(),
            Stage::Running => false,
        }
    }
}
