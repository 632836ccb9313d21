//! The unanswered requests of one worker, oldest first: which of them run, until when, and which were asked to end.
//!
//! A plain structure without I/O. A request *begins* when it is among the oldest that the worker may run at once; what
//! was written ahead has not begun, and its time does not run.
//!
//! A request whose delivery was taken from it while its worker may still run it stays as a *ghost*: it has its place in
//! the window, its time, and its part when it is asked who is to blame, until the worker answers it or is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::admission::Work;
use crate::ledger::{CallOutcome, EntryId, Streamed};
use crate::publishing::Patience;

/// What was written ahead is called back once the oldest request has run for so long: it was meant to be run within a few
/// milliseconds.
const RECALL: Duration = Duration::from_millis(100);

/// Why a request was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its time was over.
    Deadline,
    /// Somebody wanted it to.
    Cancelled,
}

/// One unanswered request.
#[derive(Debug)]
pub(crate) struct Flight {
    /// The delivery that waits for it; none for a ghost.
    pub(crate) entry: Option<EntryId>,
    pub(crate) work: Arc<Work>,
    pub(crate) tag: u32,
    /// Nothing ran beside it in its whole runtime.
    pub(crate) is_isolated: bool,
    /// It is one of several of one call.
    pub(crate) in_batch: bool,
    /// Number of the call; the requests of a batch share one.
    pub(crate) call: u64,
    /// How long it may run; of a batch, how long the call may that it is a part of.
    pub(crate) budget: Duration,
    /// After how long nobody waits for it any more, where that is sooner.
    pub(crate) late_after: Duration,
    pub(crate) began: Option<Instant>,
    phase: Phase,
    /// When it was called back before it began, because what runs before it takes long.
    pub(crate) recalled: Option<Instant>,
    /// Items of it that came before its reply.
    pub(crate) streamed: Streamed,
    /// How long their queues may be missing.
    pub(crate) patience: Option<Arc<Patience>>,
    /// Number of the next intermediate result.
    pub(crate) partials: u64,
    /// Its outcome, where that is known before its reply comes.
    pub(crate) spoiled: Option<CallOutcome>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Running,
    Asked { why: Asked, until: Instant },
    Killed { why: Asked, at: Instant },
}

impl Flight {
    /// A request that was sent just now.
    pub(crate) fn new(id: EntryId, work: Arc<Work>, tag: u32, budget: Duration) -> Self {
        Self {
            entry: Some(id),
            work,
            tag,
            is_isolated: false,
            in_batch: false,
            call: 0,
            budget,
            late_after: budget,
            began: None,
            phase: Phase::Running,
            recalled: None,
            streamed: Streamed::default(),
            patience: None,
            partials: 0,
            spoiled: None,
        }
    }

    /// Why it was asked to end, if it was.
    pub(crate) fn asked(&self) -> Option<Asked> {
        match self.phase {
            Phase::Running => None,
            Phase::Asked { why, .. } | Phase::Killed { why, .. } => Some(why),
        }
    }

    /// Whether its answer comes too late now, though its call may go on.
    pub(crate) fn is_late(&self) -> bool {
        let limit = self.late_after;
        limit < self.budget && self.began.is_some_and(|began| began.elapsed() > limit)
    }

    /// Whether it was written ahead and nobody has called it back yet.
    fn can_be_recalled(&self) -> bool {
        self.began.is_none() && self.recalled.is_none() && self.entry.is_some()
    }

    /// When something is to be done about it next.
    fn due(&self, patience: Duration) -> Option<Instant> {
        match self.phase {
            Phase::Running => match self.began {
                Some(began) => began.checked_add(self.budget),
                None => self.entry.and(self.recalled).map(|at| at + RECALL),
            },
            Phase::Asked { until, .. } => Some(until),
            Phase::Killed { at, .. } => Some(at + patience),
        }
    }
}

/// What is to be done about a request whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// Ask it to end.
    Ask(u32),
    /// Replace its worker: it did not end.
    Kill(u32),
    /// Nothing has come of that either.
    Lost,
    /// It was called back, and its worker is still busy with another: somebody else may run it.
    Drop(u32),
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Flights {
    window: usize,
    /// How long a request may take to end after it was asked to.
    grace: Duration,
    /// How long a killed worker may take to be gone.
    patience: Duration,
    list: VecDeque<Flight>,
    begun: usize,
    calls: u64,
}

impl Flights {
    pub(crate) fn new(window: usize, grace: Duration, patience: Duration) -> Self {
        Self {
            window: window.max(1),
            grace,
            patience,
            list: VecDeque::new(),
            begun: 0,
            calls: 0,
        }
    }

    /// Requests that may begin at once.
    pub(crate) fn free(&self) -> usize {
        self.window.saturating_sub(self.list.len())
    }

    /// Requests that have not begun.
    pub(crate) fn ahead(&self) -> usize {
        self.list.len() - self.begun
    }

    /// A number for a new call.
    pub(crate) fn next_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Calls that are not answered as a whole.
    pub(crate) fn calls(&self) -> usize {
        let mut last = 0;
        let is_another = |flight: &&Flight| std::mem::replace(&mut last, flight.call) != flight.call;
        self.list.iter().filter(is_another).count()
    }

