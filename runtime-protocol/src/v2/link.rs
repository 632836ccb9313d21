//! A worker connection of a client.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::connect::{ConnectError, connect};
use super::decoder::Decoded;
use super::frame::{Frame, Kind, MORE, Reader};
use super::hello::{Purpose, WorkerId, parse_progress, parse_worker_welcome};
use super::wire::{LinkError, Wire};
use crate::ready::Advert;

/// A budget of "none".
const NO_BUDGET: u32 = u32::MAX;

/// One message for a worker.
#[derive(Clone)]
pub struct Request {
    /// How long its run may take, to the millisecond; counts from its start. Who sent it keeps the time.
    pub budget: Option<Duration>,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Whether the next request belongs to the same batch.
    pub more: bool,
    /// The envelope, which is not looked into.
    pub envelope: Bytes,
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq)]
pub enum LinkEvent {
    /// The last of the items: the request is answered.
    Reply {
        /// Of the request.
        tag: u32,
        /// A JSON array.
        items: Bytes,
    },
    /// Some items; more may follow.
    Items {
        /// Of the request.
        tag: u32,
        /// A JSON array.
        items: Bytes,
    },
    /// An intermediate result for whoever watches.
    Partial {
        /// Of the request.
        tag: u32,
        /// A JSON value.
        value: Bytes,
    },
    /// How far the request is.
    Progress {
        /// Of the request.
        tag: u32,
        /// From 0 to 1.
        fraction: Option<f64>,
        /// For people.
        message: Option<String>,
    },
    /// The last of the items is beyond the limit and was thrown away: the request is answered.
    TooLarge {
        /// Of the request.
        tag: u32,
        /// Bytes of the answer.
        length: usize,
        /// The limit of this client.
        limit: usize,
    },
    /// Some items are beyond the limit and were thrown away. The request goes on until its REPLY, whoever wants that.
    ItemsTooLarge {
        /// Of the request.
        tag: u32,
        /// Bytes of these items.
        length: usize,
        /// The limit of this client.
        limit: usize,
    },
    /// The worker ends: nothing of what is unanswered was started.
    Goodbye,
}

/// A connection to one worker: requests go in order, answers come in any.
#[derive(Debug)]
pub struct WorkerLink {
    wire: Wire,
    /// By tag, those that have no REPLY yet: their places in the order of sending, since tags begin again at some time.
    pending: HashMap<u32, u64>,
    sequence: u64,
    next_tag: u32,
}

impl WorkerLink {
    /// Connects to one worker and waits for its WELCOME, which comes when requests of an older connection have ended;
    /// `limit` for both together. Answers above `max_frame` bytes are thrown away.
    pub async fn connect(
        advert: &Advert,
        id: WorkerId,
        max_frame: usize,
        limit: Duration,
    ) -> Result<Self, ConnectError> {
        let purpose = Purpose::Worker(id);
        let (wire, body) = connect(advert, purpose, Reader::WorkerClient, max_frame, limit).await?;
        parse_worker_welcome(&body).map_err(|text| ConnectError::Ended(LinkError::Protocol(text)))?;
        Ok(Self {
            wire,
            pending: HashMap::new(),
            sequence: 0,
            next_tag: 1,
        })
    }

    /// Goes on counting tags behind `last`. CANCEL and KILL name worker and tag, not the connection: one that was meant
    /// for an earlier connection must not hit a request on this one.
    pub fn tags_after(&mut self, last: u32) {
        self.next_tag = last.wrapping_add(1).max(1);
    }

    /// The tag of the request that was sent last; 0 if there was none.
    pub fn last_tag(&self) -> u32 {
        self.next_tag.wrapping_sub(1)
    }

    /// Queues a request and gives its tag. [`next`](Self::next) writes it.
    pub fn send(&mut self, request: Request) -> u32 {
        let tag = self.free_tag();
        self.sequence += 1;
        self.pending.insert(tag, self.sequence);
        let [b0, b1, b2, b3] = milliseconds(request.budget).to_be_bytes();
        let [a0, a1, a2, a3] = request.attempt.to_be_bytes();
        let flags = if request.more { MORE } else { 0 };
        let prefix = [b0, b1, b2, b3, a0, a1, a2, a3];
        self.wire
            .push(Kind::Request, flags, tag, &prefix, request.envelope);
        tag
    }

