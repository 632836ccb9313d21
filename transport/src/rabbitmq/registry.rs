//! What this process knows about queues without asking the broker.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::clerk::Clerk;
use crate::QueueName;

#[derive(Debug, Default)]
pub(super) struct Registry {
    known: Mutex<BTreeSet<QueueName>>,
    clerks: Mutex<HashMap<QueueName, Vec<Weak<Clerk>>>>,
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

    /// Deliveries from `queue` are known to `clerk` from now on.
    pub(super) fn add(&self, queue: &QueueName, clerk: &Arc<Clerk>) {
        self.found(queue);
        let mut clerks = self.clerks.lock().unwrap_or_else(PoisonError::into_inner);
        clerks.retain(|_, of_queue| {
            of_queue.retain(|clerk| clerk.strong_count() > 0);
            !of_queue.is_empty()
        });
        clerks
            .entry(queue.clone())
            .or_default()
            .push(Arc::downgrade(clerk));
    }

    /// Unsettled deliveries from `queue` in this process.
    pub(super) fn unsettled(&self, queue: &QueueName) -> u64 {
        let clerks = self.clerks.lock().unwrap_or_else(PoisonError::into_inner);
        let of_queue = clerks.get(queue).into_iter().flatten();
        let counts = of_queue
            .filter_map(Weak::upgrade)
            .map(|clerk| clerk.ledger.open_by(|_| true));
        counts.sum::<usize>() as u64
    }
}
