//! One channel of a consumer: keeps the broker's prefetch at what the caller wants, and brings what arrives.
//!
//! # Credit
//!
//! `receive(credit)` means that the caller can hold `credit` messages besides those in its hands. The prefetch is kept
//! at that sum. While a caller has a constant capacity, so that what it settles is what it asks for anew, the sum stays
//! the same and `receive` costs no round trip. More is asked of the broker at once, less only when the largest sum of a
//! whole [`WINDOW`] was smaller. When a `receive` is given up, or when nobody calls it for a [`WINDOW`] while there is
//! something to receive, the broker is told to send nothing more, and what has arrived goes back, so that somebody else
//! can have it. A session in which none of this can happen has no timer.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::clerk::Clerk;
use super::feeds::{Arrival, Feeds};
use super::ledger::FeedId;
use super::mailbox::{Waiting, Wish};
use super::message::Received;
use super::pump::{End, Pump};
use super::receipt::{Kept, RabbitReceipt};
use crate::Delivery;

/// How long a smaller credit must last before the broker is told, and how long what the broker has sent ahead may wait
/// for a `receive`.
const WINDOW: Duration = Duration::from_secs(1);

/// How long a caller that gives up a `receive` may take to begin the next, before others get what it had asked for.
const WITHDRAW_AFTER: Duration = Duration::from_millis(5);

pub(super) struct Session<'a> {
    pump: &'a Pump,
    feeds: Feeds,
    clerk: Arc<Clerk>,
    /// The end of the present window.
    window: Pin<Box<Sleep>>,
    /// Whether anything is to be looked at when the window ends.
    watching: bool,
    /// The consumer is gone; only receipts are left.
    closing: bool,
}

impl<'a> Session<'a> {
    pub(super) fn new(pump: &'a Pump, feeds: Feeds, clerk: Arc<Clerk>) -> Self {
        Self {
            pump,
            feeds,
            clerk,
            window: Box::pin(tokio::time::sleep(WINDOW)),
            watching: false,
            closing: false,
        }
    }

    pub(super) async fn run(&mut self) -> lapin::Result<End> {
        self.adjust().await?;
        loop {
            if self.closing && self.clerk.ledger.is_settled() {
                return Ok(End::Finished);
            }
            let arrival = std::future::poll_fn(|context| self.feeds.poll_arrival(context));
            tokio::select! {
                arrival = arrival => match arrival {
                    Arrival::Deliveries(deliveries) => self.deliver(deliveries),
                    Arrival::Cancelled => return Ok(End::Cancelled),
                    Arrival::Lost(error) => return Err(error),
                },
                written = self.clerk.written() => {
                    written?;
                    self.refill().await?;
                }
                () = self.pump.mailbox.asked.notified() => self.adjust().await?,
                () = &mut self.window, if self.watching => {
                    self.watching = false;
                    self.review().await?;
                    continue;
                }
            }
            self.watch();
        }
    }