    /// The next event. Writes what is queued, also while it waits, so that it cannot come to a standstill when both
    /// sides have much to say. Safe to cancel.
    ///
    /// After an error all that follows is [`LinkError::Closed`]; [`unanswered`](Self::unanswered) stays.
    pub async fn next(&mut self) -> Result<LinkEvent, LinkError> {
        loop {
            let decoded = self.wire.next().await?;
            match self.event(decoded) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(text) => return Err(self.wire.break_off(text)),
            }
        }
    }

    /// Whether something is queued that has not been written.
    pub fn has_unwritten(&self) -> bool {
        self.wire.queued() > 0
    }

    /// Writes what is queued, for who does not want to read now: a worker must not wait for the rest of a request.
    /// Ends when all is written, or nothing can be written any more. Safe to cancel.
    pub async fn flush(&mut self) {
        self.wire.flush().await;
    }

    /// Tags of the requests that have no answer, the oldest first.
    pub fn unanswered(&self) -> impl Iterator<Item = u32> + use<> {
        let mut tags: Vec<_> = self.pending.iter().map(|(&tag, &place)| (place, tag)).collect();
        tags.sort_unstable();
        tags.into_iter().map(|(_, tag)| tag)
    }

    /// How many they are.
    pub fn unanswered_len(&self) -> usize {
        self.pending.len()
    }

    /// Whether the worker cannot have read the newest request whole, so that it has not run. Known once
    /// [`next`](Self::next) has given an error: then a worker that died before it took a request is told from one that
    /// died of it.
    pub fn is_newest_unread(&self) -> bool {
        self.wire.is_last_unread()
    }

    /// Queues the goodbye: no further answers are wanted. Go on with [`next`](Self::next) until it is closed.
    pub fn goodbye(&mut self) {
        self.wire.push_small(Kind::Goodbye, 0, &[]);
    }

    fn free_tag(&mut self) -> u32 {
        loop {
            let tag = self.next_tag;
            self.next_tag = tag.wrapping_add(1);
            if !self.pending.contains_key(&tag) {
                return tag;
            }
        }
    }

    /// What a frame means; `None` if nobody needs to know.
    fn event(&mut self, decoded: Decoded) -> Result<Option<LinkEvent>, String> {
        let Frame { kind, tag, body, .. } = match decoded {
            Decoded::Frame(frame) => frame,
            Decoded::TooLarge {
                kind,
                tag,
                length,
                limit,
                ..
            } => return self.too_large(kind, tag, length, limit),
        };
        if kind == Kind::Goodbye {
            return Ok(Some(LinkEvent::Goodbye));
        }
        self.check(kind, tag)?;
        if kind == Kind::Reply {
            self.pending.remove(&tag);
        }
        Ok(Some(match kind {
            Kind::Reply => LinkEvent::Reply { tag, items: body },
            Kind::Items => LinkEvent::Items { tag, items: body },
            Kind::Partial => LinkEvent::Partial { tag, value: body },
            Kind::Progress => {
                let progress = parse_progress(&body)?;
                LinkEvent::Progress {
                    tag,
                    fraction: progress.fraction,
                    message: progress.message,
                }
            }
            _ => return Err(format!("{} on a worker connection", kind.name())),
        }))
    }

    fn too_large(
        &mut self,
        kind: Kind,
        tag: u32,
        length: usize,
        limit: usize,
    ) -> Result<Option<LinkEvent>, String> {
        self.check(kind, tag)?;
        Ok(match kind {
            Kind::Reply => {
                self.pending.remove(&tag);
                Some(LinkEvent::TooLarge { tag, length, limit })
            }
            Kind::Items => Some(LinkEvent::ItemsTooLarge { tag, length, limit }),
            _ => None, // An intermediate result, on which nothing depends.
        })
    }

    fn check(&self, kind: Kind, tag: u32) -> Result<(), String> {
        if self.pending.contains_key(&tag) {
            return Ok(());
        }
        Err(format!(
            "{} with tag {tag}, which no unanswered request has",
            kind.name()
        ))
    }
}

/// A time in milliseconds, rounded up: what is left of a budget is not nothing.
fn milliseconds(budget: Option<Duration>) -> u32 {
    budget.map_or(NO_BUDGET, |budget| {
        let rounded = budget.as_nanos().div_ceil(1_000_000);
        u32::try_from(rounded).unwrap_or(NO_BUDGET).min(NO_BUDGET - 1)
    })
}
