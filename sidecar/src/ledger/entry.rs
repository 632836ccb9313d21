//! One unsettled delivery and the states it goes through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_runtime_protocol::ReplyItem;
use asya_transport::{Delivery, Settlement};
use bytes::Bytes;

use crate::admission::{DeliveryFacts, Work};
use crate::credit::Permit;
use crate::death::Death;
use crate::plan::Plan;

/// Identity of a ledger entry inside one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EntryId(pub(super) u64);

#[cfg(test)]
impl EntryId {
    pub(crate) const fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// Which incarnation of an actor took a piece of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(pub(super) u64);

/// A delivery and our obligation towards it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) delivery: Delivery,
    pub(super) state: State,
    /// How often an actor crashed with this entry in its hand.
    pub(super) crashes: u32,
    /// How often the runtime closed the connection without reading the request.
    pub(super) unread: u32,
    /// It ran beside others when its worker was lost, and may be why: it runs apart from now on.
    pub(super) isolation: Isolation,
    /// Somebody does not want it any more: whatever its run brings, that is its outcome.
    pub(super) cancelled: Option<Cancelled>,
    /// Items of its stream, of all of its runs, that are being published. It is not settled before they are confirmed.
    pub(super) unconfirmed: usize,
    /// When it was first handed to a runtime, or else planned.
    pub(super) began: Option<Instant>,
    /// When it was decided what is to be published.
    pub(super) planned: Option<Instant>,
    _permit: Permit,
}

impl Entry {
    pub(super) fn new(delivery: Delivery, permit: Permit) -> Self {
        Self {
            delivery,
            state: State::Arrived,
            crashes: 0,
            unread: 0,
            isolation: Isolation::None,
            cancelled: None,
            unconfirmed: 0,
            began: None,
            planned: None,
            _permit: permit,
        }
    }

    /// Where it stands as an observer sees it: what waits for items of its stream is still being published.
    pub(super) const fn stage(&self) -> Stage {
        match &self.state {
            State::Settling(_) if self.unconfirmed > 0 => Stage::Publishing,
            state => state.stage(),
        }
    }

    /// What may run beside it.
    pub(super) fn isolation(&self, work: &Work) -> Isolation {
        if work.suspect {
            Isolation::Runtime
        } else {
            self.isolation
        }
    }

    pub(super) fn facts(&self) -> DeliveryFacts {
        DeliveryFacts {
            message_id: self.delivery.message_id.clone(),
            deliveries: self.delivery.deliveries,
            crashes: self.crashes,
        }
    }
}

/// Who does not want an envelope any more. Of two that say so, the greater counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cancelled {
    /// Somebody here: it becomes a failure, so that there is a record of it.
    Asked,
    /// Somebody who has the record of it: it goes nowhere.
    Noticed,
}

impl Cancelled {
    pub(super) const fn outcome(self) -> CallOutcome {
        match self {
            Self::Asked => CallOutcome::Cancelled,
            Self::Noticed => CallOutcome::Revoked,
        }
    }
}

/// What may not run beside a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Isolation {
    /// Anything may.
    None,
    /// Nothing in the same slot: if its worker is lost, it was this one.
    Worker,
    /// Nothing in any slot: if the runtime as a whole is lost, it was this one.
    Runtime,
}

