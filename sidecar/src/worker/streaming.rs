//! Items that come before the end of a call: published with confirms while the handler runs.
//!
//! What is published and not confirmed is bounded for each slot: beyond that nothing more is read from its worker, which
//! holds the handler up and nobody else. The sending itself is no part of the desk ([`crate::outbox`]).

use std::sync::Arc;
use std::time::Instant;

use asya_runtime_protocol::v2::CancelReason;
use asya_runtime_protocol::{Reply, ReplyItem};
use bytes::Bytes;

use super::desk::Desk;
use super::flights::{Asked, Flight};
use crate::ledger::{CallOutcome, EntryId};
use crate::outbox::{self, Parcel};
use crate::plan::Verdict;
use crate::publishing::Patience;
use crate::routing;

impl Desk<'_> {
    /// Items of a request that goes on.
    pub(super) fn streamed(&mut self, tag: u32, items: Bytes) {
        let Some(flight) = self.flights.get_mut(tag) else {
            return; // The connection knows its tags.
        };
        let Some(id) = flight.entry.filter(|_| flight.spoiled.is_none()) else {
            return;
        };
        let bytes = items.len();
        match Reply::parse(items) {
            Ok(items) => {
                let is_end = self.seat.context.config.role.is_end();
                let ready = next_items(flight, items, is_end);
                if !ready.is_empty() {
                    self.publish(id, tag, ready, bytes);
                }
            }
            Err(error) => self.spoil(tag, error.to_string()),
        }
    }

    fn publish(&mut self, id: EntryId, tag: u32, items: Vec<ReplyItem>, bytes: usize) {
        let (seat, context) = (self.seat, &self.seat.context);
        let Some(flight) = self.flights.get_mut(tag) else {
            return;
        };
        let bytes = bytes / items.len();
        let from = flight.streamed.sent;
        let plan = routing::route_stream(&context.config, &flight.work, items, from);
        if let Verdict::Failed { error, .. } = plan.verdict {
            flight.streamed.failure.get_or_insert(error);
        }
        let messages = plan.messages;
        flight.streamed.sent += messages.len();
        let patience = Arc::clone(
            flight
                .patience
                .get_or_insert_with(|| Arc::new(Patience::new(context.config.unroutable_patience))),
        );
        let ledger = &context.ledger;
        if ledger.streams(id, seat.index, seat.generation, messages.len()) {
            seat.door.unconfirmed.add(messages.len(), bytes);
            let parcel = Parcel {
                entry: id,
                messages,
                bytes,
                patience,
            };
            outbox::send(context, &seat.door, parcel);
        }
        self.hold_up();
    }

    /// What a request brings cannot be used. It may go on for long, so it is asked to end, and keeps its place until it
    /// has.
    pub(super) fn spoil(&mut self, tag: u32, why: String) {
        self.begin(); // The answer that made room for it may have come just before.
        if let Some(flight) = self.flights.get_mut(tag) {
            flight.spoiled.get_or_insert(CallOutcome::Unusable(why));
        }
        if self.flights.ask(tag, Asked::Cancelled, Instant::now()) {
            self.session.cancel(self.id, tag, CancelReason::Asked);
        }
    }

    /// Holds the worker up while too much is unconfirmed. That is no request's fault, so their time stands still.
    pub(super) fn hold_up(&mut self) {
        let is_much = self.seat.door.unconfirmed.is_much();
        match self.held_up {
            None if is_much => self.held_up = Some(Instant::now()),
            Some(since) if !is_much => {
                self.held_up = None;
                self.flights.excuse(since.elapsed());
            }
            _ => {}
        }
    }
}

/// The items that can be published now. The first is held back until another one follows or the call ends: only then it
/// is known whether it is marked as split. End actors publish none, and look at the first alone.
fn next_items(flight: &mut Flight, items: Vec<ReplyItem>, is_end: bool) -> Vec<ReplyItem> {
    let mut items = items.into_iter();
    let held = &mut flight.streamed.held;
    if flight.streamed.sent == 0 && held.is_none() {
        *held = items.next().map(Box::new);
    }
    if is_end || items.len() == 0 {
        return Vec::new();
    }
    let first = held.take().map(|held| *held);
    first.into_iter().chain(items).collect()
}
