//! Items that are published while a call goes on: a delivery is not settled while one of them is not confirmed.

use super::Ledger;
use super::entry::{Cancelled, EntryId, Generation, State};

impl Ledger {
    /// `count` items of a delivery in the hand of a slot are to be published. False if the slot does not have it any more:
    /// then nothing is to be, since another run makes them again. Nor is anything of an envelope that goes nowhere.
    #[must_use]
    pub(crate) fn streams(&self, id: EntryId, slot: usize, generation: Generation, count: usize) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(&id) else {
            return false;
        };
        let is_held = matches!(
            entry.state,
            State::Assigned { slot: held_by, generation: held, .. } if (held_by, held) == (slot, generation)
        );
        let goes_on = is_held && entry.cancelled != Some(Cancelled::Noticed);
        if goes_on {
            entry.unconfirmed += count;
        }
        goes_on
    }

    /// One of them is confirmed. True if the delivery has waited for that alone, and is to be settled now.
    pub(crate) fn confirmed(&self, id: EntryId) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(entry) = inner.entries.get_mut(&id) else {
            return false; // It has gone back to its queue.
        };
        entry.unconfirmed -= 1;
        let may_settle = entry.unconfirmed == 0 && matches!(entry.state, State::Settling(_));
        if may_settle {
            inner.to_settle.push_back(id);
        }
        may_settle
    }
}