/// Where an entry stands. Only the ledger changes it.
#[derive(Debug)]
pub(super) enum State {
    /// Received, not looked at.
    Arrived,
    /// In the router's hand, being parsed.
    Admitting { generation: Generation },
    /// Waits for a slot.
    Ready { work: Arc<Work>, since: Instant },
    /// In the hand of a slot.
    Assigned {
        work: Arc<Work>,
        slot: usize,
        generation: Generation,
        /// When it began to run; not yet, if it was written ahead.
        since: Option<Instant>,
        /// How long the slot may be with it; none for a slot that watches the time of many by itself.
        limit: Option<Duration>,
    },
    /// The call has ended.
    Replied { work: Arc<Work>, call: CallEnd },
    /// In the router's hand, being routed.
    Routing {
        work: Arc<Work>,
        call: CallEnd,
        generation: Generation,
    },
    /// What is to be published is known.
    Planned(Arc<Plan>),
    /// The publisher waits for the confirms of all of it.
    Publishing { plan: Arc<Plan>, generation: Generation },
    /// All of the plan is confirmed; the delivery is to be settled, once the items of its stream are confirmed too.
    Settling(Settlement),
    /// The acker waits for the broker's note.
    Acking {
        settlement: Settlement,
        generation: Generation,
    },
    /// Between two states inside one critical section; never seen from outside.
    Moving,
}

impl State {
    pub(super) const fn stage(&self) -> Stage {
        match self {
            Self::Arrived | Self::Admitting { .. } => Stage::Arrived,
            Self::Ready { .. } => Stage::Ready,
            Self::Assigned { .. } => Stage::Running,
            Self::Replied { .. } | Self::Routing { .. } | Self::Moving => Stage::Routing,
            Self::Planned(_) | Self::Publishing { .. } => Stage::Publishing,
            Self::Settling(_) | Self::Acking { .. } => Stage::Settling,
        }
    }
}

/// The states as an observer sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Received, being parsed.
    Arrived,
    /// Waits for a runtime slot.
    Ready,
    /// The handler runs.
    Running,
    /// The handler has answered; the outputs are being decided.
    Routing,
    /// Outputs are on their way to the broker.
    Publishing,
    /// Outputs are confirmed; the input is being settled.
    Settling,
}

impl Stage {
    /// All of them, in the order of a message's way.
    pub const ALL: [Self; 6] = [
        Self::Arrived,
        Self::Ready,
        Self::Running,
        Self::Routing,
        Self::Publishing,
        Self::Settling,
    ];

    /// One lower-case word, for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Routing => "routing",
            Self::Publishing => "publishing",
            Self::Settling => "settling",
        }
    }
}

/// A call of the runtime that has ended.
#[derive(Debug, Clone)]
pub(crate) struct CallEnd {
    pub(crate) outcome: CallOutcome,
    /// What it has told before it ended.
    pub(crate) streamed: Streamed,
    /// From its beginning to its end; zero if it never began.
    pub(crate) took: Duration,
}

/// Items that came before the end of a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Streamed {
    /// Items that are being published, or are confirmed already.
    pub(crate) sent: usize,
    /// The first item, while it is not known whether there are others.
    pub(crate) held: Option<Box<ReplyItem>>,
    /// What the first of them that was an error said.
    pub(crate) failure: Option<String>,
}

/// How a call of the runtime ended.
#[derive(Debug, Clone)]
pub(crate) enum CallOutcome {
    /// A reply frame came back.
    Reply(Bytes),
    /// The exchange failed after the runtime may have seen the request; the text is for people.
    Broken(String),
    /// The runtime closed the connection without reading the request, again and again.
    Unread(String),
    /// The runtime answered with something that cannot be used.
    Unusable(String),
    /// No answer within the time limit.
    Timeout,
    /// The worker process that ran it alone has ended.
    Died(Death),
    /// Somebody asked to end it.
    Cancelled,
    /// Somebody who keeps the record of it does not want it any more.
    Revoked,
    /// Its deadline passed while it waited.
    Expired,
    /// The slot itself hung past the limit and was killed.
    SlotStuck,
    /// The slot crashed with this delivery too often.
    SlotCrashed,
}

/// A piece of work for the router.
#[derive(Debug)]
pub(crate) enum RouterJob {
    /// Look at a new arrival.
    Admit {
        id: EntryId,
        body: Bytes,
        delivery: DeliveryFacts,
    },
    /// Turn a reply into a plan.
    Route {
        id: EntryId,
        work: Arc<Work>,
        call: CallEnd,
        delivery: DeliveryFacts,
    },
}
