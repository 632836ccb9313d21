//! Counting hops: how long a stretch in the middle of a run took, and how much processor time.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// Longest wait for one stretch: only a run that has stopped working takes so long.
const PATIENCE: Duration = Duration::from_mins(2);

/// Times the hops after the first `warm` ones, `measured` of them; beginning and end of a run are left out.
#[derive(Debug)]
pub struct Meter {
    first: u64,
    last: u64,
    count: AtomicU64,
    begun: OnceLock<Mark>,
    ended: OnceLock<Mark>,
    done: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    processor: Duration,
}

/// What one stretch showed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Hops per second.
    pub rate: f64,
    /// Processor time of this whole process per hop, in µs.
    pub processor: f64,
}

impl Sample {
    /// Time from one hop to the next in µs.
    #[must_use]
    pub fn period(&self) -> f64 {
        1e6 / self.rate
    }
}

impl Meter {
    /// Measures `measured` hops after `warm` others.
    #[must_use]
    pub fn new(warm: u64, measured: u64) -> Self {
        let first = warm.max(1);
        Self {
            first,
            last: first + measured.max(1),
            count: AtomicU64::new(0),
            begun: OnceLock::new(),
            ended: OnceLock::new(),
            done: Notify::new(),
        }
    }

    /// The hops needed for a measurement.
    #[must_use]
    pub fn needed(&self) -> u64 {
        self.last
    }

    /// Counts one hop.
    pub fn tick(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count == self.first {
            let _once = self.begun.set(Mark::now());
        } else if count == self.last {
            let _once = self.ended.set(Mark::now());
            self.done.notify_one();
        }
    }

    /// Waits for the last hop of the stretch. To be awaited once.
    pub async fn finished(&self) -> Result<Sample> {
        let waited = tokio::time::timeout(PATIENCE, self.done.notified()).await;
        let count = self.count.load(Ordering::Relaxed);
        waited.with_context(|| format!("only {count} of {} hops came within {PATIENCE:?}", self.last))?;
        let (begun, ended) = (self.begun.get(), self.ended.get());
        let (begun, ended) = begun
            .zip(ended)
            .context("the last hop was counted before the first")?;
        let hops = as_f64(self.last - self.first);
        Ok(Sample {
            rate: hops / ended.at.duration_since(begun.at).as_secs_f64(),
            processor: ended.processor.saturating_sub(begun.processor).as_secs_f64() * 1e6 / hops,
        })
    }
}

impl Mark {
    fn now() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        // The kernel gives no negative processor time, and nanoseconds below 10⁹.
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
        let nanoseconds = Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default());
        Self {
            at: Instant::now(),
            processor: seconds + nanoseconds,
        }
    }
}

/// A count for arithmetic with times; exact up to 2⁵³.
#[expect(clippy::cast_precision_loss, reason = "no run counts to 2⁵³")]
#[must_use]
pub const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// The whole number of hops that `rate` makes in `time`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates and times are positive and small"
)]
#[must_use]
pub fn hops_in(rate: f64, time: Duration) -> u64 {
    (rate * time.as_secs_f64()) as u64
}

/// The one of `values` that the share `part` of all does not exceed; 0 without any. Sorts them.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let index = (0..=last)
        .find(|index| share(*index, last) >= part)
        .unwrap_or(last);
    values.get(index).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "some thousands of values")]
fn share(part: usize, whole: usize) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Nanoseconds on the clock that Python calls `time.monotonic_ns`.
#[must_use]
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The machine was started at zero.
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let mut values: Vec<f64> = (1..=101).rev().map(f64::from).collect();
        let found = [0.0, 0.5, 0.99, 1.0].map(|part| quantile(&mut values, part).to_string());
        assert_eq!(found, ["1", "51", "100", "101"]);
    }

    #[tokio::test]
    async fn only_the_stretch_is_measured() {
        let meter = Meter::new(3, 10);
        assert_eq!(meter.needed(), 13);
        for _ in 0..20 {
            meter.tick();
        }
        let sample = meter.finished().await.unwrap();
        assert!(
            sample.rate > 0.0 && sample.period() > 0.0 && sample.processor >= 0.0,
            "{sample:?}"
        );
    }
}
