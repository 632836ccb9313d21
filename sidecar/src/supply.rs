//! Whether more messages can come: what batches need to know before they wait for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Shared by the consumer, which tells, and by slots, which ask.
#[derive(Debug, Default)]
pub(crate) struct Supplies {
    asked: Mutex<Option<Instant>>,
    gathering: AtomicBool,
}

/// The consumer waits for its queue for as long as this lives.
#[derive(Debug)]
pub(crate) struct Asking<'a>(&'a Supplies);

impl Supplies {
    /// The consumer asks its queue and has to wait.
    pub(crate) fn ask(&self) -> Asking<'_> {
        *self.lock() = Some(Instant::now());
        Asking(self)
    }

    /// Since when the consumer has been waiting for its queue.
    pub(crate) fn asked(&self) -> Option<Instant> {
        *self.lock()
    }

    /// Somebody waits for more and wants to be woken when there is none.
    pub(crate) fn gathers(&self) {
        self.gathering.store(true, Ordering::Release);
    }

    /// Whether somebody wants to be woken; once.
    pub(crate) fn take_gathering(&self) -> bool {
        self.gathering.swap(false, Ordering::AcqRel)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_asked_for_as_long_as_somebody_waits_for_it() {
        let supplies = Supplies::default();
        assert_eq!(supplies.asked(), None);
        let asking = supplies.ask();
        assert!(supplies.asked().is_some());
        drop(asking);
        assert_eq!(supplies.asked(), None);
    }

    #[test]
    fn who_gathers_is_woken_once() {
        let supplies = Supplies::default();
        assert!(!supplies.take_gathering());
        supplies.gathers();
        assert!(supplies.take_gathering());
        assert!(!supplies.take_gathering());
    }
}
