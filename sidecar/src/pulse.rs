//! Proof of life of the actors: how many steps each has done.
//!
//! What it is: one count for each actor that can be waited for in vain. What it is not: it judges nothing. An observer
//! that sees work in a stage and no step for long knows who is stuck (contract §11: liveness is progress).

use std::sync::atomic::{AtomicU64, Ordering};

/// The counts, shared by a tree.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    pub(crate) router: Beat,
    pub(crate) slots: Beat,
    pub(crate) publisher: Beat,
    pub(crate) acker: Beat,
    pub(crate) reaper: Beat,
    /// Messages that no queue takes, held on purpose.
    pub(crate) held: Beat,
}

/// The steps of one actor.
#[derive(Debug, Default)]
pub(crate) struct Beat(AtomicU64);

impl Beat {
    pub(crate) fn step(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Steps done since the start, by who did them. They only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steps {
    /// Arrivals and replies looked at.
    pub router: u64,
    /// Calls of the runtime that ended, in whatever way.
    pub slots: u64,
    /// Publishes that were answered, in whatever way, and plans carried out.
    pub publisher: u64,
    /// Settlements that were answered, in whatever way.
    pub acker: u64,
    /// Rounds of the reaper.
    pub reaper: u64,
    /// Messages that no queue takes, held on purpose until the process ends.
    pub held: u64,
}

impl Pulse {
    pub(crate) fn steps(&self) -> Steps {
        Steps {
            router: self.router.count(),
            slots: self.slots.count(),
            publisher: self.publisher.count(),
            acker: self.acker.count(),
            reaper: self.reaper.count(),
            held: self.held.count(),
        }
    }
}
