//! The task behind a consumer: it owns the channel, keeps the broker's prefetch at what the caller wants, and sends
//! what receipts order.
//!
//! # Credit
//!
//! `receive(credit)` means that the caller can hold `credit` messages besides those in its hands. The prefetch is kept
//! at that sum. While a caller has a constant capacity, so that what it settles is what it asks for anew, the sum stays
//! the same and `receive` costs no round trip. More is asked of the broker at once (three round trips), less only when
//! the largest sum of [`SHRINK_AFTER`] was smaller. When a `receive` is given up, or when nobody calls it for [`LAPSE`]
//! while there is something to receive, the broker is told to send nothing more, and what has arrived goes back, so
//! that somebody else can have it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::time::{Interval, MissedTickBehavior};

use super::error::{RabbitError, Refusal, is};
use super::feeds::{Arrival, Feeds};
use super::ledger::{FeedId, Frame, Ledger};
use super::link::{Line, Phase, Watch};
use super::mailbox::{Mailbox, Waiting, Wish};
use super::message::Received;
use super::receipt::{Kept, Office, RabbitReceipt};
use super::registry::Registry;
use super::settings::{Settings, queue_name};
use super::topology;
use crate::{ConsumeError, Delivery, QueueName};

/// How long a smaller credit must last before the broker is told.
const SHRINK_AFTER: Duration = Duration::from_secs(5);

/// How long what the broker sends ahead may wait for a `receive`.
const LAPSE: Duration = Duration::from_secs(1);

/// How long a caller that gives up a `receive` may take to begin the next, before others get what it had asked for.
const WITHDRAW_AFTER: Duration = Duration::from_millis(5);

pub(super) struct Pump {
    pub(super) queue: QueueName,
    pub(super) settings: Arc<Settings>,
    pub(super) link: Watch,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) office: Office,
    pub(super) registry: Arc<Registry>,
}

/// Why a channel is not used any more.
enum End {
    /// The consumer is gone and everything is settled.
    Finished,
    /// The queue may be gone; the next attempt will tell.
    Cancelled,
    Lost(RabbitError),
}

impl Pump {
    pub(super) async fn run(mut self) {
        let mut reported: Option<Instant> = None;
        loop {
            let wish = self.mailbox.wish();
            if wish.closed {
                return;
            }
            if !wish.asking {
                self.mailbox.asked.notified().await;
                continue;
            }
            let Some(line) = self.connected(&mut reported).await else {
                continue;
            };
            let channel = match line.attempt(self.open(&line)).await {
                Ok(Some(channel)) => channel,
                Ok(None) => {
                    self.mailbox.fail(ConsumeError::NoSuchQueue(self.queue.clone()));
                    continue;
                }
                Err(error) => {
                    self.link.suspect();
                    self.mailbox
                        .fail(ConsumeError::Unavailable(RabbitError::from(error).boxed()));
                    continue;
                }
            };
            match self.serve(&line, channel).await {
                End::Finished => return,
                End::Cancelled => tracing::info!(queue = %self.queue, "the broker ended the consumer"),
                End::Lost(error) => {
                    self.link.suspect();
                    self.mailbox.fail(ConsumeError::Unavailable(error.boxed()));
                    // The outage that this was part of is reported with it.
                    reported = Some(Instant::now());
                }
            }
        }
    }

    /// The connection, once it is there. An outage is reported once, and then waited out.
    async fn connected(&mut self, reported: &mut Option<Instant>) -> Option<Arc<Line>> {
        let trouble = match self.link.phase() {
            Phase::Up(line) | Phase::Blocked(line, _) if line.connection.status().connected() => {
                return Some(line);
            }
            Phase::Up(line) | Phase::Blocked(line, _) => {
                // Lost, and the supervisor does not know yet.
                self.link.suspect();
                let number = line.number;
                drop(line);
                return self.wait(Some(number)).await;
            }
            Phase::Down(trouble) => trouble,
        };
        if reported.is_none_or(|at| at < trouble.since && at.elapsed() > Duration::from_secs(1)) {
            *reported = Some(Instant::now());
            let error = RabbitError::Disconnected(trouble.reason.clone());
            self.mailbox.fail(ConsumeError::Unavailable(error.boxed()));
            return None;
        }
        self.wait(None).await
    }

