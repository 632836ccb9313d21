//! What to do when a supervised actor ends: a pure decision.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// How an actor ended, mapped at once from ractor's events so that no policy parses reason strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It stopped by itself although it was meant to stay.
    Stopped,
    /// Somebody killed it; the actor is not to blame.
    Killed,
    /// It panicked or returned an error.
    Failed(String),
    /// It could not be started.
    SpawnFailed(String),
}

/// Which siblings share the fate of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Only the child itself is restarted.
    OneForOne,
    /// All children are restarted.
    OneForAll,
    /// The child and everything started after it are restarted.
    RestForOne,
}

impl Strategy {
    /// The children that are restarted when child `index` of `count` has ended.
    pub(crate) const fn affected(self, index: usize, count: usize) -> Range<usize> {
        match self {
            Self::OneForOne => index..index + 1,
            Self::OneForAll => 0..count,
            Self::RestForOne => index..count,
        }
    }
}

/// The restart budget of one supervisor and the delays between restarts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// More restarts than this inside `window` are a meltdown.
    pub(crate) max_restarts: usize,
    /// The time over which restarts are counted; older ones are forgotten.
    pub(crate) window: Duration,
    /// Delay before the second restart inside the window; it doubles with each further one. The first is immediate.
    pub(crate) initial_delay: Duration,
    /// Upper bound of the delay.
    pub(crate) max_delay: Duration,
}

/// What the supervisor does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Start the affected children again at once.
    RestartNow,
    /// Start them again after this delay.
    RestartAfter(Duration),
    /// Give up: fail, and let the supervisor above decide.
    Escalate,
}

/// The restarts of one supervisor inside its window.
#[derive(Debug, Default)]
pub(crate) struct History {
    restarts: VecDeque<Instant>,
}

impl History {
    /// Decides about one exit at `now` and records it. `jitter` in 0..1 spreads delays (0 = half, 1 = the whole delay).
    pub(crate) fn decide(&mut self, policy: &Policy, now: Instant, jitter: f64) -> Decision {
        while self
            .restarts
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) >= policy.window)
        {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= policy.max_restarts {
            return Decision::Escalate;
        }
        let earlier = self.restarts.len();
        self.restarts.push_back(now);
        if earlier == 0 {
            return Decision::RestartNow;
        }
        let doublings = u32::try_from(earlier - 1).unwrap_or(u32::MAX).min(16);
        let delay = policy
            .initial_delay
            .saturating_mul(1 << doublings)
            .min(policy.max_delay);
        Decision::RestartAfter(delay.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert, proptest};

    const POLICY: Policy = Policy {
        max_restarts: 5,
        window: Duration::from_secs(30),
        initial_delay: Duration::from_millis(50),
        max_delay: Duration::from_secs(5),
    };

    #[test]
    fn the_first_restart_is_immediate_and_the_next_ones_wait_longer_and_longer() {
        let now = Instant::now();
        let mut history = History::default();
        assert_eq!(history.decide(&POLICY, now, 1.0), Decision::RestartNow);
        assert_eq!(
            history.decide(&POLICY, now, 1.0),
            Decision::RestartAfter(Duration::from_millis(50))
        );
        assert_eq!(
            history.decide(&POLICY, now, 1.0),
            Decision::RestartAfter(Duration::from_millis(100))
        );
        assert_eq!(
            history.decide(&POLICY, now, 0.0),
            Decision::RestartAfter(Duration::from_millis(100))
        );
        assert_eq!(
            history.decide(&POLICY, now, 1.0),
            Decision::RestartAfter(Duration::from_millis(400))
        );
        assert_eq!(history.decide(&POLICY, now, 1.0), Decision::Escalate);
    }

    #[test]
    fn a_quiet_window_clears_the_history() {
        let start = Instant::now();
        let mut history = History::default();
        for _ in 0..5 {
            history.decide(&POLICY, start, 0.5);
        }
        assert_eq!(
            history.decide(&POLICY, start + POLICY.window, 0.5),
            Decision::RestartNow
        );
    }

    #[test]
    fn strategies_affect_the_right_children() {
        assert_eq!(Strategy::OneForOne.affected(1, 4), 1..2);
        assert_eq!(Strategy::OneForAll.affected(1, 4), 0..4);
        assert_eq!(Strategy::RestForOne.affected(1, 4), 1..4);
    }

    proptest! {
        #[test]
        fn never_more_restarts_than_the_budget_in_any_window(gaps in proptest::collection::vec(0_u64..20_000, 1..200)) {
            let mut now = Instant::now();
            let mut history = History::default();
            let mut granted = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                match history.decide(&POLICY, now, 0.3) {
                    Decision::Escalate => {}
                    Decision::RestartNow => granted.push(now),
                    Decision::RestartAfter(delay) => {
                        prop_assert!(delay <= POLICY.max_delay);
                        granted.push(now);
                    }
                }
                let recent = granted.iter().filter(|at| now.duration_since(**at) < POLICY.window).count();
                prop_assert!(recent <= POLICY.max_restarts);
            }
        }
    }
}
