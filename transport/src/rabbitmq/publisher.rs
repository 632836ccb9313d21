//! Publishing with confirms, pipelined: one task that owns the publishing channel.
//!
//! Every message is published `mandatory` to the exchange. One that comes back because nothing is bound there is sent
//! again straight to the queue, through the default exchange (contract data-plane §4.2), and is unroutable only if
//! that fails too.
//!
//! # Why confirms are collected before anybody is told
//!
//! The broker may confirm many messages by one frame. The client library then resolves their confirms in no particular
//! order and hands a returned message to whichever comes first, which may be the confirm of another message. So this
//! task takes in everything that has been resolved, matches returned messages with their owners by what is in them,
//! and only then answers. A confirm is resolved after the confirm that carries its returned message at the earliest,
//! so nothing that has been answered can turn out to be unroutable.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use lapin::Channel;
use lapin::message::BasicReturnMessage;
use lapin::options::ConfirmSelectOptions;
use lapin::{Confirmation, ErrorKind};
use tokio::sync::{mpsc, oneshot};

use super::delay::{self, DelayQueues};
use super::error::{RabbitError, refusal, size_limit};
use super::flights::{Flights, Landing};
use super::link::{Line, Watch};
use super::message::Message;
use super::route::{FlightError, Route, send};
use super::settings::Settings;
use super::topology;
use crate::PublishError;

/// Hands messages to the publishing task. It ends when the last clone is dropped and everything is answered.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    orders: mpsc::UnboundedSender<Order>,
}

/// One message, where it goes first, and who wants to know.
#[derive(Debug)]
struct Order {
    message: Message,
    route: Route,
    reply: oneshot::Sender<Result<(), PublishError>>,
    /// Set when the broker returned the message of the flight that is under way.
    returned: bool,
    /// Set when the delay queue had vanished once.
    retried: bool,
}

impl Publisher {
    pub(super) fn start(settings: Arc<Settings>, link: Watch) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        let desk = Desk {
            settings,
            link,
            delays: Arc::new(DelayQueues::default()),
            orders: receiver,
            channel: None,
            flights: Flights::default(),
            aloft: HashMap::new(),
            next: 0,
        };
        tokio::spawn(desk.run());
        Self { orders }
    }

    /// The message is on its way when this returns.
    pub(super) fn publish(
        &self,
        message: Message,
        delay: std::time::Duration,
    ) -> BoxFuture<'static, Result<(), PublishError>> {
        let unavailable = |error: RabbitError| Err(PublishError::Unavailable(error.boxed()));
        let route = if delay.is_zero() {
            Route::Exchange
        } else if let Some(step) = delay::step(delay) {
            Route::Delay(step)
        } else {
            return Box::pin(std::future::ready(unavailable(RabbitError::DelayTooLong(delay))));
        };
        let (reply, answer) = oneshot::channel();
        let order = Order {
            message,
            route,
            reply,
            returned: false,
            retried: false,
        };
        // If the task has ended, the answer below says so.
        let _ended = self.orders.send(order);
        answer
            .map(move |answer| answer.unwrap_or_else(|_| unavailable(RabbitError::Closed)))
            .boxed()
    }
}

/// The publishing task.
struct Desk {
    settings: Arc<Settings>,
    link: Watch,
    delays: Arc<DelayQueues>,
    orders: mpsc::UnboundedReceiver<Order>,
    channel: Option<(Arc<Line>, Channel)>,
    flights: Flights,
    aloft: HashMap<u64, Order>,
    next: u64,
}

impl Desk {
    async fn run(mut self) {
        loop {
            let window = self.settings.options.max_unconfirmed.max(1);
            tokio::select! {
                biased;
                landed = self.flights.landed(), if !self.aloft.is_empty() => self.settle(landed).await,
                order = self.orders.recv(), if self.aloft.len() < window => match order {
                    Some(order) => self.launch(order).await,
                    None if self.aloft.is_empty() => return,
                    // Nobody sends any more; wait for what is under way.
                    None => {
                        let landed = self.flights.landed().await;
                        self.settle(landed).await;
                    }
                },
            }
        }
    }

