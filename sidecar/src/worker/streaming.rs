//! Items that come before the end of a call: published with confirms while the handler runs.
//!
//! What is published and not confirmed is bounded for each worker: beyond that nothing more is read from it, which holds
//! the handler up and nobody else.

use std::sync::Arc;
use std::time::Instant;

use asya_runtime_protocol::{Reply, ReplyItem};
use bytes::Bytes;
use futures::FutureExt as _;

use super::desk::Desk;
use super::flights::Flight;
use crate::ledger::CallOutcome;
use crate::plan::Verdict;
use crate::publishing::{self, Patience};
use crate::routing;

/// Beyond so many unconfirmed items, or bytes of them, of one worker nothing more is read from it.
const MOST_ITEMS: usize = 256;
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// An item that is published and confirmed.
pub(super) struct Confirmed {
    tag: u32,
    bytes: usize,
}

impl Desk<'_> {
    /// Items of a request that goes on.
    pub(super) fn streamed(&mut self, tag: u32, items: Bytes) {
        let Some(flight) = self.flights.get_mut(tag) else {
            return; // The connection knows its tags.
        };
        if flight.spoiled.is_some() {
            return;
        }
        let bytes = items.len();
        let items = match Reply::parse(items) {
            Ok(items) => items,
            Err(error) => {
                flight.spoiled = Some(CallOutcome::Unusable(error.to_string()));
                return;
            }
        };
        let is_end = self.seat.context.config.role.is_end();
        let ready = next_items(flight, items, is_end);
        if !ready.is_empty() {
            self.publish(tag, ready, bytes);
        }
    }

    fn publish(&mut self, tag: u32, items: Vec<ReplyItem>, bytes: usize) {
        let context = &self.seat.context;
        let Some(flight) = self.flights.get_mut(tag) else {
            return;
        };
        let each = bytes / items.len();
        let from = flight.streamed.sent;
        let plan = routing::route_stream(&context.config, &flight.work, items, from);
        if let Verdict::Failed { error, .. } = plan.verdict {
            flight.streamed.failure.get_or_insert(error);
        }
        flight.streamed.sent += plan.messages.len();
        flight.unconfirmed += plan.messages.len();
        self.unconfirmed.0 += plan.messages.len();
        self.unconfirmed.1 += each * plan.messages.len();
        let patience = Arc::clone(
            flight
                .patience
                .get_or_insert_with(|| Arc::new(Patience::new(context.config.unroutable_patience))),
        );
        // All of them first: none may come to its end while another is still unknown.
        for message in &plan.messages {
            publishing::announce(context, message);
        }
        for message in plan.messages {
            let (context, patience) = (Arc::clone(context), Arc::clone(&patience));
            let sending = async move {
                publishing::send_item(&context, &message, &patience).await;
                Confirmed { tag, bytes: each }
            };
            self.sending.push(sending.boxed());
        }
        self.hold_up();
    }

    /// An item of a request is confirmed.
    pub(super) fn confirmed(&mut self, confirmed: &Confirmed) {
        self.unconfirmed.0 -= 1;
        self.unconfirmed.1 -= confirmed.bytes;
        if let Some(flight) = self.flights.get_mut(confirmed.tag) {
            flight.unconfirmed -= 1;
        } else if let Some(at) = self
            .finishing
            .iter()
            .position(|(flight, ..)| flight.tag == confirmed.tag)
        {
            self.finishing[at].0.unconfirmed -= 1;
            if self.finishing[at].0.unconfirmed == 0 {
                let (flight, outcome, took) = self.finishing.swap_remove(at);
                self.finish(flight, outcome, took);
            }
        }
        self.hold_up();
    }

    /// Holds the worker up while too much is unconfirmed. That is no request's fault, so their time stands still.
    fn hold_up(&mut self) {
        let is_much = self.unconfirmed.0 > MOST_ITEMS || self.unconfirmed.1 > MOST_BYTES;
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
