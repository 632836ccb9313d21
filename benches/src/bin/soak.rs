//! Kills a pipeline again and again and counts every message at the end. See `soak --help` and `soak rabbitmq --help`.

use std::fs::File;
use std::io::{Write as _, stdout};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use asya_benches::soak::line::Line;
use asya_benches::soak::{self, Options, Progress, rabbitmq, worker};
use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

/// Kill a pipeline again and again, and count every message at the end
///
/// Sends envelopes through three actors on an embedded queue, all in one process that is killed with SIGKILL every
/// few seconds and started again on the same state. Passes (exit code 0) when every envelope comes to the last queue
/// unharmed, none is given up, and no more come twice than were in flight at the kills. Exit code 1 otherwise, also
/// when the time limit has passed.
#[derive(Debug, Parser)]
#[command(name = "soak", max_term_width = 110, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Envelopes to send
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    envelopes: u64,

    /// Mean seconds between two kills
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0, value_parser = seconds)]
    kill_every: f64,

    /// Kills that must happen; if the work is quick, some come earlier
    #[arg(long, value_name = "N", default_value_t = 8)]
    least_kills: u32,

    /// Seconds after which it gives up
    #[arg(long, default_value_t = 1_800.0, value_parser = seconds)]
    seconds: f64,

    /// Messages that each actor may hold
    #[arg(long, default_value_t = 32, value_parser = at_least_one)]
    credit: usize,

    /// Calls that each actor makes at once
    #[arg(long, default_value_t = 1, value_parser = at_least_one)]
    slots: usize,

    /// Run the handlers in Python instead of in the worker itself
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "python3")]
    python: Option<String>,

    /// Empty directory for the state, which stays [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,

    /// Repeats the kills of an earlier run [default: from the clock]
    #[arg(long)]
    seed: Option<u64>,

    /// Write the summary as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Other>,
}

#[derive(Debug, Subcommand)]
enum Other {
    Rabbitmq(rabbitmq::Arguments),
    /// What `soak` starts itself with.
    #[command(hide = true)]
    Worker(worker::Arguments),
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.05..=1e6).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("must be from 0.05 to 1000000".into())
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|error| format!("{error}"))?;
    if number > 0 {
        Ok(number)
    } else {
        Err("must be at least 1".into())
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.command {
        // It waits for processes most of the time, and has a runtime of its own for its connection.
        Some(Other::Rabbitmq(arguments)) => rabbitmq::run(arguments, from_clock()),
        Some(Other::Worker(worker)) => {
            Runtime::new()?.block_on(worker::run(worker))?;
            Ok(ExitCode::SUCCESS)
        }
        None => Runtime::new()?.block_on(embedded(arguments)),
    }
}

/// The soak on the embedded queue.
async fn embedded(arguments: Arguments) -> Result<ExitCode> {
    let json = arguments.json.clone();
    let options = options(arguments)?;
    let of = options.envelopes;
    let mut line = Line::start();
    let mut show =
        |Progress { results, kills }| line.show(|_| format!("{results} of {of} results, {kills} kills"));
    let outcome = soak::run(&options, &mut show).await?;
    line.end();
    if let Some(path) = &json {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        serde_json::to_writer_pretty(file, &outcome)?;
    }
    write!(stdout(), "{outcome}")?;
    Ok(if outcome.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A seed that nobody has chosen.
fn from_clock() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::from(time.subsec_nanos()))
}

fn options(arguments: Arguments) -> Result<Options> {
    Ok(Options {
        envelopes: arguments.envelopes,
        kill_every: Duration::from_secs_f64(arguments.kill_every),
        least_kills: arguments.least_kills,
        limit: Duration::from_secs_f64(arguments.seconds),
        credit: arguments.credit,
        slots: arguments.slots,
        python: arguments
            .python
            .map(|python| asya_benches::python::resolve(&python))
            .transpose()?,
        state: arguments.state,
        seed: arguments.seed.unwrap_or_else(from_clock),
        worker: vec![std::env::current_exe()?, "worker".into()],
    })
}
