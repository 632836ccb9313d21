//! All publishes that are not answered yet, and how they are answered.
//!
//! # Why confirms are taken in together
//!
//! The broker may confirm many messages by one frame. The client library then resolves their confirms in no particular
//! order and hands a returned message to whichever comes first, which may be the confirm of another message. So whoever
//! is woken takes in everything that has been resolved by then, matches returned messages with their owners by what is
//! in them, and only then answers.
//!
//! A confirm that carries the message of another may be resolved before the one that carries its own: two that are
//! swapped. So nothing is answered while the owner of a returned message is aloft. Once all owners have landed, as many
//! confirms carried a message as there are owners; a carrier that is no owner then means an owner that carried nothing,
//! and that one was resolved when no returned message was left over. What came back has all been seen by then.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use lapin::message::BasicReturnMessage;
use lapin::{Channel, Confirmation, ConnectionState, ErrorKind};
use tokio::sync::Notify;

use super::counters::Counting;
use super::delay::DelayQueues;
use super::error::{RabbitError, refusal, size_limit};
use super::flight::{Bell, Moved};
use super::link::{Line, Watch};
use super::order::Order;
use super::route::{FlightError, Route, send};
use super::settings::Settings;
use crate::PublishError;

/// The publishing channel and its connection.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) line: Arc<Line>,
    pub(super) channel: Channel,
}

/// An order under way.
struct Flight {
    order: Order,
    lane: Arc<Lane>,
    waker: Waker,
    sending: BoxFuture<'static, Result<Confirmation, FlightError>>,
    /// Whether its end is known, although perhaps not answered yet.
    landed: bool,
}

type Landing = (u64, Result<Confirmation, FlightError>);

#[derive(Default)]
struct Inner {
    lane: Option<Arc<Lane>>,
    aloft: HashMap<u64, Flight>,
    /// Ends of flights that are not answered yet.
    landed: Vec<Landing>,
    /// Flights aloft whose message came back and whose confirm is still to come.
    owners: usize,
    /// Orders that wait for a channel, or for room among those aloft.
    waiting: VecDeque<Order>,
    next: u64,
    closed: bool,
}

pub(super) struct Deck {
    settings: Arc<Settings>,
    link: Watch,
    counting: Arc<Counting>,
    delays: Arc<DelayQueues>,
    inner: Mutex<Inner>,
    moved: Arc<Moved>,
    /// Rung for the task: there is something to do.
    pub(super) work: Arc<Notify>,
}

impl Deck {
    pub(super) fn new(settings: Arc<Settings>, link: Watch, counting: Arc<Counting>) -> Self {
        Self {
            settings,
            link,
            counting,
            delays: Arc::default(),
            inner: Mutex::default(),
            moved: Arc::default(),
            work: Arc::default(),
        }
    }

