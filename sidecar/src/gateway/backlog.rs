//! Progress reports that wait to be sent: bounded, in order per envelope, taken by one sender each.
//!
//! Reports lie by envelope, so that what is overtaken or pointless is found at once. A key is a hash of the id: if two
//! ids ever share one, a report may be dropped that need not be, and nothing worse.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::pace::Worth;

/// Envelopes that wait before reports which were overtaken are dropped.
const CALM: usize = 32;

/// One report that waits.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    pub(super) what: T,
    /// What it counts for, in bytes.
    pub(super) size: usize,
    pub(super) worth: Worth,
    /// Not worth sending after this.
    pub(super) until: Instant,
}

/// The reports of one sender. See the module documentation.
pub(super) struct Backlog<T> {
    state: Mutex<State<T>>,
    /// Something waits, or the end has come.
    filled: Notify,
    /// The sender is done with what it took.
    done: Notify,
    most_reports: usize,
    most_bytes: usize,
}

struct State<T> {
    /// The keys of `reports`, in the order in which the envelopes came.
    order: VecDeque<u64>,
    reports: HashMap<u64, Vec<Waiting<T>>>,
    count: usize,
    bytes: usize,
    /// The envelope whose reports are being sent.
    in_flight: Option<u64>,
    is_closed: bool,
}

impl<T> Backlog<T> {
    pub(super) fn new(most_reports: usize, most_bytes: usize) -> Self {
        let state = State {
            order: VecDeque::new(),
            reports: HashMap::new(),
            count: 0,
            bytes: 0,
            in_flight: None,
            is_closed: false,
        };
        Self {
            state: Mutex::new(state),
            filled: Notify::new(),
            done: Notify::new(),
            most_reports,
            most_bytes,
        }
    }

    /// Takes in a report; returns how many were dropped for it, itself included.
    pub(super) fn push(&self, key: u64, report: Waiting<T>) -> usize {
        let mut state = self.state();
        if state.is_closed {
            return 1;
        }
        let mut dropped = 0;
        if state.reports.len() > CALM {
            dropped += state.drop_overtaken(key);
        }
        while !state.has_room(&report, self.most_reports, self.most_bytes) {
            if report.worth == Worth::Passing || !state.drop_oldest(&mut dropped) {
                return dropped + 1;
            }
        }
        state.insert(key, report);
        drop(state);
        self.filled.notify_one();
        dropped
    }

    /// Waits for the reports of the next envelope, which count as under way until [`done`](Self::done). `None` once
    /// it is closed and empty.
    pub(super) async fn take(&self) -> Option<Vec<Waiting<T>>> {
        loop {
            {
                let mut state = self.state();
                if let Some(reports) = state.take() {
                    return Some(reports);
                }
                if state.is_closed {
                    return None;
                }
            }
            self.filled.notified().await; // Only one sender waits, and a permit is kept for it.
        }
    }

    /// What was taken has been dealt with.
    pub(super) fn done(&self) {
        self.state().in_flight = None;
        self.done.notify_waiters();
    }

