//! Credit: the only bound on what the tree holds.
//!
//! Mailboxes are unbounded, so nothing enters the tree without a permit. A consumer takes permits *before* it asks
//! its queue for messages; a permit lives in the ledger entry of the delivery and comes back only when the entry is
//! gone. Bytes are bounded too: a queue does not tell sizes in advance, so the next pull is sized by the largest
//! message seen lately, and waits while the bytes held are at the limit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use crate::config::Credit;
use crate::tuning::Tuner;

/// Messages that may wait for a missing queue beside a fixed credit.
const MOST_STALLED: usize = 1024;

/// Shared by the consumer (takes) and the ledger (gives back by dropping permits).
#[derive(Debug)]
pub(crate) struct Credits {
    taken: AtomicUsize,
    /// Messages that may be held; changes when a tuner says so.
    limit: watch::Sender<usize>,
    tuner: Option<Mutex<Tuner>>,
    /// The limit where there is no tuner.
    fixed: usize,
    max_bytes: usize,
    bytes: AtomicUsize,
    largest: AtomicUsize,
    released: Notify,
}

/// The right to hold one message; gives itself back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    bytes: usize,
    credits: Arc<Credits>,
}

impl Credits {
    pub(crate) fn new(credit: Credit, slots: usize, max_bytes: usize) -> Arc<Self> {
        let (limit, tuner) = match credit {
            Credit::Fixed(messages) => (messages.max(1), None),
            Credit::Tuned { most } => {
                let tuner = Tuner::new(slots.max(1), most);
                (tuner.credit(), Some(Mutex::new(tuner)))
            }
        };
        Arc::new(Self {
            taken: AtomicUsize::new(0),
            limit: watch::Sender::new(limit),
            tuner,
            fixed: limit,
            max_bytes,
            bytes: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
            released: Notify::new(),
        })
    }

    /// Waits until at least one message may be taken and returns how many may be.
    ///
    /// Cancel safe. There is one consumer per tree, so what is free now cannot be taken by somebody else.
    pub(crate) async fn available(&self) -> usize {
        loop {
            let released = self.released.notified();
            let by_count = self.limit().saturating_sub(self.taken());
            let count = by_count.min(self.fit_in_bytes());
            if count > 0 {
                return count;
            }
            released.await;
        }
    }