    /// Looks when a window has passed from now, unless one is open already.
    fn watch(&mut self) {
        if !std::mem::replace(&mut self.watching, true) {
            self.window.as_mut().reset(Instant::now() + WINDOW);
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
        self.raise(wish.wanted).await
    }

    /// What was settled may have come by cancelled feeds, and then nothing follows it by itself.
    async fn refill(&mut self) -> lapin::Result<()> {
        if !self.feeds.have_cancelled() {
            return Ok(());
        }
        self.feeds.forget_settled(&self.clerk.ledger);
        let wish = self.pump.mailbox.wish();
        if wish.asking && !wish.closed {
            self.raise(wish.wanted).await?;
        }
        Ok(())
    }

    async fn raise(&mut self, wanted: usize) -> lapin::Result<()> {
        let missing = wanted.saturating_sub(self.allowed());
        if missing > 0 && self.feeds.are_many() {
            self.feeds.cancel_all().await?;
            // In full, although what the many have brought is still out: counted against it, it would have to be made
            // up for in small steps again.
            self.feeds.add(wanted).await?;
        } else if missing > 0 {
            self.feeds.add(missing).await?;
        }
        self.pump.mailbox.set_prefetch(self.feeds.prefetch());
        Ok(())
    }

    /// What may be outstanding: the prefetch of all feeds, and what cancelled ones have brought.
    fn allowed(&self) -> usize {
        self.feeds.prefetch() + self.clerk.ledger.open_by(|feed| !self.feeds.is_active(feed))
    }

    /// Lets others have what a caller that gave up had asked for.
    async fn withdraw(&mut self) -> lapin::Result<()> {
        tokio::time::sleep(WITHDRAW_AFTER).await;
        let wish = self.pump.mailbox.wish();
        if wish.closed {
            self.pump.mailbox.asked.notify_one();
            return Ok(());
        }
        if wish.asking {
            return self.raise(wish.wanted).await;
        }
        self.release(wish).await
    }

    /// Looks back at a window: lets others have what nobody asks for here, and tells the broker of a credit that has
    /// been smaller all the time.
    async fn review(&mut self) -> lapin::Result<()> {
        let (peak, wish) = self.pump.mailbox.review();
        if self.closing || wish.closed {
            return Ok(());
        }
        if wish.idle >= WINDOW {
            return self.release(wish).await;
        }
        if self.feeds.prefetch() > peak {
            self.shrink(peak).await?;
        }
        let unasked = !wish.asking && (wish.waiting > 0 || self.has_spare());
        if unasked || self.feeds.prefetch() > wish.wanted {
            self.watch();
        }
        Ok(())
    }

    /// Whether the broker may send more.
    fn has_spare(&self) -> bool {
        self.feeds.prefetch() > self.clerk.ledger.open_by(|feed| self.feeds.is_active(feed))
    }

    /// Stops the broker from sending, unless it cannot send anyway, and gives back what waits.
    async fn release(&mut self, wish: Wish) -> lapin::Result<()> {
        if !self.has_spare() && wish.waiting == 0 {
            return Ok(());
        }
        self.feeds.cancel_all().await?;
        self.pump.mailbox.set_prefetch(0);
        // Who asked while the broker was told saw the prefetch of before, and did not ring. Who asks from here on rings.
        let wish = self.pump.mailbox.wish();
        if wish.asking && !wish.closed {
            return self.raise(wish.wanted).await;
        }
        self.return_surplus(0)
    }

    async fn shrink(&mut self, peak: usize) -> lapin::Result<()> {
        self.feeds.cancel_all().await?;
        self.pump.mailbox.set_prefetch(0);
        // As in `release`.
        let wish = self.pump.mailbox.wish();
        let wanted = if wish.asking { peak.max(wish.wanted) } else { peak };
        self.return_surplus(wanted.saturating_sub(self.clerk.ledger.handed()))?;
        self.raise(wanted).await
    }

    /// Gives back what has arrived and is not asked for, but for the first `keep`.
    fn return_surplus(&mut self, keep: usize) -> lapin::Result<()> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match self.feeds.poll_arrival(&mut context) {
            std::task::Poll::Ready(Arrival::Deliveries(deliveries)) => self.deliver(deliveries),
            std::task::Poll::Ready(Arrival::Lost(error)) => return Err(error),
            // A cancellation is heard again at the next look.
            std::task::Poll::Ready(Arrival::Cancelled) | std::task::Poll::Pending => {}
        }
        drop(self.pump.mailbox.surplus(keep));
        Ok(())
    }

    fn deliver(&self, deliveries: Vec<(FeedId, lapin::message::Delivery)>) {
        let redelivered = deliveries.iter().filter(|(_, raw)| raw.redelivered).count();
        self.pump.counting.received.add(deliveries.len());
        self.pump.counting.redelivered.add(redelivered);
        let opened = deliveries.iter().map(|(feed, raw)| (raw.delivery_tag, *feed));
        self.clerk.ledger.open(opened);
        let arrived = deliveries.into_iter().map(|(_, raw)| self.waiting(raw));
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
        let tag = raw.delivery_tag;
        let receipt = RabbitReceipt::new(tag, Arc::clone(&self.clerk), office.clone(), kept);
        let receipt = Arc::new(receipt);
        Waiting {
            delivery: Delivery {
                body,
                message_id,
                deliveries,
                receipt,
            },
            tag,
        }
    }
}
