//! How much credit is enough: a pure function of how long calls take and how long everything around them takes.
//!
//! What it is: the rule behind [`Credit::Tuned`](crate::Credit::Tuned). What it is not: it holds no messages and
//! enforces nothing; that is `credit`.
//!
//! A message that is held and does not run is good for one thing: the next call need not wait for the broker. So the
//! tree holds what its runtime can do within [`AHEAD`], or within a few round trips to a distant broker, and no more.
//! When one call takes longer than that, nothing is held beside those that run, and whoever is idle gets the rest.

use std::time::Duration;

/// Work that may wait here, as time: far above the round trip to a broker nearby, far below what a person notices.
const AHEAD: Duration = Duration::from_millis(100);

/// Round trips that are bridged where they are longer than [`AHEAD`] is.
const ROUND_TRIPS: u32 = 4;

/// By how much credit grows at once. In between, the calls of a whole credit are awaited, so that one call which
/// happens to be fast does not bring in a thousand slow ones.
const GROWTH: usize = 4;

/// A call that has been running for longer than this is slow, whatever those before it were.
const SLOW: Duration = Duration::from_millis(500);

/// Chooses the credit of one tree.
#[derive(Debug, Clone)]
pub(crate) struct Tuner {
    slots: usize,
    /// What was configured as the most.
    limit: usize,
    /// The most that is held: the limit, or the slots where these are more.
    most: usize,
    credit: usize,
    call: Average,
    /// The last call that took longer than [`AHEAD`], forgotten slowly: where some calls are slow, others would be kept
    /// waiting behind the next of them.
    slow: Duration,
    around: Average,
    /// Calls since the credit changed.
    calls: usize,
    /// Messages that wait for a queue, and do nothing for the next call.
    stalled: usize,
}

impl Tuner {
    /// For `slots` calls at once; never above `most` and never below `slots`.
    pub(crate) fn new(slots: usize, most: usize) -> Self {
        Self {
            slots,
            limit: most,
            most: most.max(slots),
            credit: slots,
            call: Average::default(),
            slow: Duration::ZERO,
            around: Average::default(),
            calls: 0,
            stalled: 0,
        }
    }

    /// So many calls may be under way at once from now on: at least as many messages may be held.
    pub(crate) fn set_slots(&mut self, slots: usize) {
        if slots != self.slots {
            self.slots = slots;
            self.most = self.limit.max(slots);
            self.set(self.enough(self.usual()).min(self.credit).max(slots));
        }
    }

    /// Messages that may be held now.
    pub(crate) fn credit(&self) -> usize {
        self.credit.saturating_add(self.stalled).min(self.most)
    }

    /// So many messages have been run and have waited for long to be published: they are not in anybody's way, and
    /// must not keep the runtime idle.
    pub(crate) fn stalled(&mut self, messages: usize) {
        self.stalled = messages;
    }

    /// A call has ended after `took`.
    pub(crate) fn called(&mut self, took: Duration) {
        self.call.add(took);
        self.slow = if took > AHEAD {
            took.max(self.slow)
        } else {
            self.slow * 15 / 16
        };
        self.calls = self.calls.saturating_add(1);
        let enough = self.enough(self.usual());
        if enough > self.credit && self.calls >= self.credit {
            self.set(enough.min(self.credit.saturating_mul(GROWTH)));
        } else if enough == self.slots || enough <= self.credit / GROWTH {
            // Not for every small change: telling the broker costs round trips.
            self.set(enough);
        }
    }

    /// Publishing, confirming and settling of one message have taken `took`: what a call may have to wait for.
    pub(crate) fn settled(&mut self, took: Duration) {
        self.around.add(took);
    }

    /// The longest of the calls under way has taken `elapsed` so far. True when messages that wait behind it should
    /// go to somebody else.
    pub(crate) fn running(&mut self, elapsed: Duration) -> bool {
        if elapsed < SLOW || elapsed <= self.usual() {
            return false;
        }
        self.set(self.enough(elapsed).min(self.credit));
        true
    }

    /// How long a call is to be expected to take.
    fn usual(&self) -> Duration {
        let slow = if self.slow > AHEAD {
            self.slow
        } else {
            Duration::ZERO
        };
        self.call.value().max(slow)
    }

    fn enough(&self, call: Duration) -> usize {
        // Bounded: a publish that waits for a queue or for a broker under alarm says nothing about round trips.
        let ahead = AHEAD.max((self.around.value() * ROUND_TRIPS).min(SLOW));
        let nanos = call.as_nanos().max(1);
        // Bounded before it is multiplied: a call may take no time at all.
        let each = usize::try_from(ahead.as_nanos() / nanos).unwrap_or(usize::MAX);
        // In steps of two, so that what is measured a little differently each time asks for the same.
        let step = each.saturating_add(1).min(self.most);
        let step = 1 << step.ilog2();
        self.slots.saturating_mul(step).min(self.most)
    }

    fn set(&mut self, credit: usize) {
        if credit != self.credit {
            self.credit = credit;
            self.calls = 0;
        }
    }
}

/// A moving average in which the latest value counts a quarter.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Average(Option<Duration>);

