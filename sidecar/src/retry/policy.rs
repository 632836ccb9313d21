//! Whether a failed run is followed by another, and when: a pure decision, the only one in the system (rulings 4).
//!
//! What it is not: it knows no queue and no envelope. What a run looks like in a message is in [`state`](super::state).

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::failure::RunFailure;
use super::names::ErrorNames;

/// Longest wait before a retry: what the delay queues of RabbitMQ offer.
const LONGEST_BACKOFF: Duration = Duration::from_hours(24);

/// How an actor retries failed runs (`ASYA_RETRY_*`, `spec.retry`). The default never does.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Runs in all, the first included. Default 1: no retry.
    pub max_attempts: NonZeroU32,
    /// Wait before the second run. Default 1 s.
    pub initial_backoff: Duration,
    /// Longest wait, at most a day. Default 5 min.
    pub max_backoff: Duration,
    /// Factor from one wait to the next. Default 2.
    pub multiplier: Multiplier,
    /// Share of each wait that is random. Default 0.5.
    pub jitter: Jitter,
    /// No retry begins later than this after the start of the first run. Default: no limit.
    pub max_duration: Option<Duration>,
    /// Failures that are retried. Empty, the default, means all.
    pub on: ErrorNames,
    /// Failures that are never retried; wins over `on`. Default: none.
    pub never_on: ErrorNames,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: NonZeroU32::MIN,
            initial_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_mins(5),
            multiplier: Multiplier::default(),
            jitter: Jitter::default(),
            max_duration: None,
            on: ErrorNames::default(),
            never_on: ErrorNames::default(),
        }
    }
}

/// A value that a retry policy cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be {0}")]
pub struct BadRetryValue(&'static str);

/// Factor between waits: a finite number, at least 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Multiplier(f64);

impl Default for Multiplier {
    fn default() -> Self {
        Self(2.0)
    }
}

impl TryFrom<f64> for Multiplier {
    type Error = BadRetryValue;

    fn try_from(value: f64) -> Result<Self, BadRetryValue> {
        if value.is_finite() && value >= 1.0 {
            Ok(Self(value))
        } else {
            Err(BadRetryValue("a number of at least 1"))
        }
    }
}

impl std::str::FromStr for Multiplier {
    type Err = BadRetryValue;

    fn from_str(text: &str) -> Result<Self, BadRetryValue> {
        text.trim().parse().unwrap_or(f64::NAN).try_into()
    }
}

/// Random share of a wait: a number from 0 (none of it) to 1 (all of it).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(f64);

impl Default for Jitter {
    fn default() -> Self {
        Self(0.5)
    }
}

impl TryFrom<f64> for Jitter {
    type Error = BadRetryValue;

    fn try_from(value: f64) -> Result<Self, BadRetryValue> {
        if (0.0..=1.0).contains(&value) {
            Ok(Self(value))
        } else {
            Err(BadRetryValue("a number from 0 to 1"))
        }
    }
}

impl std::str::FromStr for Jitter {
    type Err = BadRetryValue;

    fn from_str(text: &str) -> Result<Self, BadRetryValue> {
        text.trim().parse().unwrap_or(f64::NAN).try_into()
    }
}

/// What the policy needs to know about the run that failed, beside its failure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// Its number, from 1.
    pub(crate) attempt: u32,
    /// When the first run of this hop began.
    pub(crate) first_at: DateTime<Utc>,
    /// When nobody waits for the result any more.
    pub(crate) deadline: Option<DateTime<Utc>>,
    /// The message was delivered so often that it may have killed processes (rulings 1).
    pub(crate) suspect: bool,
}

/// What follows a failed run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Another run, not before `delay` has passed.
    Retry { delay: Duration },
    /// None.
    GiveUp(Why),
}

/// Why there is no further run; its text stands in the history of the error envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// A run with the same input cannot end otherwise.
    Permanent,
    /// `never_on` names it.
    NeverOn,
    /// `on` does not name it.
    NotOn,
    /// The message was a suspect, and the runtime did not live to tell how it ended (rulings 1).
    Suspect,
    /// All runs were used.
    MaxAttempts,
    /// The next run would begin after the envelope's deadline.
    Deadline,
    /// The next run would begin too long after the first.
    MaxDuration,
    /// The message has no room for the state of its retries.
    TooLarge,
}

impl Why {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::NeverOn => "never_on",
            Self::NotOn => "not_on",
            Self::Suspect => "suspect",
            Self::MaxAttempts => "max_attempts",
            Self::Deadline => "deadline",
            Self::MaxDuration => "max_duration",
            Self::TooLarge => "too_large",
        }
    }
}

impl RetryPolicy {
    /// Whether no failure is ever retried.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.max_attempts == NonZeroU32::MIN
    }

    /// Decides at time `now` what follows `failure`. `random`, from 0 to 1, spreads the retries of messages that
    /// failed together.
    pub(crate) fn decide(
        &self,
        failure: &RunFailure,
        run: &Run,
        now: DateTime<Utc>,
        random: f64,
    ) -> Decision {
        if let Some(why) = self.refusal(failure, run) {
            return Decision::GiveUp(why);
        }
        let delay = self.delay_after(run.attempt, random);
        let next = TimeDelta::from_std(delay)
            .ok()
            .and_then(|delay| now.checked_add_signed(delay))
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        if run.deadline.is_some_and(|deadline| deadline <= next) {
            return Decision::GiveUp(Why::Deadline);
        }
        let since_first = (next - run.first_at).to_std().unwrap_or_default();
        if self.max_duration.is_some_and(|longest| longest < since_first) {
            return Decision::GiveUp(Why::MaxDuration);
        }
        Decision::Retry { delay }
    }

    /// Why this failure is not followed by another run, whatever the clock says.
    fn refusal(&self, failure: &RunFailure, run: &Run) -> Option<Why> {
        if failure.is_permanent() {
            Some(Why::Permanent)
        } else if self.never_on.names(failure) {
            Some(Why::NeverOn)
        } else if !self.on.is_empty() && !self.on.names(failure) {
            Some(Why::NotOn)
        } else if run.attempt >= self.max_attempts.get() {
            Some(Why::MaxAttempts)
        } else if run.suspect && !failure.is_reported {
            Some(Why::Suspect)
        } else {
            None
        }
    }

    /// The wait after run number `attempt`. Jitter only shortens it, so the limits hold whatever is drawn.
    fn delay_after(&self, attempt: u32, random: f64) -> Duration {
        if self.initial_backoff.is_zero() {
            return Duration::ZERO; // Times infinity it would be no number.
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let longest = self.max_backoff.min(LONGEST_BACKOFF);
        let grown = self.initial_backoff.as_secs_f64() * self.multiplier.0.powi(exponent);
        let whole = Duration::try_from_secs_f64(grown).map_or(longest, |grown| grown.min(longest));
        whole.mul_f64(1.0 - self.jitter.0 * random.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests;