    /// Takes the permit for one received message of `bytes` bytes.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Permit {
        self.taken.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Remember large messages, and forget them slowly, so that one giant does not slow its queue for ever.
        let largest = self.largest.load(Ordering::Relaxed);
        self.largest
            .store(bytes.max(largest - largest / 16), Ordering::Relaxed);
        Permit {
            bytes,
            credits: Arc::clone(self),
        }
    }

    /// So many calls may be under way at once from now on.
    pub(crate) fn set_slots(&self, slots: usize) {
        self.tune(|tuner| tuner.set_slots(slots.max(1)));
    }

    /// Permits handed out and not given back.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// Messages that may be held now.
    pub(crate) fn limit(&self) -> usize {
        *self.limit.borrow()
    }

    /// Bytes of all messages held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    /// Resolves when the limit has been lowered since the call: who waits for more than that should ask anew.
    pub(crate) fn lowered(&self) -> impl Future<Output = ()> + use<> {
        let mut limit = self.limit.subscribe();
        let before = *limit.borrow_and_update();
        async move {
            if limit.wait_for(|now| *now < before).await.is_err() {
                std::future::pending::<()>().await; // The tree is gone, and with it whoever waits here.
            }
        }
    }

    /// A call of the runtime has ended after `took`.
    pub(crate) fn called(&self, took: Duration) {
        self.tune(|tuner| tuner.called(took));
    }

    /// Everything between the answer of the runtime and the settled delivery has taken `took`.
    pub(crate) fn settled(&self, took: Duration) {
        self.tune(|tuner| tuner.settled(took));
    }

    /// The longest call under way has taken `elapsed` so far. Returns how many of the messages held should go back to
    /// the queue, if that many wait.
    pub(crate) fn surplus(&self, elapsed: Duration) -> usize {
        match self.tune(|tuner| tuner.running(elapsed)) {
            Some(true) => self.taken().saturating_sub(self.limit()),
            Some(false) | None => 0,
        }
    }

    /// So many messages have waited for long to be published.
    ///
    /// A fixed credit grows by them too: it is meant for what waits to be run, and one message to a missing queue must
    /// not stop an actor with a prefetch of 1 (rulings 13).
    pub(crate) fn stalled(&self, messages: usize) {
        if self.tune(|tuner| tuner.stalled(messages)).is_none() {
            self.set_limit(self.fixed.saturating_add(messages.min(MOST_STALLED)));
        }
    }

    fn set_limit(&self, limit: usize) {
        let before = self.limit();
        if limit != before {
            self.limit.send_replace(limit);
            if limit > before {
                self.released.notify_one();
            }
        }
    }

    fn tune<T>(&self, change: impl FnOnce(&mut Tuner) -> T) -> Option<T> {
        let mut tuner: MutexGuard<'_, Tuner> = self
            .tuner
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut tuner);
        let credit = tuner.credit();
        drop(tuner);
        self.set_limit(credit);
        Some(result)
    }

    fn fit_in_bytes(&self) -> usize {
        let held = self.bytes();
        if held >= self.max_bytes {
            return 0;
        }
        match self.largest.load(Ordering::Relaxed) {
            // Nothing is known yet: ask for one and learn.
            0 => 1,
            largest => ((self.max_bytes - held) / largest).max(usize::from(held == 0)),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.credits.bytes.fetch_sub(self.bytes, Ordering::Release);
        // Before the wake-up: whoever it wakes must see the permit.
        self.credits.taken.fetch_sub(1, Ordering::AcqRel);
        self.credits.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn starts_with_one_and_opens_up_once_the_size_is_known() {
        let credits = Credits::new(Credit::Fixed(10), 1, 1_000);
        assert_eq!(credits.available().await, 1);
        let first = credits.take(100);
        assert_eq!(credits.available().await, 9);
        drop(first);
        assert_eq!(credits.available().await, 10);
    }

    #[tokio::test]
    async fn waits_while_all_permits_are_out_and_wakes_when_one_returns() {
        let credits = Credits::new(Credit::Fixed(1), 1, 1_000);
        let permit = credits.take(10);
        assert!(credits.available().now_or_never().is_none());
        let waiting = tokio::spawn({
            let credits = Arc::clone(&credits);
            async move { credits.available().await }
        });
        drop(permit);
        assert_eq!(waiting.await.expect("the task ends"), 1);
        assert_eq!((credits.taken(), credits.bytes()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_release_is_missed_by_a_waiter_on_another_thread() {
        let credits = Credits::new(Credit::Fixed(1), 1, 1_000);
        let (permits, mut returned) = tokio::sync::mpsc::unbounded_channel();
        let releasing = tokio::spawn(async move { while returned.recv().await.is_some() {} });
        for round in 0..20_000 {
            let free = tokio::time::timeout(std::time::Duration::from_secs(10), credits.available()).await;
            assert_eq!(free, Ok(1), "round {round}: the release was missed");
            permits.send(credits.take(1)).expect("the other task runs");
        }
        drop(permits);
        releasing.await.expect("the other task ends");
    }

    #[tokio::test]
    async fn large_messages_shrink_the_next_pull_but_one_is_always_allowed_when_nothing_is_held() {
        let credits = Credits::new(Credit::Fixed(10), 1, 1_000);
        let giant = credits.take(5_000);
        assert!(
            credits.available().now_or_never().is_none(),
            "over the byte limit nothing more is pulled"
        );
        drop(giant);
        assert_eq!(credits.available().await, 1);
    }

    #[tokio::test]
    async fn tuned_credit_opens_up_for_a_fast_handler_and_closes_for_a_slow_one() {
        let credits = Credits::new(Credit::Tuned { most: 8 }, 1, 1_000_000);
        assert_eq!(credits.available().await, 1);
        let first = credits.take(10);
        let opened = tokio::spawn({
            let credits = Arc::clone(&credits);
            async move { credits.available().await }
        });
        credits.called(Duration::from_micros(10));
        assert_eq!(opened.await.expect("the task ends"), 3, "4 may be held, 1 is");
        let more: Vec<_> = (0..3).map(|_| credits.take(10)).collect();
        let lowered = credits.lowered();
        assert_eq!(credits.surplus(Duration::from_millis(10)), 0);
        assert_eq!(
            credits.surplus(Duration::from_secs(10)),
            3,
            "one runs, the others may go"
        );
        lowered.await;
        drop((first, more));
        assert_eq!(
            (credits.taken(), credits.limit(), credits.available().await),
            (0, 1, 1)
        );
    }
}
