//! What happens to the work that a dead actor had in hand.
//!
//! Two separate questions: *put it back* (always, when the successor starts) and *charge it* (only when the actor
//! crashed by itself: then the delivery may be the cause, and at [`MAX_CRASHES`] it is taken out of the way before it
//! spends the restart budget of the tree). An actor that somebody killed charges nothing.

use std::sync::Arc;

use super::entry::{Entry, EntryId, Generation, Isolation, State};
use super::{Inner, Ledger};

/// Crashes with the same delivery in hand after which it is condemned.
pub(crate) const MAX_CRASHES: u32 = 2;

/// An actor that takes work out of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    Router,
    Slot(usize),
    Publisher,
    Acker,
}

impl Holder {
    fn holds(self, state: &State) -> bool {
        match (self, state) {
            (Self::Router, State::Admitting { .. } | State::Routing { .. })
            | (Self::Publisher, State::Publishing { .. })
            | (Self::Acker, State::Acking { .. }) => true,
            (Self::Slot(own), State::Assigned { slot, .. }) => own == *slot,
            _ => false,
        }
    }
}

impl Ledger {
    /// Charges a crash to whatever `holder` had in hand. Call it when the holder has failed by itself.
    ///
    /// Of several that a slot had in hand nobody knows which is to blame: each of them has a slot for itself from now on.
    pub(crate) fn charge(&self, holder: Holder) {
        let mut inner = self.lock();
        let held: Vec<_> = inner
            .entries
            .values_mut()
            .filter(|entry| holder.holds(&entry.state))
            .collect();
        if matches!(holder, Holder::Slot(_)) && held.len() > 1 {
            for entry in held {
                entry.isolation = entry.isolation.max(Isolation::Worker);
            }
        } else {
            for entry in held {
                entry.crashes += 1;
            }
        }
    }

    /// Puts back what an earlier incarnation of `holder` had in hand and returns the generation of the new one.
    pub(crate) fn recover(&self, holder: Holder) -> Generation {
        let generation = self.next_generation();
        let mut inner = self.lock();
        if let Holder::Slot(slot) = holder {
            inner.slots.entry(slot).or_default().generation = Some(generation);
        }
        let mut held: Vec<EntryId> = inner
            .entries
            .iter()
            .filter(|(_, entry)| holder.holds(&entry.state))
            .map(|(id, _)| *id)
            .collect();
        held.sort_unstable_by(|left, right| right.cmp(left)); // Newest first: each goes to the front of its queue.
        for id in held {
            inner.put_back(id);
        }
        generation
    }
}

impl Inner {
    fn put_back(&mut self, id: EntryId) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        match std::mem::replace(&mut entry.state, State::Moving) {
            State::Admitting { .. } => {
                entry.state = State::Arrived;
                self.to_admit.push_front(id);
            }
            State::Routing { work, call, .. } => {
                entry.state = State::Replied { work, call };
                self.to_route.push_front(id);
            }
            State::Assigned { work, slot, .. } => {
                self.released(id, slot);
                self.run_again(id, work);
            }
            State::Publishing { plan, .. } => {
                entry.state = State::Planned(Arc::clone(&plan));
                self.to_publish.push_front(id);
            }
            State::Acking { settlement, .. } => {
                entry.state = State::Settling(settlement);
                self.to_settle.push_front(id);
            }
            other => restore(entry, other),
        }
    }
}

/// Nothing was in hand after all.
fn restore(entry: &mut Entry, state: State) {
    entry.state = state;
}
