//! What a reporter has done, in figures.

use std::sync::atomic::{AtomicU64, Ordering};

/// One figure that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: usize) {
        // A count of things in memory always fits.
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn one(&self) {
        self.add(1);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The figures behind [`GatewayFigures`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) progress_sent: Counter,
    pub(super) progress_refused: Counter,
    pub(super) progress_failed: Counter,
    pub(super) progress_dropped: Counter,
    pub(super) children_sent: Counter,
    pub(super) children_lost: Counter,
    pub(super) finals_accepted: Counter,
    pub(super) finals_unknown: Counter,
    pub(super) finals_dropped: Counter,
    pub(super) finals_returned: Counter,
}

/// What a reporter has done since it was started, and how it fares now. For metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GatewayFigures {
    /// Progress reports that the gateway took.
    pub progress_sent: u64,
    /// Progress reports that the gateway answered with an error, mostly because it does not know the envelope.
    pub progress_refused: u64,
    /// Progress reports that were tried and did not come through.
    pub progress_failed: u64,
    /// Progress reports never tried: overtaken, too many, too old, or the gateway was away.
    pub progress_dropped: u64,
    /// Children of a fan-out that were made known.
    pub children_sent: u64,
    /// Children that the gateway never took note of.
    pub children_lost: u64,
    /// Final reports that the gateway took.
    pub finals_accepted: u64,
    /// Final reports about envelopes that the gateway does not know; nothing is lost by them.
    pub finals_unknown: u64,
    /// Final reports given up, because the gateway refused them or failed at them three times.
    pub finals_dropped: u64,
    /// Final reports whose message went back to its queue for a while, because the gateway was away.
    pub finals_returned: u64,
    /// Progress reports and children waiting in memory.
    pub waiting: usize,
    /// Reports on the gRPC stream that the gateway has not acknowledged.
    pub unacknowledged: usize,
    /// Whether the gateway is taken for away.
    pub away: bool,
    /// Whether reports go over gRPC.
    pub grpc: bool,
    /// Envelopes that the gateway has cancelled, as far as they are remembered.
    pub cancelled: usize,
}

/// What is measured rather than counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    pub(super) waiting: usize,
    pub(super) unacknowledged: usize,
    pub(super) away: bool,
    pub(super) grpc: bool,
    pub(super) cancelled: usize,
}

impl Counters {
    pub(super) fn figures(&self, present: Present) -> GatewayFigures {
        GatewayFigures {
            progress_sent: self.progress_sent.get(),
            progress_refused: self.progress_refused.get(),
            progress_failed: self.progress_failed.get(),
            progress_dropped: self.progress_dropped.get(),
            children_sent: self.children_sent.get(),
            children_lost: self.children_lost.get(),
            finals_accepted: self.finals_accepted.get(),
            finals_unknown: self.finals_unknown.get(),
            finals_dropped: self.finals_dropped.get(),
            finals_returned: self.finals_returned.get(),
            waiting: present.waiting,
            unacknowledged: present.unacknowledged,
            away: present.away,
            grpc: present.grpc,
            cancelled: present.cancelled,
        }
    }
}
