//! The verdict of a soak.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::counting::Count;
use super::{ACTORS, Options};
use crate::meter::as_f64;

/// What came out of a soak.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Envelopes that were sent.
    pub envelopes: u64,
    /// Messages that came to the last queue.
    pub results: u64,
    /// Envelopes that never came there. Must be 0.
    pub lost: u64,
    /// Messages that came there once more, with the same message id.
    pub duplicates: u64,
    /// The most duplicates that there may be: in flight × kills.
    pub most_duplicates: u64,
    /// Messages that could be in flight at one kill: actors × credit.
    pub in_flight: u64,
    /// Results that are not what was sent, or carry another message id. Must be 0.
    pub damaged: u64,
    /// Messages in error-end or a dead-letter queue. Must be 0.
    pub given_up: u64,
    /// Messages that were still to be worked on. Must be 0.
    pub unfinished: u64,
    /// Workers killed.
    pub kills: u32,
    /// Kills that had to happen.
    pub least_kills: u32,
    /// Whether the work was done within the limit.
    pub in_time: bool,
    /// Seconds from the first worker's start to the last one's end.
    pub seconds: f64,
    /// Envelopes per second in that time.
    pub rate: f64,
    /// `native` or `python`.
    pub handler: &'static str,
    /// The seed that decided when to kill.
    pub seed: u64,
    /// Whether everything is as it must be.
    pub passed: bool,
}

impl Outcome {
    pub(super) fn new(options: &Options, kills: u32, took: Duration, in_time: bool, count: Count) -> Self {
        let Count {
            results,
            lost,
            duplicates,
            damaged,
            unfinished,
            given_up,
        } = count;
        let in_flight = as_u64(ACTORS.len()) * as_u64(options.credit);
        let mut outcome = Self {
            envelopes: options.envelopes,
            results,
            lost,
            duplicates,
            most_duplicates: in_flight * u64::from(kills),
            in_flight,
            damaged,
            given_up,
            unfinished,
            kills,
            least_kills: options.least_kills,
            in_time,
            seconds: took.as_secs_f64(),
            rate: as_f64(options.envelopes) / took.as_secs_f64(),
            handler: if options.python.is_some() {
                "python"
            } else {
                "native"
            },
            seed: options.seed,
            passed: false,
        };
        outcome.passed = outcome.faults().is_empty();
        outcome
    }

    /// What is not as it must be, in words.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must_be = |good: bool, text: String| {
            if !good {
                faults.push(text);
            }
        };
        must_be(
            self.in_time,
            format!("the work was not done after {:.0} s", self.seconds),
        );
        must_be(self.lost == 0, format!("{} envelopes are lost", self.lost));
        must_be(
            self.damaged == 0,
            format!("{} results are not what was sent", self.damaged),
        );
        must_be(
            self.given_up == 0,
            format!("{} healthy messages were given up", self.given_up),
        );
        must_be(
            self.unfinished == 0,
            format!("{} messages are unfinished", self.unfinished),
        );
        must_be(
            self.duplicates <= self.most_duplicates,
            format!(
                "{} duplicates are more than {} kills explain",
                self.duplicates, self.kills
            ),
        );
        must_be(
            self.kills >= self.least_kills,
            format!(
                "only {} kills of at least {} happened",
                self.kills, self.least_kills
            ),
        );
        faults
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{} envelopes through {} {} actors, {} kills of the whole process (seed {}), {:.1} s, {:.0} envelopes/s",
            self.envelopes,
            ACTORS.len(),
            self.handler,
            self.kills,
            self.seed,
            self.seconds,
            self.rate
        )?;
        writeln!(formatter, "  results     {}", self.results)?;
        writeln!(formatter, "  lost        {}", self.lost)?;
        writeln!(
            formatter,
            "  duplicates  {} (at most {} in flight × {} kills = {})",
            self.duplicates, self.in_flight, self.kills, self.most_duplicates
        )?;
        writeln!(formatter, "  damaged     {}", self.damaged)?;
        writeln!(formatter, "  given up    {}", self.given_up)?;
        for fault in self.faults() {
            writeln!(formatter, "FAILED: {fault}")?;
        }
        if self.passed {
            writeln!(formatter, "passed")
        } else {
            Ok(())
        }
    }
}

fn as_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
