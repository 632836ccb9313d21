//! Collections that remember only the latest entries, so that `asya up` can run for months.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Entries that a [`Recent`] remembers.
const REMEMBERED: usize = 10_000;

/// Durations of which the median is taken.
const TIMED: usize = 1_000;

/// A map by envelope id that forgets its oldest entry when it is full.
#[derive(Debug)]
pub(super) struct Recent<V> {
    values: HashMap<String, V>,
    order: VecDeque<String>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<V> Recent<V> {
    /// False if `id` was there already; its value is the new one in any case.
    pub(super) fn insert(&mut self, id: &str, value: V) -> bool {
        if self.values.insert(id.to_owned(), value).is_some() {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
        true
    }

    pub(super) fn get(&self, id: &str) -> Option<&V> {
        self.values.get(id)
    }
}

/// How long calls took: all of them in sum, the latest for the median.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    latest: VecDeque<Duration>,
    longest: Option<Duration>,
    total: Duration,
}

impl Times {
    pub(super) fn push(&mut self, took: Duration) {
        if self.latest.len() == TIMED {
            self.latest.pop_front();
        }
        self.latest.push_back(took);
        self.longest = self.longest.max(Some(took));
        self.total = self.total.saturating_add(took);
    }

    /// The median of the latest thousand calls.
    pub(super) fn median(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.latest.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }

    /// The longest call of all.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.longest
    }

    /// All calls together.
    pub(super) fn total(&self) -> Duration {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_is_forgotten() {
        let mut recent = Recent::default();
        for n in 0..=REMEMBERED {
            assert!(recent.insert(&n.to_string(), n));
        }
        assert_eq!((recent.get("0"), recent.get("1")), (None, Some(&1)));
        assert!(!recent.insert("1", 7));
        assert_eq!(
            (recent.values.len(), recent.order.len()),
            (REMEMBERED, REMEMBERED)
        );
    }

    #[test]
    fn times_keep_sums_of_all_and_the_median_of_the_latest() {
        let mut times = Times::default();
        times.push(Duration::from_secs(90));
        for _ in 0..2 * TIMED {
            times.push(Duration::from_secs(1));
        }
        assert_eq!(times.latest.len(), TIMED);
        assert_eq!(times.longest(), Some(Duration::from_secs(90)));
        assert_eq!(times.median(), Some(Duration::from_secs(1)));
        assert_eq!(times.total(), Duration::from_secs(2 * TIMED as u64 + 90));
    }
}
