//! Waits between attempts.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use super::options::Backoff;

/// The waits of one series of attempts.
#[derive(Debug)]
pub(super) struct Waits {
    bounds: Backoff,
    next: Duration,
}

impl Waits {
    pub(super) fn new(bounds: Backoff) -> Self {
        Self {
            bounds,
            next: bounds.initial,
        }
    }

    /// How long to wait now: between half of the current step and all of it.
    pub(super) fn next(&mut self) -> Duration {
        let step = self.next.min(self.bounds.max);
        self.next = step.saturating_mul(2);
        // Every `RandomState` has keys of its own; enough to keep many processes from coming back at the same instant.
        let random = u32::try_from(RandomState::new().hash_one(0_u8) >> 40).unwrap_or(0);
        let random = f64::from(random) / f64::from(1_u32 << 24);
        step.mul_f64(0.5 + random / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_stay_between_half_and_all_of_each_step() {
        let bounds = Backoff {
            initial: Duration::from_millis(100),
            max: Duration::from_millis(500),
        };
        let mut waits = Waits::new(bounds);
        for step in [100, 200, 400, 500, 500, 500] {
            let step = Duration::from_millis(step);
            let wait = waits.next();
            assert!(
                wait >= step / 2 && wait <= step,
                "{wait:?} for a step of {step:?}"
            );
        }
    }
}
