//! What slots do with deliveries: take them, give them back, bring what became of them.
//!
//! A slot that calls the runtime for one delivery at a time and a slot that has many under way on one connection use
//! the same states; the second takes and brings many under one lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_runtime_protocol::Envelope;

use super::entry::{CallEnd, CallOutcome, Cancelled, EntryId, Generation, Isolation, State, Streamed};
use super::recovery::MAX_CRASHES;
use super::{Inner, Ledger};
use crate::admission::Work;
use crate::worker::share;

/// Times that a runtime may close the connection of one message unread before that becomes its outcome.
const MAX_UNREAD: u32 = 5;

/// A delivery that was given to a slot.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) id: EntryId,
    pub(crate) work: Arc<Work>,
    pub(crate) isolation: Isolation,
}

/// A call that a slot reports as ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: EntryId,
    pub(crate) outcome: CallOutcome,
    pub(crate) streamed: Streamed,
    pub(crate) took: Duration,
}

/// What waits for slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunQueue {
    /// Deliveries that may run together, from the front of the queue.
    pub(crate) ready: usize,
    /// The first of them is one that runs alone.
    pub(crate) alone: bool,
    /// Since when the first one waits.
    pub(crate) since: Option<Instant>,
    /// All that wait for slots.
    pub(crate) waiting: usize,
    /// All that slots have.
    pub(crate) running: usize,
    /// Whether deliveries are here that were not looked at yet.
    pub(crate) more: bool,
}

impl Ledger {
    /// The next delivery for an idle slot, or `None` when there is none that may run now.
    ///
    /// A suspect (a message that was delivered more often than the limit) runs alone: it waits for running work to
    /// end, and nothing else starts while it runs (rulings 1). What may have ended its worker runs alone in its slot.
    pub(crate) fn assign(&self, slot: usize, generation: Generation) -> Option<(EntryId, Arc<Work>)> {
        let next = self.lock().assign(slot, generation, true, true)?;
        Some((next.id, next.work))
    }

    /// Up to `start` deliveries for a slot to run now, and up to `ahead` more to be run after them; of both no more than
    /// its share of what waits, so that each of `workers` gets some.
    pub(crate) fn assign_many(
        &self,
        slot: usize,
        generation: Generation,
        start: usize,
        ahead: usize,
        workers: usize,
    ) -> Vec<Assignment> {
        let mut inner = self.lock();
        let mut assigned = Vec::new();
        let start = start.min(inner.to_run.len().div_ceil(workers.max(1)));
        while assigned.len() < start
            && let Some(next) = inner.assign(slot, generation, true, false)
        {
            assigned.push(next);
        }
        let ahead = ahead.min(share(inner.to_run.len(), workers));
        let later = (0..ahead).map_while(|_| inner.assign(slot, generation, false, false));
        assigned.extend(later);
        assigned
    }

    /// What waits for slots, counted up to `most`.
    pub(crate) fn run_queue(&self, most: usize) -> RunQueue {
        let inner = self.lock();
        let first = inner.to_run.front().and_then(|id| inner.entries.get(id));
        let (alone, since) = match first.map(|entry| (entry, &entry.state)) {
            Some((entry, State::Ready { work, since })) => {
                (entry.isolation(work) > Isolation::None, Some(*since))
            }
            _ => (false, None),
        };
        let together = inner.to_run.iter().take(most).take_while(|id| {
            inner.entries.get(id).is_some_and(
                |entry| matches!(&entry.state, State::Ready { work, .. } if entry.isolation(work) == Isolation::None),
            )
        });
        RunQueue {
            ready: together.count(),
            alone,
            since,
            waiting: inner.to_run.len(),
            running: inner.assigned,
            more: !inner.to_admit.is_empty(),
        }
    }

    /// A slot's call has ended with an outcome.
    pub(crate) fn replied(&self, id: EntryId, slot: usize, generation: Generation, outcome: CallOutcome) {
        let mut inner = self.lock();
        if let Some((work, since)) = inner.unassign(id, slot, generation) {
            let took = since.map(|since| since.elapsed()).unwrap_or_default();
            inner.end_call(id, work, took, outcome, Streamed::default());
        }
    }

