//! How many progress reports per second are worth their cost: a request costs both sides far more than a hop does, and
//! nobody follows thousands of them. Finals and registrations are not counted here.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seconds of the rate that may come at once.
const BURST: u64 = 2;

const SECOND: u64 = 1_000_000_000;

/// Lets a number of reports per second pass, without a lock. Full of credit at the start.
pub(super) struct Pace {
    start: Instant,
    /// Nanoseconds that one report takes of the budget; 0 for no limit.
    cost: u64,
    /// The budget is used up to here, in nanoseconds since the start.
    used: AtomicU64,
}

/// What a report is worth when not all can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// `received` and `processing`: the next report says more. May use half of the budget.
    Passing,
    /// `completed`.
    Lasting,
    /// Nothing later tells it again: children, items of a stream, retries. Not paced, and kept as long as there is room.
    Kept,
}

impl Pace {
    pub(super) fn new(per_second: Option<NonZeroU32>) -> Self {
        Self {
            start: Instant::now(),
            cost: per_second.map_or(0, |rate| SECOND / u64::from(rate.get())),
            used: AtomicU64::new(0),
        }
    }

    /// Whether a report of this worth may go now; if so, its share of the budget is used.
    pub(super) fn admits(&self, worth: Worth, now: Instant) -> bool {
        if self.cost == 0 || worth == Worth::Kept {
            return true;
        }
        let now = nanos(now.saturating_duration_since(self.start));
        let budget = (BURST * SECOND).max(2 * self.cost);
        let share = match worth {
            Worth::Passing => budget / 2,
            Worth::Lasting | Worth::Kept => budget,
        };
        let use_up = |used: u64| {
            let used = used.max(now).saturating_add(self.cost);
            (used - now <= share).then_some(used)
        };
        self.used
            .try_update(Ordering::Relaxed, Ordering::Relaxed, use_up)
            .is_ok()
    }
}

/// Good for five hundred years of uptime.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(pace: &Pace, worth: Worth, now: Instant) -> usize {
        (0..10_000).take_while(|_| pace.admits(worth, now)).count()
    }

    #[test]
    fn passing_reports_leave_half_of_the_burst_to_lasting_ones() {
        let pace = Pace::new(NonZeroU32::new(100));
        let now = pace.start;
        assert_eq!(admitted(&pace, Worth::Passing, now), 100);
        assert_eq!(admitted(&pace, Worth::Lasting, now), 100);
        assert!(!pace.admits(Worth::Lasting, now));
    }

    #[test]
    fn the_budget_comes_back_at_the_rate_and_no_further_than_the_burst() {
        let pace = Pace::new(NonZeroU32::new(100));
        let mut now = pace.start;
        assert_eq!(admitted(&pace, Worth::Lasting, now), 200);
        now += Duration::from_millis(50);
        assert!(!pace.admits(Worth::Passing, now));
        assert_eq!(admitted(&pace, Worth::Lasting, now), 5);
        now += Duration::from_hours(1);
        assert_eq!(admitted(&pace, Worth::Lasting, now), 200);
    }

    #[test]
    fn the_lowest_rate_and_no_rate_let_something_pass() {
        let pace = Pace::new(NonZeroU32::new(1));
        assert!(pace.admits(Worth::Passing, pace.start));
        let pace = Pace::new(None);
        assert_eq!(admitted(&pace, Worth::Passing, pace.start), 10_000);
    }
}
