//! The soak on RabbitMQ: sidecars, runtimes, connections and the broker are killed, and every message is counted.
//!
//! What it is: the command line of [`asya_tests::storm`], which does the work, and its figures as JSON. What it is not:
//! the soak on the embedded queue, whose process is killed as a whole (see [`run`](super::run)).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use asya_tests::rabbitmq::Broker;
use asya_tests::storm::{self, Options, Outcome, Progress};
use serde::Serialize;

use super::line::Line;
use crate::meter::as_f64;

/// Kills of the broker take longer than all others.
const MOST_BROKER_KILLS: usize = 20;

/// Send envelopes through three actors on a throwaway RabbitMQ node, and kill everything again and again
///
/// Kills sidecars, runtimes and the broker with SIGKILL, and has the broker close all connections, at moments that the
/// seed decides. Passes (exit code 0) when every envelope comes to happy-end unharmed and nothing comes twice but
/// what the faults explain, identical. Exit code 1 otherwise, also when the time limit has passed.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// Envelopes to send
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    envelopes: u64,

    /// Faults, those of the broker included
    #[arg(long, value_name = "N", default_value_t = 220)]
    kills: usize,

    /// Kills of the broker, at most 20
    #[arg(long, value_name = "N", default_value_t = 12)]
    broker_kills: usize,

    /// Messages that each actor may hold
    #[arg(long, default_value_t = 32)]
    prefetch: usize,

    /// Let an envelope fail when its runtime is killed in the call, instead of trying again
    #[arg(long)]
    no_retries: bool,

    /// Seconds after which it gives up
    #[arg(long, default_value_t = 1_440)]
    seconds: u64,

    /// Repeats the faults of an earlier run [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,

    /// Write the summary as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs it, and says how it goes.
pub fn run(arguments: &Arguments, seed_from_clock: u64) -> Result<ExitCode> {
    let options = Options {
        envelopes: usize::try_from(arguments.envelopes)?,
        kills: arguments.kills,
        broker_kills: arguments.broker_kills,
        prefetch: arguments.prefetch.max(1),
        retries: !arguments.no_retries,
        limit: Duration::from_secs(arguments.seconds),
        seed: arguments.seed.unwrap_or(seed_from_clock),
    };
    ensure!(
        options.broker_kills <= MOST_BROKER_KILLS.min(options.kills),
        "--broker-kills must be at most {MOST_BROKER_KILLS}, and at most --kills"
    );
    let broker = Broker::start(None);
    let mut line = Line::start();
    let mut show = |seen| line.show(|time| progress(&options, time, seen));
    let outcome = storm::run(&broker, &options, &mut show);
    line.end();
    if let Some(path) = &arguments.json {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &Summary::of(&outcome))?;
    }
    write!(stdout(), "{outcome}")?;
    Ok(if outcome.faults().is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the JSON holds.
#[derive(Debug, Serialize)]
struct Summary<'a> {
    envelopes: usize,
    results: usize,
    lost: usize,
    condemned: usize,
    interrupted: usize,
    duplicates: usize,
    most_duplicates: usize,
    damaged: usize,
    strangers: usize,
    blows: &'a BTreeMap<&'static str, usize>,
    retries: bool,
    seconds: f64,
    seed: u64,
    faults: Vec<String>,
    passed: bool,
}

impl<'a> Summary<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        let faults = outcome.faults();
        Self {
            envelopes: outcome.envelopes,
            results: outcome.results,
            lost: outcome.lost,
            condemned: outcome.condemned,
            interrupted: outcome.interrupted,
            duplicates: outcome.duplicates,
            most_duplicates: outcome.most_duplicates,
            damaged: outcome.damaged,
            strangers: outcome.strangers,
            blows: &outcome.blows,
            retries: outcome.retries,
            seconds: outcome.took.as_secs_f64(),
            seed: outcome.seed,
            passed: faults.is_empty(),
            faults,
        }
    }
}

/// How far it is, `time` after the start.
fn progress(options: &Options, time: Duration, Progress { ended, struck }: Progress) -> String {
    let (of, kills, seed) = (options.envelopes, options.kills, options.seed);
    let left = match eta(time, ended, u64::try_from(of).unwrap_or(u64::MAX)) {
        Some(left) => format!(", {:.0} s left", left.as_secs_f64()),
        None => String::new(),
    };
    format!("{ended} of {of} envelopes, {struck} of {kills} faults, seed {seed}{left}")
}

/// The time that the rest will take if it goes on as before.
fn eta(elapsed: Duration, done: u64, all: u64) -> Option<Duration> {
    let left = all.checked_sub(done)?;
    (done > 0).then(|| elapsed.mul_f64(as_f64(left) / as_f64(done)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_did() {
        let minute = Duration::from_mins(1);
        assert_eq!(eta(minute, 0, 100), None);
        assert_eq!(eta(minute, 25, 100), Some(minute * 3));
        assert_eq!(eta(minute, 100, 100), Some(Duration::ZERO));
        assert_eq!(eta(minute, 101, 100), None, "duplicates are not waited for");
    }
}
