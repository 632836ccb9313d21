//! One pass at a time where several would do the same: a lock for each name, so that whoever waits for one name holds
//! nobody up who wants another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// See the module. Locks exist for as long as somebody has or wants them.
#[derive(Debug, Default)]
pub(super) struct Turns {
    known: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

/// A turn; the next one comes when it is dropped.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Turns {
    /// Waits until nobody else has the turn for `name`.
    pub(super) async fn take(&self, name: &str) -> Turn {
        self.lock(name).lock_owned().await
    }

    fn lock(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        // No code that holds the lock can panic half-way through a change.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = known.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        known.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        known.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::Turns;

    #[tokio::test]
    async fn a_turn_is_waited_for_by_those_who_want_the_same_name_alone() {
        let turns = Turns::default();
        let first = turns.take("one").await;
        assert!(turns.take("one").now_or_never().is_none());
        assert!(turns.take("two").now_or_never().is_some());
        drop(first);
        assert!(turns.take("one").now_or_never().is_some());
        let _three = turns.take("three").await;
        assert_eq!(turns.known.lock().unwrap().len(), 1, "unused locks are not kept");
    }
}
