//! Sends the verdicts of one channel to the broker.
//!
//! Whoever settles a delivery sends the frame at once, without waiting for a task to wake up. While frames are on
//! their way to the socket nobody sends more: what is settled meanwhile is collected, and goes out together when they
//! are written. So a single acknowledgement leaves at once, and many share a frame.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use futures::future::BoxFuture;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicNackOptions};
use tokio::sync::{Notify, oneshot};

use super::counters::Counting;
use super::ledger::{Batch, Frame, Ledger, Verdict};

type Sending = BoxFuture<'static, lapin::Result<()>>;

/// Frames that the client library has taken in and perhaps not written yet.
struct Writing {
    batch: Batch,
    frames: VecDeque<Sending>,
}

pub(super) struct Clerk {
    pub(super) ledger: Ledger,
    channel: Channel,
    counting: Arc<Counting>,
    writing: Mutex<Option<Writing>>,
    /// Rung for the task that owns the channel: frames are on their way.
    sent: Notify,
}

impl Clerk {
    pub(super) fn new(channel: Channel, counting: Arc<Counting>) -> Self {
        Self {
            ledger: Ledger::default(),
            channel,
            counting,
            writing: Mutex::new(None),
            sent: Notify::new(),
        }
    }

    /// Settles a delivery. `None` when the channel has ended; otherwise a receiver that hears when the frame is
    /// written, or that the channel ended before.
    pub(super) fn settle(&self, tag: u64, verdict: Verdict) -> Option<oneshot::Receiver<()>> {
        let written = self.ledger.settle(tag, verdict)?;
        self.send();
        Some(written)
    }

    /// Waits until frames are written, answers those who wait for that, and sends what was settled meanwhile. For one
    /// task, the one that owns the channel. Cancel safe.
    pub(super) async fn written(&self) -> lapin::Result<()> {
        loop {
            let written = std::future::poll_fn(|context| self.poll_written(context)).await;
            let Some(result) = written else {
                self.sent.notified().await;
                continue;
            };
            let batch = result?;
            self.counting.acknowledged.add(batch.acks);
            self.counting.requeued.add(batch.requeues);
            self.ledger.written();
            batch.done();
            self.send();
            return Ok(());
        }
    }

    /// The channel is gone: nothing can be settled any more, and whoever waits hears it.
    pub(super) fn end(&self) {
        self.ledger.end();
        let unwritten = self.writing().take();
        drop(unwritten);
    }

    /// Sends what has been settled, unless frames are under way.
    fn send(&self) {
        let Some(batch) = self.ledger.take() else {
            return;
        };
        let mut frames = VecDeque::with_capacity(batch.frames.len());
        for frame in &batch.frames {
            let mut sending = transmit(self.channel.clone(), *frame);
            // The client library queues a frame when its future is polled for the first time. The task that owns the
            // channel polls again, with a waker of its own.
            let polled = sending.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            frames.push_back(match polled {
                Poll::Ready(result) => Box::pin(std::future::ready(result)),
                Poll::Pending => sending,
            });
        }
        *self.writing() = Some(Writing { batch, frames });
        if self.ledger.has_ended() {
            // After `end` has looked, so nobody would come for it.
            self.end();
        }
        self.sent.notify_one();
    }

    /// The batch that is written; `None` if none is under way.
    fn poll_written(&self, context: &mut Context<'_>) -> Poll<Option<lapin::Result<Batch>>> {
        let mut writing = self.writing();
        let Some(under_way) = writing.as_mut() else {
            return Poll::Ready(None);
        };
        // Frames are written in order, so there is no need to look at a later one first.
        while let Some(next) = under_way.frames.front_mut() {
            if let Err(error) = ready!(next.as_mut().poll(context)) {
                return Poll::Ready(Some(Err(error)));
            }
            under_way.frames.pop_front();
        }
        Poll::Ready(writing.take().map(|written| Ok(written.batch)))
    }

    fn writing(&self) -> MutexGuard<'_, Option<Writing>> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn transmit(channel: Channel, frame: Frame) -> Sending {
    Box::pin(async move {
        match frame {
            Frame::Ack { tag, multiple } => channel.basic_ack(tag, BasicAckOptions { multiple }).await,
            Frame::Requeue { tag } => {
                let options = BasicNackOptions {
                    multiple: false,
                    requeue: true,
                };
                channel.basic_nack(tag, options).await
            }
        }
    })
}

impl fmt::Debug for Clerk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Clerk")
            .field("channel", &self.channel.id())
            .field("ledger", &self.ledger)
            .finish_non_exhaustive()
    }
}
