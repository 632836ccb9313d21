//! What this process knows about queues without asking the broker.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::ledger::Ledger;
use crate::QueueName;

#[derive(Debug, Default)]
pub(super) struct Registry {
    known: Mutex<BTreeSet<QueueName>>,
    ledgers: Mutex<HashMap<QueueName, Vec<Weak<Ledger>>>>,
}

impl Registry {
    /// The queue exists.
    pub(super) fn found(&self, queue: &QueueName) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(queue.clone());
    }

    /// The queue does not exist.
    pub(super) fn missing(&self, queue: &QueueName) {
        self.known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(queue);
    }

    /// The queues that were found and not missed since, in name order.
    pub(super) fn known(&self) -> Vec<QueueName> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().cloned().collect()
    }

    /// Deliveries from `queue` are recorded in `ledger` from now on.
    pub(super) fn add(&self, queue: &QueueName, ledger: &Arc<Ledger>) {
        self.found(queue);
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        ledgers.retain(|_, of_queue| {
            of_queue.retain(|ledger| ledger.strong_count() > 0);
            !of_queue.is_empty()
        });
        ledgers
            .entry(queue.clone())
            .or_default()
            .push(Arc::downgrade(ledger));
    }

    /// Unsettled deliveries from `queue` in this process.
    pub(super) fn unsettled(&self, queue: &QueueName) -> u64 {
        let ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_queue = ledgers.get(queue).into_iter().flatten();
        let counts = of_queue
            .filter_map(Weak::upgrade)
            .map(|ledger| ledger.open_by(|_| true));
        counts.sum::<usize>() as u64
    }
}
