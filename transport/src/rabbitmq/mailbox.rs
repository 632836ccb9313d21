//! Between a consumer, which asks for messages, and the pump, which has them brought.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::clerk::Clerk;
use crate::{ConsumeError, Delivery};

/// A delivery that waits to be asked for. Dropped, it goes back to the broker.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) delivery: Delivery,
    pub(super) tag: u64,
}

#[derive(Debug, Default)]
pub(super) struct Mailbox {
    inner: Mutex<Inner>,
    /// Rung for the consumer: something has arrived, or gone wrong.
    pub(super) arrived: Notify,
    /// Rung for the pump: look what is wanted.
    pub(super) asked: Notify,
    /// Messages the broker was told it may have outstanding with us.
    prefetch: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    error: Option<ConsumeError>,
    clerk: Option<Arc<Clerk>>,
    /// What the last `receive` asked for.
    credit: usize,
    /// Messages that the caller can hold now: those in its hands and those it asks for.
    wanted: usize,
    /// The largest `wanted` since the pump looked last.
    peak: usize,
    /// Whether a `receive` is under way.
    asking: bool,
    /// Whether a `receive` was given up since the last one began.
    withdrawn: bool,
    /// When the last `receive` ended.
    answered: Option<Instant>,
    closed: bool,
}

/// What the pump has to bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) wanted: usize,
    pub(super) asking: bool,
    pub(super) withdrawn: bool,
    pub(super) closed: bool,
    /// Deliveries that wait to be asked for.
    pub(super) waiting: usize,
    /// How long nobody has asked; zero while somebody does.
    pub(super) idle: Duration,
}

impl Inner {
    fn wish(&self) -> Wish {
        Wish {
            wanted: self.wanted,
            asking: self.asking,
            withdrawn: self.withdrawn,
            closed: self.closed,
            waiting: self.waiting.len(),
            idle: match self.answered {
                Some(answered) if !self.asking => answered.elapsed(),
                _ => Duration::ZERO,
            },
        }
    }

    fn answered(&mut self) {
        self.asking = false;
        self.answered = Some(Instant::now());
    }
}

impl Mailbox {
    /// The caller asks for up to `credit` more.
    pub(super) fn ask(&self, credit: usize) {
        let mut inner = self.lock();
        let handed = inner.clerk.as_ref().map_or(0, |clerk| clerk.ledger.handed());
        inner.credit = credit;
        inner.wanted = handed + credit;
        inner.peak = inner.peak.max(inner.wanted);
        inner.asking = true;
        inner.withdrawn = false;
        // What went wrong before this was asked is looked into anew.
        inner.error = None;
        let enough = inner.clerk.is_some() && inner.wanted <= self.prefetch.load(Ordering::Acquire);
        drop(inner);
        if !enough {
            self.asked.notify_one();
        }
    }

    /// Takes what is there, at most `credit`; `None` when the caller has to wait.
    pub(super) fn take(&self, credit: usize) -> Option<Result<Vec<Delivery>, ConsumeError>> {
        let mut inner = self.lock();
        if !inner.waiting.is_empty() {
            let count = inner.waiting.len().min(credit);
            if let Some(clerk) = &inner.clerk {
                let tags = inner.waiting.iter().take(count).map(|waiting| waiting.tag);
                clerk.ledger.hand_out(tags);
            }
            let taken = inner.waiting.drain(..count).map(|waiting| waiting.delivery);
            let taken = taken.collect();
            inner.answered();
            return Some(Ok(taken));
        }
        let error = inner.error.take()?;
        inner.answered();
        Some(Err(error))
    }

    /// The caller has stopped waiting before anything came.
    pub(super) fn withdraw(&self) {
        let mut inner = self.lock();
        inner.answered();
        inner.withdrawn = true;
        drop(inner);
        self.asked.notify_one();
    }

    /// The consumer is gone.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        drop(waiting);
        self.asked.notify_one();
    }

    pub(super) fn wish(&self) -> Wish {
        self.lock().wish()
    }

    /// The largest `wanted` since this was called last, and the present wish.
    pub(super) fn review(&self) -> (usize, Wish) {
        let mut inner = self.lock();
        let peak = inner.peak;
        inner.peak = inner.wanted;
        (peak, inner.wish())
    }

    /// A channel is open, with a clerk of its own.
    pub(super) fn begin(&self, clerk: &Arc<Clerk>) {
        let mut inner = self.lock();
        // What is in the caller's hands came by another channel, and no longer counts against this one.
        inner.clerk = Some(Arc::clone(clerk));
        inner.wanted = inner.credit;
        inner.peak = inner.credit;
    }

    pub(super) fn set_prefetch(&self, prefetch: usize) {
        self.prefetch.store(prefetch, Ordering::Release);
    }

    /// Deliveries for the caller. After the consumer is gone they go straight back.
    pub(super) fn deliver(&self, arrived: Vec<Waiting>) {
        let mut inner = self.lock();
        if inner.closed {
            drop(inner);
            drop(arrived);
            return;
        }
        inner.waiting.extend(arrived);
        drop(inner);
        self.arrived.notify_one();
    }

    /// Takes back what nobody has asked for, beyond the first `keep`.
    pub(super) fn surplus(&self, keep: usize) -> Vec<Waiting> {
        let mut inner = self.lock();
        let keep = keep.min(inner.waiting.len());
        inner.waiting.split_off(keep).into()
    }

    /// The channel ended: nothing that waits is valid any more.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.clerk = None;
        let stale = std::mem::take(&mut inner.waiting);
        drop(inner);
        drop(stale);
        self.set_prefetch(0);
    }

    /// Tells the caller, if it waits.
    pub(super) fn fail(&self, error: ConsumeError) {
        let mut inner = self.lock();
        if std::mem::take(&mut inner.asking) {
            inner.error = Some(error);
            drop(inner);
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