impl Average {
    pub(crate) fn add(&mut self, value: Duration) {
        self.0 = Some(match self.0 {
            None => value,
            Some(before) => (before * 3 + value) / 4,
        });
    }

    /// `None` before the first value.
    pub(crate) const fn known(self) -> Option<Duration> {
        self.0
    }

    fn value(self) -> Duration {
        self.0.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(calls: usize, took: Duration) -> Tuner {
        let mut tuner = Tuner::new(1, 1024);
        for _ in 0..calls {
            tuner.called(took);
        }
        tuner
    }

    #[test]
    fn starts_with_what_runs() {
        assert_eq!(Tuner::new(3, 1024).credit(), 3);
        assert_eq!(Tuner::new(3, 1).credit(), 3, "each slot may have one");
    }

    #[test]
    fn a_slow_handler_has_one_running_and_none_waiting() {
        for seconds in [1, 60, 3600] {
            assert_eq!(after(50, Duration::from_secs(seconds)).credit(), 1);
        }
    }

    #[test]
    fn a_fast_handler_grows_step_by_step_to_the_most() {
        let credits: Vec<_> = [1, 5, 21, 85, 341]
            .into_iter()
            .map(|calls| after(calls, Duration::from_micros(20)).credit())
            .collect();
        assert_eq!(credits, [4, 16, 64, 256, 1024]);
        assert_eq!(after(5_000, Duration::from_micros(20)).credit(), 1024);
    }

    #[test]
    fn in_between_as_much_waits_as_is_done_within_the_bound() {
        assert_eq!(after(1_000, Duration::from_millis(1)).credit(), 64);
        assert_eq!(after(1_000, Duration::from_millis(30)).credit(), 4);
    }

    #[test]
    fn a_distant_broker_gets_more() {
        let mut tuner = Tuner::new(1, 1024);
        for _ in 0..100 {
            tuner.settled(Duration::from_millis(100));
            tuner.called(Duration::from_millis(50));
        }
        assert_eq!(tuner.credit(), 8, "four round trips of 100 ms");
    }

    #[test]
    fn a_measurement_that_varies_changes_nothing() {
        let mut tuner = after(5_000, Duration::from_micros(120));
        let before = tuner.credit();
        for micros in [90, 150, 110, 190, 100, 170].into_iter().cycle().take(3_000) {
            tuner.called(Duration::from_micros(micros));
            assert_eq!(tuner.credit(), before);
        }
    }

    #[test]
    fn a_publish_that_takes_for_ever_makes_nobody_hoard() {
        let mut tuner = after(10, Duration::from_secs(1));
        tuner.settled(Duration::from_mins(10));
        tuner.called(Duration::from_secs(1));
        assert_eq!(tuner.credit(), 1);
    }

    #[test]
    fn a_handler_that_turns_slow_gives_the_rest_away_while_it_runs() {
        let mut tuner = after(5_000, Duration::from_micros(20));
        assert!(!tuner.running(Duration::from_millis(300)), "that may be a hiccup");
        assert!(tuner.running(Duration::from_millis(700)));
        assert_eq!(tuner.credit(), 1);
        for _ in 0..20 {
            tuner.called(Duration::from_secs(2));
        }
        assert!(!tuner.running(Duration::from_secs(1)), "nothing unusual any more");
        assert_eq!(tuner.credit(), 1);
    }

    #[test]
    fn a_slow_first_call_does_not_weigh_for_long() {
        let mut tuner = after(1, Duration::from_secs(2));
        assert_eq!(tuner.credit(), 1);
        for _ in 0..2_000 {
            tuner.called(Duration::from_micros(50));
        }
        assert_eq!(tuner.credit(), 1024);
    }

    #[test]
    fn where_every_25th_call_is_slow_nothing_waits_behind_it() {
        let mut tuner = Tuner::new(1, 1024);
        for _ in 0..20 {
            tuner.called(Duration::from_millis(800));
            for _ in 0..24 {
                tuner.called(Duration::from_micros(50));
                assert_eq!(tuner.credit(), 1);
            }
        }
    }

    #[test]
    fn what_waits_for_a_queue_does_not_use_up_the_credit() {
        let mut tuner = after(50, Duration::from_secs(1));
        tuner.stalled(7);
        assert_eq!(tuner.credit(), 8);
        tuner.stalled(5_000);
        assert_eq!(tuner.credit(), 1024);
        tuner.stalled(0);
        assert_eq!(tuner.credit(), 1);
    }

    proptest! {
        #[test]
        fn always_between_slots_and_most(
            slots in 1_usize..20,
            most in 1_usize..2_000,
            events in proptest::collection::vec((0_u8..4, 0_u64..10_000_000), 0..200),
        ) {
            let mut tuner = Tuner::new(slots, most);
            for (kind, micros) in events {
                let took = Duration::from_micros(micros);
                match kind {
                    0 => tuner.called(took),
                    1 => tuner.settled(took),
                    2 => tuner.stalled(usize::try_from(micros / 1_000).unwrap_or(usize::MAX)),
                    _ => {
                        let before = tuner.credit();
                        tuner.running(took);
                        prop_assert!(tuner.credit() <= before, "a call under way never adds credit");
                    }
                }
                prop_assert!(tuner.credit() >= slots && tuner.credit() <= most.max(slots));
            }
        }
    }
}
