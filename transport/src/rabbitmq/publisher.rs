//! Publishing with confirms, pipelined, over one channel.
//!
//! Every message is published `mandatory` to the exchange. One that comes back because nothing is bound there is sent
//! again straight to the queue, through the default exchange (contract data-plane §4.2), and is unroutable only if
//! that fails too.
//!
//! No task stands between a caller and the client library: [`Publisher::publish`] queues the frames itself, and the
//! future that it returns takes in the confirm. A task remains for what callers cannot do: open the channel, notice
//! that the connection is gone, and look after publishes whose futures were dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, ready};
use lapin::Channel;
use lapin::options::ConfirmSelectOptions;

use super::counters::Counting;
use super::deck::{Deck, Lane};
use super::delay;
use super::error::RabbitError;
use super::flight::Slot;
use super::link::{Line, Watch};
use super::message::Message;
use super::order::Order;
use super::route::Route;
use super::settings::Settings;
use super::topology;
use crate::PublishError;

/// Publishes. The task behind it ends when the last clone is dropped and everything is answered.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    deck: Arc<Deck>,
    _open: Arc<Open>,
}

/// Lives as long as anybody may publish.
#[derive(Debug)]
struct Open(Arc<Deck>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Publisher {
    pub(super) fn start(settings: Arc<Settings>, link: Watch, counting: Arc<Counting>) -> Self {
        let deck = Arc::new(Deck::new(Arc::clone(&settings), link.clone(), counting));
        let keeper = Keeper {
            settings,
            link,
            deck: Arc::clone(&deck),
        };
        tokio::spawn(keeper.run());
        Self {
            _open: Arc::new(Open(Arc::clone(&deck))),
            deck,
        }
    }

    /// The message is on its way when this returns.
    pub(super) fn publish(
        &self,
        message: Message,
        delay: Duration,
    ) -> BoxFuture<'static, Result<(), PublishError>> {
        let route = if delay.is_zero() {
            Route::Exchange
        } else if let Some(step) = delay::step(delay) {
            Route::Delay(step)
        } else {
            let error = RabbitError::DelayTooLong(delay).boxed();
            return Box::pin(ready(Err(PublishError::Unavailable(error))));
        };
        let slot = Arc::new(Slot::default());
        self.deck.publish(Order::new(message, route, Arc::clone(&slot)));
        Box::pin(Publishing {
            deck: Arc::clone(&self.deck),
            slot,
        })
    }
}

/// A publish that somebody waits for.
struct Publishing {
    deck: Arc<Deck>,
    slot: Arc<Slot>,
}

impl Future for Publishing {
    type Output = Result<(), PublishError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.deck.take_in();
        if let Some(outcome) = self.slot.take() {
            return Poll::Ready(outcome);
        }
        // Once more: who looked for a waker in between did not find one.
        self.slot.caller.register(context.waker());
        self.deck.take_in();
        self.slot.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        if !self.slot.was_taken() {
            // From now on the task is woken instead, also for a wake that may have reached us already.
            self.slot.caller.take();
            self.deck.work.notify_one();
        }
    }
}

/// The task.
struct Keeper {
    settings: Arc<Settings>,
    link: Watch,
    deck: Arc<Deck>,
}

impl Keeper {
    async fn run(self) {
        let mut lane: Option<Arc<Lane>> = None;
        loop {
            tokio::select! {
                () = self.deck.work.notified() => {}
                () = until_lost(lane.as_deref()) => lane = None,
            }
            self.deck.take_in();
            if self.deck.needs_channel() {
                let opened = self.open().await;
                if let Ok(new) = &opened {
                    lane = Some(Arc::clone(new));
                }
                self.deck.resume(opened);
            }
            self.deck.give_up_lost();
            if self.deck.is_finished() {
                return self.deck.end();
            }
        }
    }

    async fn open(&self) -> Result<Arc<Lane>, RabbitError> {
        let line = self.link.line()?;
        let opened = line.attempt(open(&line, &self.settings)).await;
        let channel = opened.inspect_err(|_| self.link.suspect())?;
        Ok(Arc::new(Lane { line, channel }))
    }
}

async fn until_lost(lane: Option<&Lane>) {
    match lane {
        Some(lane) => lane.line.until_lost().await,
        None => std::future::pending().await,
    }
}

async fn open(line: &Line, settings: &Settings) -> Result<Channel, lapin::Error> {
    // Also mends an exchange that was deleted, which is what closes a publishing channel.
    topology::ensure_exchange(&line.connection, settings).await?;
    let channel = topology::channel(&line.connection).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}
