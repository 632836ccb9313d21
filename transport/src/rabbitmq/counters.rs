//! What the transport has counted, for metrics.
//!
//! Plain additions to atomics, one for each batch where things come in batches, so that the hot path does not feel it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since [`connect`](super::RabbitMqTransport::connect), of all clones of a transport together. They only grow.
///
/// What is in `published` but neither confirmed, nor returned, nor refused, is on its way or was lost with its
/// connection; its publisher was told so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that were lost and established again. The transport has two connections, so a restart of the
    /// broker counts twice.
    pub reconnects: u64,
    /// Messages sent to the broker. One that came back and was sent again on another way counts again.
    pub published: u64,
    /// Messages that the broker has confirmed as stored.
    pub confirmed: u64,
    /// Messages that came back because no queue took them (`basic.return`), whatever became of them afterwards.
    pub returned: u64,
    /// Messages that the broker refused (`basic.nack`), mostly because their queue was full.
    pub refused: u64,
    /// Messages that the broker has delivered to us.
    pub received: u64,
    /// Those of `received` that had been delivered to somebody before.
    pub redelivered: u64,
    /// Deliveries acknowledged.
    pub acknowledged: u64,
    /// Deliveries given back to their queue: for another attempt, or because nobody here asked for them.
    pub requeued: u64,
}

/// One total that grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn increment(&self) {
        self.add(1);
    }

    pub(super) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The totals while they grow.
#[derive(Debug, Default)]
pub(super) struct Counting {
    pub(super) reconnects: Counter,
    pub(super) published: Counter,
    pub(super) confirmed: Counter,
    pub(super) returned: Counter,
    pub(super) refused: Counter,
    pub(super) received: Counter,
    pub(super) redelivered: Counter,
    pub(super) acknowledged: Counter,
    pub(super) requeued: Counter,
}

impl Counting {
    pub(super) fn read(&self) -> Counters {
        Counters {
            reconnects: self.reconnects.get(),
            published: self.published.get(),
            confirmed: self.confirmed.get(),
            returned: self.returned.get(),
            refused: self.refused.get(),
            received: self.received.get(),
            redelivered: self.redelivered.get(),
            acknowledged: self.acknowledged.get(),
            requeued: self.requeued.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_total_is_read_where_it_was_counted() {
        let counting = Counting::default();
        let counters = [
            &counting.reconnects,
            &counting.published,
            &counting.confirmed,
            &counting.returned,
            &counting.refused,
            &counting.received,
            &counting.redelivered,
            &counting.acknowledged,
            &counting.requeued,
        ];
        for (number, counter) in counters.into_iter().enumerate() {
            counter.add(number);
            counter.increment();
        }
        let expected = Counters {
            reconnects: 1,
            published: 2,
            confirmed: 3,
            returned: 4,
            refused: 5,
            received: 6,
            redelivered: 7,
            acknowledged: 8,
            requeued: 9,
        };
        assert_eq!(counting.read(), expected);
    }
}