    /// Waits for a connection, or for the caller to change its mind.
    async fn wait(&mut self, before: Option<u64>) -> Option<Arc<Line>> {
        tokio::select! {
            line = self.link.next_line(before) => {
                if line.is_none() {
                    self.mailbox.fail(ConsumeError::Unavailable(RabbitError::Closed.boxed()));
                    self.mailbox.asked.notified().await;
                }
                line
            }
            () = self.mailbox.asked.notified() => None,
        }
    }

    /// Finds the queue, or makes it if that is ours to do, binds it and opens a channel for it. `None` if there is none.
    async fn open(&self, line: &Line) -> lapin::Result<Option<Channel>> {
        let connection = &line.connection;
        let Some(name) = queue_name(&self.queue) else {
            return Ok(None);
        };
        if topology::look(connection, &name).await?.is_none() {
            if !self.settings.options.queues.auto_create {
                return Ok(None);
            }
            topology::create(connection, &name, &self.settings.queue_arguments).await?;
        }
        topology::bind(connection, &self.settings, &self.queue).await?;
        connection.create_channel().await.map(Some)
    }

    /// Works until the channel or the consumer ends.
    async fn serve(&self, line: &Line, channel: Channel) -> End {
        let Some(name) = queue_name(&self.queue) else {
            return End::Cancelled; // was checked before the channel was opened
        };
        let ledger = Arc::new(Ledger::default());
        self.registry.add(&self.queue, &ledger);
        self.mailbox.begin(&ledger);
        let mut session = Session {
            pump: self,
            feeds: Feeds::new(channel.clone(), name),
            ledger: Arc::clone(&ledger),
            channel,
            closing: false,
        };
        let end = match line.attempt(session.run()).await {
            Ok(end) => end,
            Err(error) if is(&error, Refusal::NotFound) => End::Cancelled,
            Err(error) => End::Lost(error.into()),
        };
        ledger.end();
        self.mailbox.end();
        end
    }
}

/// One channel.
struct Session<'a> {
    pump: &'a Pump,
    channel: Channel,
    feeds: Feeds,
    ledger: Arc<Ledger>,
    /// The consumer is gone; only receipts are left.
    closing: bool,
}