    /// Calls of a slot have ended, and so those of `started` have begun to run. True if nothing was allowed to run beside
    /// one of those that ended.
    pub(crate) fn hand_over(
        &self,
        slot: usize,
        generation: Generation,
        ended: Vec<Ended>,
        started: &[EntryId],
    ) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let one_ran_alone = inner.one_runs_alone;
        for call in ended {
            if let Some((work, _)) = inner.unassign(call.id, slot, generation) {
                inner.end_call(call.id, work, call.took, call.outcome, call.streamed);
            }
        }
        let now = Instant::now();
        for id in started {
            if let Some(State::Assigned {
                since,
                slot: held_by,
                generation: held,
                ..
            }) = inner.entries.get_mut(id).map(|entry| &mut entry.state)
                && (*held_by, *held) == (slot, generation)
            {
                since.get_or_insert(now);
            }
        }
        one_ran_alone && !inner.one_runs_alone
    }

    /// The runtime was not reachable: the delivery has not been tried and waits, first in line.
    pub(crate) fn unassigned(&self, id: EntryId, slot: usize, generation: Generation) {
        self.give_back(slot, generation, &[id], Isolation::None);
    }

    /// Deliveries of a slot, oldest first, wait again and are the first in line. They run apart if one of them, nobody
    /// knows which, may have ended its worker.
    pub(crate) fn give_back(
        &self,
        slot: usize,
        generation: Generation,
        ids: &[EntryId],
        isolation: Isolation,
    ) {
        let mut inner = self.lock();
        for id in ids.iter().rev() {
            let Some((work, _)) = inner.unassign(*id, slot, generation) else {
                continue;
            };
            if let Some(entry) = inner.entries.get_mut(id) {
                entry.isolation = entry.isolation.max(isolation);
            }
            inner.run_again(*id, work);
        }
    }

    /// The runtime went away without reading the request: as [`unassigned`](Self::unassigned), but a message that this
    /// happens to again and again may be the cause, and gets `text` as its outcome.
    pub(crate) fn unread(&self, id: EntryId, slot: usize, generation: Generation, text: String) {
        let unread = self.lock().entries.get_mut(&id).map_or(0, |entry| {
            entry.unread += 1;
            entry.unread
        });
        if unread > MAX_UNREAD {
            self.replied(id, slot, generation, CallOutcome::Unread(text));
        } else {
            self.unassigned(id, slot, generation);
        }
    }

    /// Runs that have been going on for longer than their own time limit plus `margin` at `now`: the slot's own
    /// timeout has not worked. They are given the outcome here, and the slots named are to be killed.
    pub(crate) fn overdue(&self, now: Instant, margin: Duration) -> Vec<usize> {
        let late: Vec<_> = self
            .lock()
            .entries
            .iter()
            .filter_map(|(id, entry)| match &entry.state {
                State::Assigned {
                    slot,
                    generation,
                    since: Some(since),
                    limit: Some(limit),
                    ..
                } if now.saturating_duration_since(*since) > *limit + margin => {
                    Some((*id, *slot, *generation))
                }
                _ => None,
            })
            .collect();
        for (id, slot, generation) in &late {
            self.replied(*id, *slot, *generation, CallOutcome::SlotStuck);
        }
        late.into_iter().map(|(_, slot, _)| slot).collect()
    }

    /// Ends the envelopes that are meant wherever they wait or run here; false if none does. Who runs one finds it in
    /// [`take_cancelled`](Self::take_cancelled).
    pub(crate) fn cancel(&self, is_meant: impl Fn(&Envelope) -> bool, why: Cancelled) -> bool {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut waiting = Vec::new();
        let mut running = Vec::new();
        let mut found = false;
        for (id, entry) in &mut inner.entries {
            match &entry.state {
                State::Ready { work, .. } if is_meant(&work.envelope) => {
                    waiting.push((*id, Arc::clone(work)));
                }
                State::Assigned { work, slot, .. } if is_meant(&work.envelope) => {
                    if entry.cancelled.is_none() {
                        running.push((*slot, *id));
                    } else {
                        found = true;
                    }
                }
                _ => continue,
            }
            entry.cancelled = entry.cancelled.max(Some(why));
        }
        found |= !waiting.is_empty() || !running.is_empty();
        for (id, work) in waiting {
            inner.to_run.retain(|queued| *queued != id);
            inner.end_call(id, work, Duration::ZERO, why.outcome(), Streamed::default());
        }
        inner.to_cancel.extend(running);
        found
    }

    /// The running calls of a slot that were cancelled since it last asked.
    pub(crate) fn take_cancelled(&self, slot: usize) -> Vec<EntryId> {
        let mut inner = self.lock();
        if inner.to_cancel.is_empty() {
            return Vec::new();
        }
        let (own, others) = std::mem::take(&mut inner.to_cancel)
            .into_iter()
            .partition(|(of, _)| *of == slot);
        inner.to_cancel = others;
        own.into_iter().map(|(_, id)| id).collect()
    }
}

