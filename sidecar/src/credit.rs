//! Credit: the only bound on what the tree holds.
//!
//! Mailboxes are unbounded, so nothing enters the tree without a permit. A consumer takes permits *before* it asks
//! its queue for messages; a permit lives in the ledger entry of the delivery and comes back only when the entry is
//! gone. Bytes are bounded too: a queue does not tell sizes in advance, so the next pull is sized by the largest
//! message seen lately, and waits while the bytes held are at the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Shared by the consumer (takes) and the ledger (gives back by dropping permits).
#[derive(Debug)]
pub(crate) struct Credits {
    messages: Arc<Semaphore>,
    max_messages: usize,
    max_bytes: usize,
    bytes: AtomicUsize,
    largest: AtomicUsize,
    released: Notify,
}

/// The right to hold one message; gives itself back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    message: Option<OwnedSemaphorePermit>,
    bytes: usize,
    credits: Arc<Credits>,
}

impl Credits {
    pub(crate) fn new(max_messages: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            messages: Arc::new(Semaphore::new(max_messages)),
            max_messages,
            max_bytes,
            bytes: AtomicUsize::new(0),
            largest: AtomicUsize::new(0),
            released: Notify::new(),
        })
    }

    /// Waits until at least one message may be taken and returns how many may be, at most `limit`.
    ///
    /// Cancel safe. There is one consumer per tree, so what is free now cannot be taken by somebody else.
    pub(crate) async fn available(&self, limit: usize) -> usize {
        loop {
            let released = self.released.notified();
            let by_count = self.messages.available_permits().min(limit);
            let count = by_count.min(self.fit_in_bytes());
            if count > 0 {
                return count;
            }
            released.await;
        }
    }

    /// Takes the permit for one received message of `bytes` bytes; `None` when all are out.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        let message = Arc::clone(&self.messages).try_acquire_owned().ok()?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        // Remember large messages, and forget them slowly, so that one giant does not slow its queue for ever.
        let largest = self.largest.load(Ordering::Relaxed);
        self.largest
            .store(bytes.max(largest - largest / 16), Ordering::Relaxed);
        Some(Permit {
            message: Some(message),
            bytes,
            credits: Arc::clone(self),
        })
    }

    /// Permits handed out and not given back.
    pub(crate) fn taken(&self) -> usize {
        self.max_messages - self.messages.available_permits()
    }

    /// Bytes of all messages held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
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
        drop(self.message.take());
        self.credits.released.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn starts_with_one_and_opens_up_once_the_size_is_known() {
        let credits = Credits::new(10, 1_000);
        assert_eq!(credits.available(100).await, 1);
        let first = credits.take(100);
        assert_eq!(credits.available(100).await, 9);
        drop(first);
        assert_eq!(credits.available(100).await, 10);
    }

    #[tokio::test]
    async fn waits_while_all_permits_are_out_and_wakes_when_one_returns() {
        let credits = Credits::new(1, 1_000);
        let permit = credits.take(10).expect("one permit is free");
        assert!(credits.take(10).is_none());
        assert!(credits.available(1).now_or_never().is_none());
        let waiting = tokio::spawn({
            let credits = Arc::clone(&credits);
            async move { credits.available(1).await }
        });
        drop(permit);
        assert_eq!(waiting.await.expect("the task ends"), 1);
        assert_eq!((credits.taken(), credits.bytes()), (0, 0));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_release_is_missed_by_a_waiter_on_another_thread() {
        let credits = Credits::new(1, 1_000);
        let (permits, mut returned) = tokio::sync::mpsc::unbounded_channel();
        let releasing = tokio::spawn(async move { while returned.recv().await.is_some() {} });
        for round in 0..20_000 {
            let free = tokio::time::timeout(std::time::Duration::from_secs(10), credits.available(1)).await;
            assert_eq!(free, Ok(1), "round {round}: the release was missed");
            permits.send(credits.take(1)).expect("the other task runs");
        }
        drop(permits);
        releasing.await.expect("the other task ends");
    }

    #[tokio::test]
    async fn large_messages_shrink_the_next_pull_but_one_is_always_allowed_when_nothing_is_held() {
        let credits = Credits::new(10, 1_000);
        let giant = credits.take(5_000).expect("a permit");
        assert!(
            credits.available(10).now_or_never().is_none(),
            "over the byte limit nothing more is pulled"
        );
        drop(giant);
        assert_eq!(credits.available(10).await, 1);
    }
}