    /// Drops what waits for `key` and waits for what is under way; returns how many were dropped.
    pub(super) async fn quiet(&self, key: u64) -> usize {
        let dropped = self.state().withdraw(key);
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.state().in_flight != Some(key) {
                return dropped;
            }
            done.await;
        }
    }

    /// Waits until nothing of `key` waits or is under way.
    pub(super) async fn settled(&self, key: u64) {
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            {
                let state = self.state();
                if state.in_flight != Some(key) && !state.reports.contains_key(&key) {
                    return;
                }
            }
            done.await;
        }
    }

    /// Takes in nothing more; what waits can still be taken.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.filled.notify_one();
    }

    /// Drops everything; returns how many that were.
    pub(super) fn clear(&self) -> usize {
        let mut state = self.state();
        state.order.clear();
        state.bytes = 0;
        state.reports.clear();
        std::mem::take(&mut state.count)
    }

    pub(super) fn len(&self) -> usize {
        self.state().count
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn has_room(&self, report: &Waiting<T>, most_reports: usize, most_bytes: usize) -> bool {
        self.count < most_reports && self.bytes + report.size <= most_bytes
    }

    fn insert(&mut self, key: u64, report: Waiting<T>) {
        self.count += 1;
        self.bytes += report.size;
        match self.reports.entry(key) {
            Entry::Occupied(mut there) => there.get_mut().push(report),
            Entry::Vacant(place) => {
                place.insert(vec![report]);
                self.order.push_back(key);
            }
        }
    }

    fn take(&mut self) -> Option<Vec<Waiting<T>>> {
        let key = self.order.pop_front()?;
        let reports = self.reports.remove(&key).unwrap_or_default();
        self.forget(&reports);
        self.in_flight = Some(key);
        Some(reports)
    }

    /// Drops reports of `key` that the next one says more than.
    fn drop_overtaken(&mut self, key: u64) -> usize {
        let Some(mut reports) = self.reports.remove(&key) else {
            return 0;
        };
        self.forget(&reports);
        let before = reports.len();
        reports.retain(|report| report.worth != Worth::Passing);
        self.count += reports.len();
        self.bytes += reports.iter().map(|report| report.size).sum::<usize>();
        let dropped = before - reports.len();
        self.reports.insert(key, reports); // Still in its place in the order, even when empty.
        dropped
    }

    fn drop_oldest(&mut self, dropped: &mut usize) -> bool {
        while let Some(key) = self.order.pop_front() {
            let count = self.remove(key);
            if count > 0 {
                *dropped += count;
                return true;
            }
        }
        false
    }

    fn withdraw(&mut self, key: u64) -> usize {
        if self.reports.contains_key(&key) {
            self.order.retain(|other| *other != key);
        }
        self.remove(key)
    }

    /// The key must have left `order`.
    fn remove(&mut self, key: u64) -> usize {
        let reports = self.reports.remove(&key).unwrap_or_default();
        self.forget(&reports);
        reports.len()
    }

    fn forget(&mut self, reports: &[Waiting<T>]) {
        self.count -= reports.len();
        self.bytes -= reports.iter().map(|report| report.size).sum::<usize>();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(name: &str, worth: Worth) -> Waiting<String> {
        Waiting {
            what: name.to_owned(),
            size: name.len() + 1,
            worth,
            until: Instant::now() + Duration::from_mins(1),
        }
    }

    fn backlog() -> Backlog<String> {
        Backlog::new(1000, 100_000)
    }

    async fn taken(backlog: &Backlog<String>) -> Vec<String> {
        let reports = backlog.take().await.unwrap();
        reports.into_iter().map(|report| report.what).collect()
    }

    #[tokio::test]
    async fn reports_of_an_envelope_come_together_and_in_order() {
        let backlog = backlog();
        for (key, name) in [(1, "a1"), (2, "b1"), (1, "a2"), (2, "b2"), (1, "a3")] {
            assert_eq!(backlog.push(key, report(name, Worth::Passing)), 0);
        }
        assert_eq!(backlog.len(), 5);
        assert_eq!(taken(&backlog).await, ["a1", "a2", "a3"]);
        backlog.push(1, report("a4", Worth::Passing));
        assert_eq!(taken(&backlog).await, ["b1", "b2"]);
        assert_eq!(taken(&backlog).await, ["a4"]);
        backlog.close();
        assert!(backlog.take().await.is_none());
        assert_eq!(backlog.push(1, report("late", Worth::Lasting)), 1);
    }

    #[tokio::test]
    async fn under_pressure_what_is_overtaken_is_dropped() {
        let backlog = backlog();
        for key in 0..=CALM as u64 {
            backlog.push(key, report("received", Worth::Passing));
        }
        assert_eq!(backlog.push(0, report("processing", Worth::Passing)), 1);
        assert_eq!(backlog.push(0, report("completed", Worth::Lasting)), 1);
        assert_eq!(backlog.push(0, report("received", Worth::Passing)), 0);
        assert_eq!(taken(&backlog).await, ["completed", "received"]);
        assert_eq!(backlog.len(), CALM);
    }

    #[tokio::test]
    async fn neither_count_nor_bytes_exceed_their_bounds_and_nothing_is_uncounted() {
        let backlog = Backlog::new(10, 200);
        let (mut dropped, mut largest) = (0, 0);
        for key in 0..1000 {
            let worth = if key % 3 == 0 {
                Worth::Lasting
            } else {
                Worth::Passing
            };
            dropped += backlog.push(key % 40, report("some twenty bytes ...", worth));
            let state = backlog.state();
            assert!(state.count <= 10 && state.bytes <= 200);
            assert_eq!(state.order.len(), state.reports.len());
            largest = largest.max(state.count);
        }
        assert_eq!(largest, 9, "22 bytes each");
        assert_eq!(dropped + backlog.len(), 1000);
        let huge = "x".repeat(300);
        assert_eq!(backlog.push(99, report(&huge, Worth::Passing)), 1);
        let left = backlog.len();
        assert_eq!(backlog.push(99, report(&huge, Worth::Lasting)), left + 1);
        assert_eq!(backlog.len(), 0);
    }

    #[tokio::test]
    async fn a_full_backlog_gives_its_oldest_for_what_lasts_and_refuses_what_passes() {
        let backlog = Backlog::new(2, 1000);
        backlog.push(1, report("a", Worth::Passing));
        backlog.push(2, report("b", Worth::Passing));
        assert_eq!(backlog.push(3, report("c", Worth::Passing)), 1);
        assert_eq!(backlog.push(3, report("d", Worth::Lasting)), 1);
        assert_eq!(taken(&backlog).await, ["b"]);
        assert_eq!(taken(&backlog).await, ["d"]);
    }

    #[tokio::test]
    async fn quiet_drops_what_waits_and_waits_for_what_is_under_way() {
        let backlog = backlog();
        for name in ["a1", "a2"] {
            backlog.push(1, report(name, Worth::Passing));
        }
        backlog.push(2, report("b1", Worth::Passing));
        assert_eq!(backlog.quiet(1).await, 2);
        assert_eq!(taken(&backlog).await, ["b1"]);
        assert_eq!(backlog.quiet(1).await, 0, "another envelope is under way");
        let quiet = backlog.quiet(2);
        tokio::pin!(quiet);
        assert!(futures::poll!(&mut quiet).is_pending());
        backlog.done();
        assert_eq!(quiet.await, 0);
    }

    #[tokio::test]
    async fn what_waits_for_an_envelope_to_settle_waits_for_all_of_it() {
        let backlog = backlog();
        backlog.push(1, report("a", Worth::Kept));
        backlog.push(2, report("b", Worth::Kept));
        backlog.settled(3).await;
        let settled = backlog.settled(1);
        tokio::pin!(settled);
        assert!(futures::poll!(&mut settled).is_pending());
        taken(&backlog).await;
        assert!(futures::poll!(&mut settled).is_pending(), "it is under way");
        backlog.done();
        settled.await;
    }
}