    async fn launch(&mut self, order: Order) {
        let (size, limit) = (order.message.body.len(), self.settings.max_message_size());
        if size > limit {
            return answer(order, Err(PublishError::TooLarge { size, limit }));
        }
        let (line, channel) = match self.channel().await {
            Ok(open) => open,
            Err(error) => return answer(order, Err(PublishError::Unavailable(error.boxed()))),
        };
        let (number, message, route) = (self.next, order.message.clone(), order.route);
        self.next += 1;
        let (settings, delays) = (Arc::clone(&self.settings), Arc::clone(&self.delays));
        let flight = async move {
            (
                number,
                send(line, channel, settings, delays, message, route).await,
            )
        };
        self.flights.push(flight);
        self.aloft.insert(number, order);
    }

    /// The publishing channel, opened anew if it was lost.
    async fn channel(&mut self) -> Result<(Arc<Line>, Channel), RabbitError> {
        if let Some((line, channel)) = &self.channel
            && channel.status().connected()
        {
            return Ok((Arc::clone(line), channel.clone()));
        }
        self.channel = None;
        let line = self.link.line()?;
        let opened = line.attempt(open(&line, &self.settings)).await;
        let channel = opened.inspect_err(|_| self.link.suspect())?;
        self.channel = Some((Arc::clone(&line), channel.clone()));
        Ok((line, channel))
    }

    /// Answers what has landed, and sends on what came back.
    async fn settle(&mut self, mut landed: Vec<Landing>) {
        for returned in landed.iter_mut().filter_map(|(_, result)| take_returned(result)) {
            self.attribute(&returned);
        }
        for (number, result) in landed {
            let Some(order) = self.aloft.remove(&number) else {
                continue; // every flight has its order
            };
            if let Some(again) = self.conclude(order, result) {
                self.launch(again).await;
            }
        }
    }

    /// Marks the order whose message came back.
    fn attribute(&mut self, returned: &BasicReturnMessage) {
        let settings = &self.settings;
        let owner = self
            .aloft
            .values_mut()
            .find(|order| !order.returned && order.is_owner_of(returned, settings));
        match owner {
            Some(order) => order.returned = true,
            None => {
                tracing::error!(routing_key = %returned.routing_key, "a message came back that nobody sent");
            }
        }
    }

    /// Answers the order, or gives it back to be sent again.
    fn conclude(&self, mut order: Order, result: Result<Confirmation, FlightError>) -> Option<Order> {
        let returned = std::mem::take(&mut order.returned);
        let outcome = match result {
            Err(FlightError::NoTarget) => Err(PublishError::Unroutable(order.message.queue.clone())),
            Err(FlightError::Broker(error)) => Err(self.failed(&order, error)),
            Ok(_) if returned => match order.route {
                Route::Exchange => {
                    order.route = Route::Queue;
                    return Some(order);
                }
                Route::Queue => Err(PublishError::Unroutable(order.message.queue.clone())),
                Route::Delay(step) => {
                    self.delays.forget(&order.message.queue, step);
                    if !std::mem::replace(&mut order.retried, true) {
                        return Some(order);
                    }
                    Err(PublishError::Unavailable(RabbitError::Rejected.boxed()))
                }
            },
            Ok(Confirmation::Ack(_)) => Ok(()),
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                Err(PublishError::Unavailable(RabbitError::Rejected.boxed()))
            }
        };
        answer(order, outcome);
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
        PublishError::Unavailable(RabbitError::from(error).boxed())
    }
}

impl Order {
    /// Orders that agree in all of this are the same message on the same way, so either may stand for the other.
    fn is_owner_of(&self, returned: &BasicReturnMessage, settings: &Settings) -> bool {
        let (exchange, key) = match self.route {
            Route::Exchange => (settings.exchange.as_str(), self.message.queue.actor().to_owned()),
            Route::Queue => ("", self.message.queue.to_string()),
            Route::Delay(step) => ("", delay::delay_queue(&self.message.queue, step).to_string()),
        };
        returned.exchange.as_str() == exchange
            && returned.routing_key.as_str() == key
            && returned.properties.message_id() == self.message.properties.message_id()
            && returned.data == self.message.body
    }
}

fn take_returned(result: &mut Result<Confirmation, FlightError>) -> Option<BasicReturnMessage> {
    match result {
        Ok(Confirmation::Ack(returned) | Confirmation::Nack(returned)) => returned.take(),
        _ => None,
    }
}

fn answer(order: Order, outcome: Result<(), PublishError>) {
    // Whoever dropped the future does not want to know.
    let _unheard = order.reply.send(outcome);
}

async fn open(line: &Line, settings: &Settings) -> Result<Channel, lapin::Error> {
    // Also mends an exchange that was deleted, which is what closes a publishing channel.
    topology::ensure_exchange(&line.connection, settings).await?;
    let channel = line.connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}
