//! Whether more messages can come: what batches need to know before they wait for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Shared by the consumer, which tells, and by slots, which ask.
#[derive(Debug, Default)]
pub(crate) struct Supplies {
    asked: Mutex<Option<Instant>>,
    gathering: AtomicBool,
}

impl Supplies {
    /// The consumer asks its queue and has to wait; true if somebody wants to hear of it.
    pub(crate) fn asks(&self) -> bool {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.gathering.swap(false, Ordering::AcqRel)
    }

    /// The consumer waits for its queue no longer.
    pub(crate) fn answered(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Since when the consumer has been waiting for its queue.
    pub(crate) fn asked(&self) -> Option<Instant> {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits for more and wants to be woken when there is none.
    pub(crate) fn gathers(&self) {
        self.gathering.store(true, Ordering::Release);
    }
}