impl Session<'_> {
    async fn run(&mut self) -> lapin::Result<End> {
        let (mut shrinking, mut lapsing) = (ticks(SHRINK_AFTER), ticks(LAPSE));
        self.adjust().await?;
        loop {
            if self.closing && self.ledger.is_settled() {
                return Ok(End::Finished);
            }
            let arrival = std::future::poll_fn(|context| self.feeds.poll_arrival(context));
            tokio::select! {
                arrival = arrival => match arrival {
                    Arrival::Deliveries(deliveries) => self.deliver(deliveries),
                    Arrival::Cancelled => return Ok(End::Cancelled),
                    Arrival::Lost(error) => return Err(error),
                },
                () = self.ledger.ordered.notified() => self.flush().await?,
                () = self.pump.mailbox.asked.notified() => self.adjust().await?,
                _ = shrinking.tick() => self.shrink().await?,
                _ = lapsing.tick() => self.lapse().await?,
            }
        }
    }

    /// Sends what receipts have ordered.
    async fn flush(&self) -> lapin::Result<()> {
        // Whoever is about to settle, too, shares the frame.
        tokio::task::yield_now().await;
        let batch = self.ledger.take();
        let sending = batch.frames.iter().map(|frame| self.send(*frame));
        try_join_all(sending).await?;
        batch.done();
        Ok(())
    }

    async fn send(&self, frame: Frame) -> lapin::Result<()> {
        match frame {
            Frame::Ack { tag, multiple } => self.channel.basic_ack(tag, BasicAckOptions { multiple }).await,
            Frame::Requeue { tag } => {
                let options = BasicNackOptions {
                    multiple: false,
                    requeue: true,
                };
                self.channel.basic_nack(tag, options).await
            }
        }
    }

    /// Brings the prefetch to what is wanted.
    async fn adjust(&mut self) -> lapin::Result<()> {
        let wish = self.pump.mailbox.wish();
        if wish.closed {
            if !self.closing {
                self.closing = true;
                self.feeds.cancel_all().await?;
            }
            return Ok(());
        }
        if wish.withdrawn && !wish.asking {
            return self.withdraw().await;
        }
        self.raise(wish).await
    }

    async fn raise(&mut self, wish: Wish) -> lapin::Result<()> {
        if wish.wanted > self.allowed() {
            if self.feeds.are_many() {
                self.feeds.cancel_all().await?;
            }
            let missing = wish.wanted.saturating_sub(self.allowed());
            if missing > 0 {
                self.feeds.add(missing).await?;
            }
        }
        self.pump.mailbox.set_prefetch(self.allowed());
        Ok(())
    }

    /// What may be outstanding: the prefetch of all feeds, and what cancelled ones have brought.
    fn allowed(&self) -> usize {
        self.feeds.prefetch() + self.ledger.open_by(|feed| !self.feeds.is_active(feed))
    }

    /// Lets others have what a caller that gave up had asked for.
    async fn withdraw(&mut self) -> lapin::Result<()> {
        tokio::time::sleep(WITHDRAW_AFTER).await;
        let wish = self.pump.mailbox.wish();
        if wish.asking || wish.closed {
            return self.raise_or_leave(wish).await;
        }
        self.release(wish).await
    }

    /// Lets others have what nobody asks for here.
    async fn lapse(&mut self) -> lapin::Result<()> {
        let wish = self.pump.mailbox.wish();
        if wish.idle < LAPSE || wish.closed {
            return Ok(());
        }
        self.release(wish).await
    }

    /// Stops the broker from sending, unless it cannot send anyway, and gives back what waits.
    async fn release(&mut self, wish: Wish) -> lapin::Result<()> {
        let spare = self.feeds.prefetch() > self.ledger.open_by(|feed| self.feeds.is_active(feed));
        if !spare && wish.waiting == 0 {
            return Ok(());
        }
        self.feeds.cancel_all().await?;
        self.pump.mailbox.set_prefetch(0);
        self.return_surplus(0).await
    }

    async fn raise_or_leave(&mut self, wish: Wish) -> lapin::Result<()> {
        if wish.closed {
            self.pump.mailbox.asked.notify_one();
            return Ok(());
        }
        self.raise(wish).await
    }

    /// Tells the broker of a credit that has been smaller for a while.
    async fn shrink(&mut self) -> lapin::Result<()> {
        let peak = self.pump.mailbox.take_peak();
        if self.closing || peak == 0 || self.feeds.prefetch() == 0 || peak >= self.allowed() {
            return Ok(());
        }
        self.feeds.cancel_all().await?;
        let keep = peak.saturating_sub(self.ledger.handed());
        self.return_surplus(keep).await?;
        let wish = self.pump.mailbox.wish();
        self.raise(Wish { wanted: peak, ..wish }).await
    }

    /// Gives back what has arrived and is not asked for, but for the first `keep`.
    async fn return_surplus(&mut self, keep: usize) -> lapin::Result<()> {
        let rest = std::future::poll_fn(|context| match self.feeds.poll_arrival(context) {
            std::task::Poll::Ready(arrival) => std::task::Poll::Ready(Some(arrival)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        });
        match rest.await {
            Some(Arrival::Deliveries(deliveries)) => self.deliver(deliveries),
            Some(Arrival::Lost(error)) => return Err(error),
            // Heard again at the next look.
            Some(Arrival::Cancelled) | None => {}
        }
        drop(self.pump.mailbox.surplus(keep));
        self.flush().await
    }

    fn deliver(&self, deliveries: Vec<(FeedId, lapin::message::Delivery)>) {
        let arrived = deliveries.into_iter().map(|(feed, raw)| {
            self.ledger.open(raw.delivery_tag, feed);
            self.waiting(raw)
        });
        self.pump.mailbox.deliver(arrived.collect());
    }

    fn waiting(&self, raw: lapin::message::Delivery) -> Waiting {
        let (queue, office) = (&self.pump.queue, &self.pump.office);
        let received = Received::read(&raw.properties, raw.redelivered);
        let body = Bytes::from(raw.data);
        let message_id = received.message_id.clone();
        let deliveries =
            received.deliveries(|| office.memory.deliveries(queue, message_id.as_deref(), &body));
        let kept = Kept {
            queue: queue.clone(),
            body: body.clone(),
            properties: raw.properties,
            message_id: message_id.clone(),
            deliveries,
        };
        let receipt = RabbitReceipt::new(raw.delivery_tag, Arc::clone(&self.ledger), office.clone(), kept);
        Waiting {
            delivery: Delivery {
                body,
                message_id,
                deliveries,
                receipt: Arc::new(receipt),
            },
            tag: raw.delivery_tag,
            ledger: Arc::clone(&self.ledger),
        }
    }
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