impl Inner {
    /// Gives the first waiting delivery to `slot`. One that runs alone, in its slot or in all of them, begins only when
    /// nothing else runs there, and nothing begins beside it.
    fn assign(
        &mut self,
        slot: usize,
        generation: Generation,
        starts: bool,
        is_limited: bool,
    ) -> Option<Assignment> {
        let hand = self.slots.entry(slot).or_default();
        let is_late = hand.generation.is_some_and(|present| present != generation);
        if self.one_runs_alone || hand.has_one_alone || self.draining || is_late {
            return None;
        }
        let id = *self.to_run.front()?;
        let entry = self.entries.get_mut(&id)?;
        let State::Ready { work, .. } = &entry.state else {
            unreachable!("the run queue holds only ready entries");
        };
        let work = Arc::clone(work);
        let isolation = entry.isolation(&work);
        let beside = match isolation {
            Isolation::None => 0,
            Isolation::Worker => hand.assigned,
            Isolation::Runtime => self.assigned,
        };
        if beside > 0 {
            return None;
        }
        let now = Instant::now();
        self.to_run.pop_front();
        self.assigned += 1;
        self.one_runs_alone = isolation == Isolation::Runtime;
        hand.assigned += 1;
        hand.has_one_alone = isolation == Isolation::Worker;
        entry.began.get_or_insert(now);
        entry.state = State::Assigned {
            work: Arc::clone(&work),
            slot,
            generation,
            since: starts.then_some(now),
            limit: is_limited.then_some(work.budget),
        };
        Some(Assignment { id, work, isolation })
    }

    /// Takes an entry out of the hand of `slot`, if it is still there under this generation.
    fn unassign(
        &mut self,
        id: EntryId,
        slot: usize,
        generation: Generation,
    ) -> Option<(Arc<Work>, Option<Instant>)> {
        let (work, since) = match &self.entries.get(&id)?.state {
            State::Assigned {
                work,
                slot: held_by,
                generation: held,
                since,
                ..
            } if *held_by == slot && *held == generation => (Arc::clone(work), *since),
            _ => return None,
        };
        self.released(id, slot);
        Some((work, since))
    }

    /// A delivery is in the hand of `slot` no more.
    pub(super) fn released(&mut self, id: EntryId, slot: usize) {
        self.assigned -= 1;
        if self.assigned == 0 {
            self.one_runs_alone = false;
        }
        let hand = self.slots.entry(slot).or_default();
        hand.assigned -= 1;
        if hand.assigned == 0 {
            hand.has_one_alone = false;
        }
        if !self.to_cancel.is_empty() {
            self.to_cancel.retain(|(_, cancelled)| *cancelled != id);
        }
    }

    /// A delivery whose run brought nothing waits again, unless it has crashed too often or nobody wants it any more.
    pub(super) fn run_again(&mut self, id: EntryId, work: Arc<Work>) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let known = match entry.cancelled {
            Some(why) => Some(why.outcome()),
            None => (entry.crashes >= MAX_CRASHES).then_some(CallOutcome::SlotCrashed),
        };
        if let Some(outcome) = known {
            self.end_call(id, work, Duration::ZERO, outcome, Streamed::default());
        } else {
            let since = Instant::now();
            entry.state = State::Ready { work, since };
            self.to_run.push_front(id);
        }
    }

    fn end_call(
        &mut self,
        id: EntryId,
        work: Arc<Work>,
        took: Duration,
        outcome: CallOutcome,
        streamed: Streamed,
    ) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let outcome = entry.cancelled.map_or(outcome, Cancelled::outcome);
        let call = CallEnd {
            outcome,
            streamed,
            took,
        };
        entry.state = State::Replied { work, call };
        self.to_route.push_back(id);
    }
}
