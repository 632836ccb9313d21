//! How long to wait after failures: exponential, with jitter, bounded.

use std::time::Duration;

/// A delay after the `attempt`-th failure in a row (1 is the first): `base` doubled each time, at most `limit`, spread
/// over ±20 % so that many actors do not knock at once.
pub(super) fn delay(attempt: u32, base: Duration, limit: Duration) -> Duration {
    let doubled = base.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    jittered(doubled.min(limit))
}

/// `duration` ± 20 %.
pub(super) fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(rand::random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::delay;

    #[test]
    fn it_doubles_up_to_its_limit() {
        let (base, limit) = (Duration::from_secs(1), Duration::from_mins(5));
        for (attempt, seconds) in [(1, 1.0), (2, 2.0), (5, 16.0), (20, 300.0), (4_000_000, 300.0)] {
            let waited = delay(attempt, base, limit).as_secs_f64();
            assert!(
                waited >= seconds * 0.8 && waited <= seconds * 1.2,
                "{attempt}: {waited}"
            );
        }
    }
}
