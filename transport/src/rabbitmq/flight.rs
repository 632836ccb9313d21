//! One publish on its way: who is woken when it moves, and where its outcome is put.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;

use futures::task::AtomicWaker;
use tokio::sync::Notify;

use crate::PublishError;

/// Where the caller finds the outcome.
#[derive(Debug, Default)]
pub(super) struct Slot {
    outcome: Mutex<Outcome>,
    /// Woken when there is something to take in.
    pub(super) caller: AtomicWaker,
}

#[derive(Debug, Default)]
enum Outcome {
    #[default]
    Open,
    Known(Result<(), PublishError>),
    Taken,
}

impl Slot {
    pub(super) fn put(&self, outcome: Result<(), PublishError>) {
        *self.lock() = Outcome::Known(outcome);
        self.caller.wake();
    }

    /// The outcome, once.
    pub(super) fn take(&self) -> Option<Result<(), PublishError>> {
        let mut outcome = self.lock();
        match std::mem::replace(&mut *outcome, Outcome::Taken) {
            Outcome::Known(known) => Some(known),
            other => {
                *outcome = other;
                None
            }
        }
    }

    pub(super) fn was_taken(&self) -> bool {
        matches!(*self.lock(), Outcome::Taken)
    }

    fn lock(&self) -> MutexGuard<'_, Outcome> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The flights that have moved, in the order in which they did.
#[derive(Debug, Default)]
pub(super) struct Moved {
    flights: Mutex<VecDeque<u64>>,
    /// Whether the task is to hear of every move.
    urgent: AtomicBool,
}

impl Moved {
    /// While others wait for a flight, its own caller may take its time; so the task is woken as well. Whoever calls
    /// this looks at what has moved afterwards.
    pub(super) fn set_urgent(&self, urgent: bool) {
        self.urgent.store(urgent, Ordering::Release);
    }

    pub(super) fn pop(&self) -> Option<u64> {
        self.lock().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that a flight has moved, and wakes its caller, or the task if the caller does not listen.
pub(super) struct Bell {
    pub(super) number: u64,
    pub(super) moved: Arc<Moved>,
    pub(super) slot: Arc<Slot>,
    pub(super) work: Arc<Notify>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.moved.lock().push_back(self.number);
        let caller = self.slot.caller.take();
        if caller.is_none() || self.moved.urgent.load(Ordering::Acquire) {
            self.work.notify_one();
        }
        if let Some(caller) = caller {
            caller.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_task_is_woken_for_callers_that_do_not_listen() {
        let (moved, work, slot) = (Arc::default(), Arc::new(Notify::new()), Arc::<Slot>::default());
        let bell = |number| {
            Waker::from(Arc::new(Bell {
                number,
                moved: Arc::clone(&moved),
                slot: Arc::clone(&slot),
                work: Arc::clone(&work),
            }))
        };
        slot.caller.register(Waker::noop());
        bell(1).wake();
        assert!(work.notified().now_or_never().is_none(), "the caller was woken");
        bell(2).wake();
        assert!(work.notified().now_or_never().is_some(), "nobody was woken");
        let order: Vec<_> = std::iter::from_fn(|| moved.pop()).collect();
        assert_eq!(order, [1, 2]);
    }

    #[test]
    fn an_outcome_is_taken_once() {
        let slot = Slot::default();
        assert!(slot.take().is_none() && !slot.was_taken());
        slot.put(Ok(()));
        assert!(matches!(slot.take(), Some(Ok(()))));
        assert!(slot.take().is_none() && slot.was_taken());
    }
}
