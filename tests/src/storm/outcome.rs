//! The verdict on a storm.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::blow::Blow;
use super::{Options, ROUTE};
use crate::plant::Tally;

/// Acknowledgements that a classic queue may not have written when its node is killed: it writes them with the next
/// confirmed message, or when it is idle (measured on 3.10.8). They are no loss, but their messages come again.
const NOT_WRITTEN: usize = 500;

/// What came out of a storm.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Envelopes that were sent.
    pub envelopes: usize,
    /// Envelopes that came to happy-end.
    pub results: usize,
    /// Envelopes that came nowhere. Must be 0.
    pub lost: usize,
    /// Healthy messages in error-end or a dead-letter queue. Must be 0.
    pub condemned: usize,
    /// Envelopes that failed because their runtime was killed in the call. Must be 0 with retries, and at most one
    /// for each kill without.
    pub interrupted: usize,
    /// Results that came once more, identical.
    pub duplicates: usize,
    /// The most that the faults can explain.
    pub most_duplicates: usize,
    /// Results that came twice and differ, or are not what was sent. Must be 0.
    pub damaged: usize,
    /// Messages that nobody sent. Must be 0.
    pub strangers: usize,
    /// Faults by kind.
    pub blows: BTreeMap<&'static str, usize>,
    /// Faults that had to happen.
    pub planned: usize,
    /// Whether the sidecars were told to try again what failed.
    pub retries: bool,
    /// Whether the work was done within the limit.
    pub in_time: bool,
    /// From the first envelope to the last.
    pub took: Duration,
    /// What decided the faults.
    pub seed: u64,
    /// Details of whatever is wrong.
    pub details: String,
}

impl Outcome {
    pub(super) fn new(options: &Options, struck: &[Blow], took: Duration, tally: &Tally) -> Self {
        let mut blows = BTreeMap::new();
        for blow in struck {
            *blows.entry(kind(*blow)).or_default() += 1;
        }
        Self {
            envelopes: options.envelopes,
            results: tally.results(),
            lost: tally.lost().len(),
            condemned: tally.condemned().len(),
            interrupted: tally.interrupted(),
            duplicates: tally.duplicates(),
            most_duplicates: struck.iter().map(|blow| repeats(options, *blow)).sum(),
            damaged: tally.damaged().len(),
            strangers: tally.strangers().len(),
            blows,
            planned: options.kills,
            retries: options.retries,
            in_time: took <= options.limit,
            took,
            seed: options.seed,
            details: tally.to_string(),
        }
    }

    /// What is not as it must be, in words.
    pub fn faults(&self) -> Vec<String> {
        let struck: usize = self.blows.values().sum();
        let runtimes = ["runtime", "pod"].map(|kind| self.blows.get(kind).copied().unwrap_or_default());
        let most_interrupted = if self.retries { 0 } else { runtimes.iter().sum() };
        let checks = [
            (self.lost == 0, format!("{} envelopes are lost", self.lost)),
            (
                self.condemned == 0,
                format!("{} healthy messages are condemned", self.condemned),
            ),
            (
                self.interrupted <= most_interrupted,
                format!(
                    "{} envelopes failed with their runtime, at most {most_interrupted} may",
                    self.interrupted
                ),
            ),
            (
                self.duplicates <= self.most_duplicates,
                format!("{} duplicates are more than the faults explain", self.duplicates),
            ),
            (self.damaged == 0, format!("{} results are damaged", self.damaged)),
            (
                self.strangers == 0,
                format!("{} messages were sent by nobody", self.strangers),
            ),
            (
                struck == self.planned,
                format!("only {struck} of {} faults happened", self.planned),
            ),
            (self.in_time, String::from("it took too long")),
        ];
        let wrong = checks.into_iter().filter(|(good, _)| !good);
        wrong.map(|(_, text)| text).collect()
    }
}

/// How often one fault may make messages come again. A killed sidecar repeats what it held. With a lost connection each
/// message that was held comes again, and its result, sent without a confirm yet, is sent again as well.
fn repeats(options: &Options, blow: Blow) -> usize {
    let all = ROUTE.len() * options.prefetch * 2;
    match blow {
        Blow::Runtime(_) => 0,
        Blow::Sidecar(_) | Blow::Pod(_) => options.prefetch,
        Blow::Connections => all,
        Blow::Broker => all + ROUTE.len() * NOT_WRITTEN,
    }
}

fn kind(blow: Blow) -> &'static str {
    match blow {
        Blow::Sidecar(_) => "sidecar",
        Blow::Runtime(_) => "runtime",
        Blow::Pod(_) => "pod",
        Blow::Connections => "connections",
        Blow::Broker => "broker",
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blows: Vec<_> = self
            .blows
            .iter()
            .map(|(kind, count)| format!("{count} × {kind}"))
            .collect();
        writeln!(
            formatter,
            "{} envelopes through {} actors on RabbitMQ, {:.1} s, seed {}",
            self.envelopes,
            ROUTE.len(),
            self.took.as_secs_f64(),
            self.seed
        )?;
        writeln!(formatter, "  faults      {}", blows.join(", "))?;
        writeln!(formatter, "  results     {}", self.results)?;
        writeln!(formatter, "  lost        {}", self.lost)?;
        writeln!(formatter, "  condemned   {}", self.condemned)?;
        writeln!(formatter, "  interrupted {}", self.interrupted)?;
        writeln!(
            formatter,
            "  duplicates  {} (at most {})",
            self.duplicates, self.most_duplicates
        )?;
        writeln!(formatter, "  damaged     {}", self.damaged)?;
        let faults = self.faults();
        for fault in &faults {
            writeln!(formatter, "FAILED: {fault}")?;
        }
        if faults.is_empty() {
            writeln!(formatter, "passed")
        } else {
            writeln!(formatter, "{}", self.details)
        }
    }
}