    pub(crate) fn push(&mut self, flight: Flight) {
        self.list.push_back(flight);
    }

    /// Notes which requests have begun, and names the deliveries that wait for them.
    pub(crate) fn begin(&mut self, now: Instant) -> Vec<EntryId> {
        let running = self.window.min(self.list.len());
        let newly = self.list.range_mut(self.begun.min(running)..running);
        let names = newly
            .filter_map(|flight| {
                flight.began = Some(now);
                flight.entry
            })
            .collect();
        self.begun = running;
        names
    }

    pub(crate) fn get_mut(&mut self, tag: u32) -> Option<&mut Flight> {
        self.list.iter_mut().find(|flight| flight.tag == tag)
    }

    /// Whether a request has begun to run, as far as it is here.
    pub(crate) fn has_begun(&self, tag: u32) -> bool {
        self.list.range(..self.begun).any(|flight| flight.tag == tag)
    }

    pub(crate) fn tag_of(&self, id: EntryId) -> Option<u32> {
        self.list
            .iter()
            .find(|flight| flight.entry == Some(id))
            .map(|flight| flight.tag)
    }

    /// Requests that begin together with the newest: all of its batch, else itself alone.
    pub(crate) fn in_newest_call(&self) -> usize {
        let Some(newest) = self.list.back() else {
            return 0;
        };
        if newest.in_batch {
            self.list
                .iter()
                .filter(|flight| flight.call == newest.call)
                .count()
        } else {
            1
        }
    }

    /// The tag of the oldest request.
    pub(crate) fn first_tag(&self) -> Option<u32> {
        self.list.front().map(|flight| flight.tag)
    }

    /// Makes a ghost of a request and gives its delivery back.
    pub(crate) fn release(&mut self, tag: u32) -> Option<EntryId> {
        self.get_mut(tag)?.entry.take()
    }

    /// Takes out a request that was answered.
    pub(crate) fn end(&mut self, tag: u32) -> Option<Flight> {
        let at = self.list.iter().position(|flight| flight.tag == tag)?;
        if at < self.begun {
            self.begun -= 1;
        }
        self.list.remove(at)
    }

    /// Takes out all of them: their worker is lost.
    pub(crate) fn end_all(&mut self) -> VecDeque<Flight> {
        self.begun = 0;
        std::mem::take(&mut self.list)
    }

    /// A request that runs is asked to end at `now`; false if it does not run, or was asked already.
    pub(crate) fn ask(&mut self, tag: u32, why: Asked, now: Instant) -> bool {
        let until = now + self.grace;
        match self.get_mut(tag) {
            Some(flight) if flight.asked().is_none() && flight.began.is_some() => {
                flight.phase = Phase::Asked { why, until };
                true
            }
            _ => false,
        }
    }

    /// When [`overdue`](Self::overdue) or [`recall`](Self::recall) has something to say at the earliest.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let overdue = self
            .list
            .iter()
            .filter_map(|flight| flight.due(self.patience))
            .min();
        let has_ahead = self.list.range(self.begun..).any(Flight::can_be_recalled);
        let recall = self
            .first_began()
            .filter(|_| has_ahead)
            .map(|began| began + RECALL);
        overdue.into_iter().chain(recall).min()
    }

    /// When the oldest request began to run.
    pub(crate) fn first_began(&self) -> Option<Instant> {
        self.list.front().and_then(|flight| flight.began)
    }

    /// The requests that have not begun and should be had back at `now`, because the oldest takes long: others may run
    /// them, here or elsewhere. Notes them as recalled.
    pub(crate) fn recall(&mut self, now: Instant) -> Vec<u32> {
        if self.first_began().is_none_or(|began| began + RECALL > now) {
            return Vec::new();
        }
        let mut tags = Vec::new();
        for flight in self.list.range_mut(self.begun..) {
            if flight.can_be_recalled() {
                flight.recalled = Some(now);
                tags.push(flight.tag);
            }
        }
        tags
    }

    /// What is to be done at `now`, and notes it as done.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Overdue> {
        let patience = self.patience;
        let until = now + self.grace;
        let mut steps = Vec::new();
        for flight in &mut self.list {
            if flight.due(patience).is_none_or(|due| due > now) {
                continue;
            }
            let (phase, step) = match flight.phase {
                Phase::Running if flight.began.is_none() => {
                    steps.push(Overdue::Drop(flight.tag));
                    continue;
                }
                Phase::Running => {
                    let why = Asked::Deadline;
                    (Phase::Asked { why, until }, Overdue::Ask(flight.tag))
                }
                Phase::Asked { why, .. } => (Phase::Killed { why, at: now }, Overdue::Kill(flight.tag)),
                Phase::Killed { why, .. } => (Phase::Killed { why, at: now }, Overdue::Lost),
            };
            flight.phase = phase;
            steps.push(step);
        }
        steps
    }

    /// The worker was held up by us for so long: that is no request's fault.
    pub(crate) fn excuse(&mut self, held_up: Duration) {
        for flight in &mut self.list {
            flight.began = flight.began.map(|began| began + held_up);
            if let Phase::Asked { until, .. } = &mut flight.phase {
                *until += held_up;
            }
        }
    }
}

#[cfg(test)]
#[path = "flights/tests.rs"]
mod tests;
