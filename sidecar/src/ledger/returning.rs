//! Giving deliveries back to their queue before they are done: at the end, and when others should have them.
//!
//! Dropping an entry drops its receipt unsettled, which returns the message.

use super::entry::{Entry, EntryId, State};
use super::{Inner, Ledger};

impl Ledger {
    /// Stops handing out work to slots: what runs goes on, what waits stays.
    pub(crate) fn start_draining(&self) {
        self.lock().draining = true;
    }

    /// Returns every delivery that has not been given to a runtime to the queue, at once. Returns how many.
    pub(crate) fn return_waiting(&self) -> usize {
        self.return_where(|state| matches!(state, State::Arrived | State::Ready { .. }))
    }

    /// Returns up to `count` deliveries that have not been given to a runtime to the queue, the newest first. Returns
    /// how many.
    pub(crate) fn return_surplus(&self, count: usize) -> usize {
        if count == 0 {
            return 0;
        }
        let mut inner = self.lock();
        let newest = inner.to_admit.iter().rev().chain(inner.to_run.iter().rev());
        let ids: Vec<_> = newest.take(count).copied().collect();
        let returned: Vec<_> = ids.iter().filter_map(|id| inner.forget(*id)).collect();
        drop(inner);
        returned.len()
    }

    /// Returns every delivery to the queue, whatever its state. Returns how many.
    pub(crate) fn return_all(&self) -> usize {
        self.return_where(|_| true)
    }

    fn return_where(&self, gone: impl Fn(&State) -> bool) -> usize {
        let mut inner = self.lock();
        let ids: Vec<_> = inner
            .entries
            .iter()
            .filter(|(_, entry)| gone(&entry.state))
            .map(|(id, _)| *id)
            .collect();
        let returned: Vec<_> = ids.iter().filter_map(|id| inner.forget(*id)).collect();
        let empty = inner.entries.is_empty();
        drop(inner);
        if empty {
            self.emptied.notify_waiters();
        }
        returned.len() // Dropping the entries drops their receipts unsettled, which returns the messages.
    }

    /// Waits until no delivery is unsettled.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.lock().entries.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl Inner {
    /// Removes an entry from the map and from whichever queue names it.
    fn forget(&mut self, id: EntryId) -> Option<Entry> {
        if let Some(State::Assigned { slot, .. }) = self.entries.get(&id).map(|entry| &entry.state) {
            let slot = *slot;
            self.released(id, slot);
        }
        let entry = self.entries.remove(&id)?;
        match &entry.state {
            State::Arrived => self.to_admit.retain(|queued| *queued != id),
            State::Ready { .. } => self.to_run.retain(|queued| *queued != id),
            State::Replied { .. } => self.to_route.retain(|queued| *queued != id),
            State::Planned(_) => self.to_publish.retain(|queued| *queued != id),
            State::Settling(_) => self.to_settle.retain(|queued| *queued != id),
            State::Admitting { .. }
            | State::Assigned { .. }
            | State::Routing { .. }
            | State::Publishing { .. }
            | State::Acking { .. }
            | State::Moving => {}
        }
        Some(entry)
    }
}
