//! The consumers that one channel has on the broker.
//!
//! A `basic.consume` keeps the prefetch it was made with, and quorum queues know no limit for a whole channel. So more
//! credit means one more consumer beside the others, with the difference as its prefetch: the sum is what was asked
//! for, and never more, but for the moment in which many are merged. Less credit means to cancel all of them and start
//! again with what is left.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream as _;
use futures::future::{try_join, try_join_all};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};

use super::ledger::{FeedId, Ledger};

/// So many consumers at most; beyond that they are merged.
const MANY: usize = 16;

/// Largest prefetch that AMQP can say; zero would mean no limit.
const MOST: usize = u16::MAX as usize;

#[derive(Debug)]
struct Feed {
    id: FeedId,
    prefetch: usize,
    /// Cancelled feeds may still hold deliveries.
    cancelled: bool,
    consumer: lapin::Consumer,
}

#[derive(Debug)]
pub(super) struct Feeds {
    channel: Channel,
    queue: ShortString,
    all: Vec<Feed>,
    next: FeedId,
    /// Whether cancelled feeds may have deliveries out.
    cancelled: bool,
}

/// What came in.
#[derive(Debug)]
pub(super) enum Arrival {
    /// Deliveries in the order in which the broker sent them. Nothing that it sent before the last one is missing.
    Deliveries(Vec<(FeedId, Delivery)>),
    /// The broker cancelled us: the queue was deleted, or its leader is gone.
    Cancelled,
    /// The channel ended.
    Lost(lapin::Error),
}

impl Feeds {
    pub(super) fn new(channel: Channel, queue: ShortString) -> Self {
        Self {
            channel,
            queue,
            all: Vec::new(),
            next: 0,
            cancelled: false,
        }
    }

    /// The sum of what the broker may have outstanding with us, without what came by cancelled feeds.
    pub(super) fn prefetch(&self) -> usize {
        self.all
            .iter()
            .filter(|feed| !feed.cancelled)
            .map(|feed| feed.prefetch)
            .sum()
    }

    pub(super) fn is_active(&self, id: FeedId) -> bool {
        self.all.iter().any(|feed| feed.id == id && !feed.cancelled)
    }

    pub(super) fn are_many(&self) -> bool {
        self.all.iter().filter(|feed| !feed.cancelled).count() >= MANY
    }

    /// Whether there are feeds that were cancelled and may still have deliveries out.
    pub(super) fn have_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Forgets about cancelled feeds if none of them has deliveries out.
    pub(super) fn forget_settled(&mut self, ledger: &Ledger) {
        self.cancelled = ledger.open_by(|feed| !self.is_active(feed)) > 0;
    }

    /// Lets the broker send `more` than before. Returns once everything it has at hand for that has arrived.
    pub(super) async fn add(&mut self, more: usize) -> lapin::Result<()> {
        let prefetch = more.min(MOST);
        let limit = u16::try_from(prefetch).unwrap_or(u16::MAX);
        self.next += 1;
        // Both frames leave together, in this order.
        let limiting = self.channel.basic_qos(limit, BasicQosOptions::default());
        let (tag, options) = (ShortString::default(), BasicConsumeOptions::default());
        let arguments = FieldTable::default();
        let consuming = self
            .channel
            .basic_consume(self.queue.clone(), tag, options, arguments);
        let ((), consumer) = try_join(limiting, consuming).await?;
        self.all.push(Feed {
            id: self.next,
            prefetch,
            cancelled: false,
            consumer,
        });
        // Deliveries come before the answer to what is asked after them. So the caller gets what is there at once, and
        // no message waits here while somebody else could have it.
        self.channel.basic_qos(limit, BasicQosOptions::default()).await
    }

    /// Lets the broker send nothing more.
    pub(super) async fn cancel_all(&mut self) -> lapin::Result<()> {
        let channel = &self.channel;
        let cancelling = self.all.iter_mut().filter(|feed| !feed.cancelled).map(|feed| {
            feed.cancelled = true;
            channel.basic_cancel(feed.consumer.tag(), BasicCancelOptions::default())
        });
        let cancelling: Vec<_> = cancelling.collect();
        self.cancelled |= !cancelling.is_empty();
        try_join_all(cancelling).await.map(|_| ())
    }

    /// What has arrived; pending while there is nothing. Cancel safe.
    pub(super) fn poll_arrival(&mut self, context: &mut Context<'_>) -> Poll<Arrival> {
        let mut deliveries = Vec::new();
        let several = self.all.len() > 1;
        // Passes over all feeds until one finds nothing: only then no earlier delivery can be missing.
        loop {
            let before = deliveries.len();
            let mut ended = Vec::new();
            for feed in &mut self.all {
                loop {
                    match Pin::new(&mut feed.consumer).poll_next(context) {
                        Poll::Ready(Some(Ok(delivery))) => deliveries.push((feed.id, delivery)),
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Arrival::Lost(error)),
                        Poll::Ready(None) if feed.cancelled => {
                            ended.push(feed.id);
                            break;
                        }
                        Poll::Ready(None) => return Poll::Ready(Arrival::Cancelled),
                        Poll::Pending => break,
                    }
                }
            }
            self.all.retain(|feed| !ended.contains(&feed.id));
            if deliveries.len() == before {
                break;
            }
        }
        if deliveries.is_empty() {
            return Poll::Pending;
        }
        if several {
            deliveries.sort_by_key(|(_, delivery)| delivery.delivery_tag);
        }
        Poll::Ready(Arrival::Deliveries(deliveries))
    }
}
