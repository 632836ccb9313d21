//! When the outbox is searched for what was left, and for how much: quickly while there is more, by one message at a
//! time while the broker is away. Pure but for the clock.

use std::time::Duration;

use tokio::time::Instant;

use super::Patience;

/// Messages claimed at once.
pub(super) const CLAIM: u32 = 64;
/// Pause between claims while there is more.
const BUSY: Duration = Duration::from_millis(10);
/// First pause between probes of a broker that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// When to look for what was left, and for how much.
pub(super) struct Pace {
    /// Between two looks at an outbox without anything due.
    idle: Duration,
    /// Longest pause while the broker is away.
    longest: Duration,
    /// While the broker is away.
    pause: Option<Duration>,
    /// Whether something was claimed since the pause began.
    probed: bool,
    pub(super) due: Instant,
}

impl Pace {
    pub(super) fn new(patience: &Patience) -> Self {
        Self {
            idle: patience.outbox,
            longest: patience.backoff,
            pause: None,
            probed: false,
            due: Instant::now(),
        }
    }

    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    pub(super) fn limit(&self, free: usize) -> u32 {
        let most = if self.pause.is_some() { 1 } else { CLAIM };
        u32::try_from(free).map_or(most, |free| free.min(most))
    }

    /// Something was claimed, as much as was asked for or less.
    pub(super) fn claimed(&mut self, is_full: bool) {
        let wait = match self.pause {
            Some(pause) => pause.mul_f64(jitter()),
            None if is_full => BUSY,
            None => self.idle,
        };
        self.due = Instant::now() + wait;
        self.probed = true;
    }

    fn wait(&mut self, pause: Duration) {
        self.pause = Some(pause);
        self.probed = false;
        self.due = Instant::now() + pause.mul_f64(jitter());
    }

    /// A message was tried; `away` is whether the broker is.
    pub(super) fn tried(&mut self, away: bool) {
        match (away, self.pause) {
            (false, Some(_)) => {
                self.pause = None;
                self.due = Instant::now();
            }
            (true, None) => self.wait(FIRST_PAUSE.min(self.longest)),
            (true, Some(pause)) if self.probed => self.wait((pause * 2).min(self.longest)),
            // Nothing new: many that were under way fail together, and that is one failure.
            (false, None) | (true, Some(_)) => {}
        }
    }
}

/// Spreads replicas that lost the same broker at the same moment.
fn jitter() -> f64 {
    rand::random_range(0.75..1.25)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_away_is_probed_by_one_message_with_growing_pauses() {
        let patience = Patience::default();
        let mut pace = Pace::new(&patience);
        assert!(pace.is_due());
        assert_eq!((pace.limit(1000), pace.limit(5)), (CLAIM, 5));
        pace.claimed(true);
        for _ in 0..64 {
            pace.tried(true);
        }
        assert_eq!(
            pace.pause,
            Some(FIRST_PAUSE),
            "many that fail together are one failure"
        );
        assert_eq!(pace.limit(1000), 1);
        for _ in 0..20 {
            assert!(!pace.is_due());
            tokio::time::sleep_until(pace.due).await;
            pace.claimed(true);
            pace.tried(true);
        }
        assert_eq!(pace.pause, Some(patience.backoff));
        pace.tried(false);
        assert!(pace.is_due(), "once one gets through, all go");
        assert_eq!(pace.limit(1000), CLAIM);
    }
}