    /// Sends the message, or has it wait for a channel or for room.
    pub(super) fn publish(&self, order: Order) {
        let (size, limit) = (order.message.body.len(), self.settings.max_message_size());
        if size > limit {
            return order.slot.put(Err(PublishError::TooLarge { size, limit }));
        }
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            return order.slot.put(Err(unavailable(RabbitError::Closed)));
        }
        inner.waiting.push_back(order);
        self.launch(&mut inner);
    }

    /// Sends as many of the waiting orders as there is room for.
    fn launch(&self, inner: &mut Inner) {
        let window = self.settings.options.max_unconfirmed.max(1);
        while !inner.waiting.is_empty() && inner.aloft.len() < window {
            let usable = inner
                .lane
                .as_ref()
                .filter(|lane| lane.channel.status().connected());
            let Some(lane) = usable.map(Arc::clone) else {
                return self.work.notify_one();
            };
            let Some(order) = inner.waiting.pop_front() else {
                return;
            };
            self.launch_one(inner, lane, order);
        }
    }

    fn launch_one(&self, inner: &mut Inner, lane: Arc<Lane>, order: Order) {
        let number = inner.next;
        inner.next += 1;
        let waker = Waker::from(Arc::new(Bell {
            number,
            moved: Arc::clone(&self.moved),
            slot: Arc::clone(&order.slot),
            work: Arc::clone(&self.work),
        }));
        let mut sending: BoxFuture<'static, _> = Box::pin(send(
            Arc::clone(&lane),
            Arc::clone(&self.settings),
            Arc::clone(&self.delays),
            order.message.clone(),
            order.route,
        ));
        self.counting.published.increment();
        // The frames are queued by the first poll. Should it end at once, whoever takes in next finds that out.
        if let Poll::Ready(result) = sending.as_mut().poll(&mut Context::from_waker(&waker)) {
            sending = Box::pin(std::future::ready(result));
            waker.wake_by_ref();
        }
        let flight = Flight {
            order,
            lane,
            waker,
            sending,
            landed: false,
        };
        inner.aloft.insert(number, flight);
    }

    /// Takes in everything that has moved, answers what has landed, and sends what waits.
    pub(super) fn take_in(&self) {
        if self.moved.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let mut landed = Vec::new();
        while let Some(number) = self.moved.pop() {
            // A flight may have moved again after it has landed.
            if let Some(flight) = inner.aloft.get_mut(&number) {
                let mut context = Context::from_waker(&flight.waker);
                if let Poll::Ready(result) = flight.sending.as_mut().poll(&mut context) {
                    // Never polled again; another wake may still be on the way.
                    flight.sending = Box::pin(std::future::pending());
                    landed.push((number, result));
                }
            }
        }
        self.settle(&mut inner, landed);
    }

    /// Notes what has landed, answers it unless it is in doubt, and sends on what came back.
    fn settle(&self, inner: &mut Inner, mut landed: Vec<Landing>) {
        for (number, result) in &mut landed {
            let returned = take_returned(result);
            if let Some(flight) = inner.aloft.get_mut(number) {
                flight.landed = true;
                flight.order.carried = returned.is_some();
                inner.owners -= usize::from(flight.order.returned);
            }
            if let Some(returned) = returned {
                self.attribute(inner, &returned);
            }
        }
        inner.landed.append(&mut landed);
        self.moved.set_urgent(inner.owners > 0);
        if inner.owners == 0 {
            self.answer(inner);
        } else if !self.moved.is_empty() {
            // Moved before it was urgent.
            self.work.notify_one();
        }
        self.launch(inner);
        if inner.closed {
            self.work.notify_one();
        }
    }

    /// Answers what has landed.
    fn answer(&self, inner: &mut Inner) {
        let landed = std::mem::take(&mut inner.landed);
        // Then what the confirm of the owner would have told about others is not known either.
        let torn = landed.iter().any(|(number, result)| {
            result.is_err()
                && inner
                    .aloft
                    .get(number)
                    .is_some_and(|flight| flight.order.returned)
        });
        for (number, mut result) in landed {
            let Some(Flight { order, .. }) = inner.aloft.remove(&number) else {
                continue; // every flight lands once
            };
            if torn && order.carried && !order.returned {
                result = Err(FlightError::Broker(closed()));
            }
            if let Some(again) = self.conclude(order, result) {
                inner.waiting.push_front(again);
            }
        }
    }

    /// Marks the order whose message came back.
    fn attribute(&self, inner: &mut Inner, returned: &BasicReturnMessage) {
        self.counting.returned.increment();
        let owner = inner
            .aloft
            .values_mut()
            .find(|flight| !flight.order.returned && flight.order.is_owner_of(returned, &self.settings));
        match owner {
            Some(flight) => {
                flight.order.returned = true;
                inner.owners += usize::from(!flight.landed);
            }
            None => {
                tracing::error!(routing_key = %returned.routing_key, "a message came back that nobody sent");
            }
        }
    }

    /// Answers the order, or gives it back to be sent again.
    fn conclude(&self, mut order: Order, result: Result<Confirmation, FlightError>) -> Option<Order> {
        let returned = std::mem::take(&mut order.returned);
        let unroutable = || PublishError::Unroutable(order.message.queue.clone());
        let outcome = match result {
            Err(FlightError::NoTarget) => Err(unroutable()),
            Err(FlightError::Broker(error)) => Err(self.failed(&order, error)),
            Ok(_) if returned => match order.route {
                Route::Exchange => {
                    order.route = Route::Queue;
                    return Some(order);
                }
                Route::Queue => Err(unroutable()),
                Route::Delay(step) => {
                    self.delays.forget(&order.message.queue, step);
                    if !std::mem::replace(&mut order.retried, true) {
                        return Some(order);
                    }
                    Err(unavailable(RabbitError::Rejected))
                }
            },
            Ok(Confirmation::Ack(_)) => {
                self.counting.confirmed.increment();
                Ok(())
            }
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                self.counting.refused.increment();
                Err(unavailable(RabbitError::Rejected))
            }
        };
        order.slot.put(outcome);
        None
    }

    fn failed(&self, order: &Order, error: lapin::Error) -> PublishError {
        if let Some((_, reason)) = refusal(&error)
            && let Some((size, limit)) = size_limit(&reason)
        {
            self.settings.learn_max_message_size(limit);
            if order.message.body.len() == size {
                return PublishError::TooLarge { size, limit };
            }
        }
        if !matches!(error.kind(), ErrorKind::ProtocolError(_)) {
            self.link.suspect();
        }
        unavailable(error.into())
    }

    /// Ends all flights whose connection is lost: the client library does not answer what it takes in meanwhile.
    pub(super) fn give_up_lost(&self) {
        self.take_in();
        let mut inner = self.lock();
        if inner.lane.as_ref().is_some_and(|lane| lane.line.is_lost()) {
            inner.lane = None;
        }
        let lost = inner
            .aloft
            .iter()
            .filter(|(_, flight)| !flight.landed && flight.lane.line.is_lost());
        let numbers: Vec<_> = lost.map(|(number, _)| *number).collect();
        let landed = numbers
            .into_iter()
            .map(|number| (number, Err(FlightError::Broker(closed()))));
        self.settle(&mut inner, landed.collect());
    }

    /// Whether orders wait and there is no channel that takes them.
    pub(super) fn needs_channel(&self) -> bool {
        let inner = self.lock();
        let usable = inner
            .lane
            .as_ref()
            .is_some_and(|lane| lane.channel.status().connected());
        !inner.waiting.is_empty() && !usable
    }

    /// Goes on with a new channel, or tells all who wait for one why there is none.
    pub(super) fn resume(&self, opened: Result<Arc<Lane>, RabbitError>) {
        let mut inner = self.lock();
        match opened {
            Ok(lane) => {
                inner.lane = Some(lane);
                self.launch(&mut inner);
            }
            Err(error) => {
                inner.lane = None;
                for order in std::mem::take(&mut inner.waiting) {
                    order.slot.put(Err(unavailable(error.clone())));
                }
            }
        }
    }

    /// Nobody can publish any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Whether nobody can publish any more and everything is answered.
    pub(super) fn is_finished(&self) -> bool {
        let inner = self.lock();
        inner.closed && inner.aloft.is_empty() && inner.waiting.is_empty()
    }

    /// Lets go of the connection.
    pub(super) fn end(&self) {
        self.lock().lane = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Deck {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Deck")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn take_returned(result: &mut Result<Confirmation, FlightError>) -> Option<BasicReturnMessage> {
    match result {
        Ok(Confirmation::Ack(returned) | Confirmation::Nack(returned)) => returned.take(),
        _ => None,
    }
}

fn closed() -> lapin::Error {
    ErrorKind::InvalidConnectionState(ConnectionState::Closed).into()
}

fn unavailable(error: RabbitError) -> PublishError {
    PublishError::Unavailable(error.boxed())
}
