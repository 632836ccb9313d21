//! The ledger: every unsettled delivery of one sidecar, and what is owed to it.
//!
//! The broker keeps a message until it is settled; the ledger keeps *our* obligation, and actors' mailboxes carry
//! only wake-ups. An actor takes its next piece of work out of the ledger, does it, and writes the result back; when
//! it dies, its successor asks the ledger to put back what the dead one had in hand. So no message is lost with a
//! mailbox, and a lost wake-up is repaired by the next one (or by the reaper).
//!
//! ```text
//! Arrived → Admitting → Ready → Assigned → Replied → Routing → Planned → Publishing → Settling → Acking → gone
//!                └────────────── refused, condemned ──────────────┘
//! ```
//!
//! It is not an actor: each operation is a short critical section with no I/O and no await. Every operation that
//! ends a piece of work carries the [`Generation`] under which the work was taken; work that has moved on since is
//! left alone and the late result is dropped.

mod entry;
mod observing;
mod recovery;
mod returning;
mod running;
mod streaming;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use asya_transport::{Delivery, Settlement, SharedReceipt};
use tokio::sync::Notify;

use crate::admission::Admission;
use crate::credit::Permit;
use crate::plan::Plan;
use entry::{Entry, State};

pub use entry::Stage;
pub(crate) use entry::{
    CallEnd, CallOutcome, Cancelled, EntryId, Generation, Isolation, RouterJob, Streamed,
};
pub(crate) use recovery::{Holder, MAX_CRASHES};
pub(crate) use running::{Assignment, Ended, RunQueue};

/// See the module documentation. Shared by all actors of one tree.
#[derive(Default)]
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    emptied: Notify,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    next_generation: u64,
    entries: HashMap<EntryId, Entry>,
    to_admit: VecDeque<EntryId>,
    to_run: VecDeque<EntryId>,
    to_route: VecDeque<EntryId>,
    to_publish: VecDeque<EntryId>,
    to_settle: VecDeque<EntryId>,
    slots: HashMap<usize, Hand>,
    assigned: usize,
    /// Something runs that nothing may run beside.
    one_runs_alone: bool,
    /// Running calls that somebody asked to end, and their slots, until these look.
    to_cancel: Vec<(usize, EntryId)>,
    draining: bool,
}

/// What one slot has in hand.
#[derive(Default)]
struct Hand {
    /// Its present incarnation. One before it may still be about to end, and gets nothing more.
    generation: Option<Generation>,
    assigned: usize,
    /// It has something that nothing may run beside in the same slot.
    has_one_alone: bool,
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // The critical sections do not panic; if one ever did, the entries are still the best knowledge there is.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fresh generation for an actor that starts.
    pub(crate) fn next_generation(&self) -> Generation {
        let mut inner = self.lock();
        inner.next_generation += 1;
        Generation(inner.next_generation)
    }

    /// Records a delivery. From here on it leaves only by being settled or returned.
    pub(crate) fn insert(&self, delivery: Delivery, permit: Permit) {
        let mut inner = self.lock();
        inner.next_id += 1;
        let id = EntryId(inner.next_id);
        inner.entries.insert(id, Entry::new(delivery, permit));
        inner.to_admit.push_back(id);
    }

    /// The router's next piece of work: replies before new arrivals, so that work in progress ends first.
    pub(crate) fn take_for_router(&self, generation: Generation) -> Option<RouterJob> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        if let Some(id) = inner.to_route.pop_front() {
            let entry = inner.entries.get_mut(&id)?;
            let State::Replied { work, call } = std::mem::replace(&mut entry.state, State::Moving) else {
                unreachable!("the routing queue holds only replied entries");
            };
            entry.state = State::Routing {
                work: Arc::clone(&work),
                call: call.clone(),
                generation,
            };
            return Some(RouterJob::Route {
                id,
                work,
                call,
                delivery: entry.facts(),
            });
        }
        let id = inner.to_admit.pop_front()?;
        let entry = inner.entries.get_mut(&id)?;
        entry.state = State::Admitting { generation };
        Some(RouterJob::Admit {
            id,
            body: entry.delivery.body.clone(),
            delivery: entry.facts(),
        })
    }

    /// The router has decided what to do with a new arrival.
    pub(crate) fn admitted(&self, id: EntryId, generation: Generation, admission: Admission) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let Some(entry) = inner.entries.get_mut(&id) else {
            return;
        };
        if !matches!(entry.state, State::Admitting { generation: held } if held == generation) {
            return;
        }
        match admission {
            Admission::Run(work) => {
                let since = Instant::now();
                entry.state = State::Ready { work, since };
                inner.to_run.push_back(id);
            }
            Admission::Refuse(plan) => inner.plan(id, *plan),
        }
    }

    /// The router has turned a reply into a plan.
    pub(crate) fn routed(&self, id: EntryId, generation: Generation, plan: Plan) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get(&id) else {
            return;
        };
        if matches!(entry.state, State::Routing { generation: held, .. } if held == generation) {
            inner.plan(id, plan);
        }
    }

    /// The publisher's next plan.
    pub(crate) fn take_for_publisher(&self, generation: Generation) -> Option<(EntryId, Arc<Plan>)> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let id = inner.to_publish.pop_front()?;
        let entry = inner.entries.get_mut(&id)?;
        let State::Planned(plan) = &entry.state else {
            unreachable!("the publish queue holds only planned entries");
        };
        let plan = Arc::clone(plan);
        entry.state = State::Publishing {
            plan: Arc::clone(&plan),
            generation,
        };
        Some((id, plan))
    }

    /// Every message of the plan is confirmed: the delivery may be settled, and not before; items of its stream may still
    /// hold it up. Tells how long that took since its call of the runtime; `None` when the work had moved on.
    pub(crate) fn published(
        &self,
        id: EntryId,
        generation: Generation,
        settlement: Settlement,
    ) -> Option<Duration> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let entry = inner.entries.get_mut(&id)?;
        if !matches!(entry.state, State::Publishing { generation: held, .. } if held == generation) {
            return None;
        }
        entry.state = State::Settling(settlement);
        if entry.unconfirmed == 0 {
            inner.to_settle.push_back(id);
        }
        entry.began.map(|began| began.elapsed())
    }

    /// The acker's next settlement.
    pub(crate) fn take_for_acker(
        &self,
        generation: Generation,
    ) -> Option<(EntryId, SharedReceipt, Settlement)> {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let id = inner.to_settle.pop_front()?;
        let entry = inner.entries.get_mut(&id)?;
        let State::Settling(settlement) = entry.state else {
            unreachable!("the settle queue holds only settling entries");
        };
        entry.state = State::Acking {
            settlement,
            generation,
        };
        Some((id, Arc::clone(&entry.delivery.receipt), settlement))
    }

    /// The broker has taken note of the settlement: the entry is gone and its credit returns. Tells how long that
    /// took since the plan was made.
    pub(crate) fn settled(&self, id: EntryId, generation: Generation) -> Option<Duration> {
        let mut inner = self.lock();
        let held = inner.entries.get(&id).map(|entry| &entry.state);
        if !matches!(held, Some(State::Acking { generation: held, .. }) if *held == generation) {
            return None;
        }
        let entry = inner.entries.remove(&id);
        let planned = entry.as_ref().and_then(|entry| entry.planned);
        let empty = inner.entries.is_empty();
        drop(inner);
        drop(entry); // The permit's wake-up happens outside the lock.
        if empty {
            self.emptied.notify_waiters();
        }
        planned.map(|planned| planned.elapsed())
    }
}

impl Inner {
    fn plan(&mut self, id: EntryId, plan: Plan) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.state = State::Planned(Arc::new(plan));
            let now = Instant::now();
            entry.began.get_or_insert(now);
            entry.planned = Some(now);
            self.to_publish.push_back(id);
        }
    }
}
