//! Prints what the data plane costs, beside the least that could do the same work. See `bench --help`.

use std::fs::File;
use std::io::{Write as _, stderr, stdout};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use asya_benches::measure::hop::{Comparisons, Shape, Way};
use asya_benches::measure::{self, Options, Section};
use asya_benches::meter::Sample;
use clap::{Parser, Subcommand, ValueEnum as _};

/// Measure the data plane beside the least that could do the same work
///
/// Each figure and what stands beside it are measured in alternating rounds of the same run; the ratio says how fast
/// we are relative to it (1.00 is as fast), as the median of the rounds with the lowest and the highest. Absolute
/// figures hold for this machine at this moment only: look at the load in the first line.
#[derive(Debug, Parser)]
#[command(name = "bench", max_term_width = 110)]
struct Arguments {
    /// Measure only these, separated by commas; may be repeated
    #[arg(long, value_name = "SECTION", value_delimiter = ',')]
    only: Vec<Section>,

    /// Write the figures as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Alternating rounds of each comparison; half as many where a broker takes part
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// Milliseconds of one measured stretch
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    stretch: u64,

    /// Where the queue files are made: on the disk that matters [default: the temporary directory]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,

    /// The Python to measure
    #[arg(long, value_name = "PATH", default_value = "python3", env = "ASYA_PYTHON")]
    python: String,

    /// The `asya` program [default: built by cargo, or beside this one]
    #[arg(long, value_name = "PATH", env = "ASYA_BIN")]
    asya: Option<PathBuf>,

    /// The `asya-sidecar` program [default: built by cargo]
    #[arg(long, value_name = "PATH", env = "ASYA_SIDECAR_BIN")]
    sidecar: Option<PathBuf>,

    /// The `asya-operator` program [default: built by cargo]
    #[arg(long, value_name = "PATH", env = "ASYA_OPERATOR_BIN")]
    operator: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Move messages in one way only, for a profiler: perf record -g bench --stretch 5000 profile sidecar
    Profile {
        way: Way,
        /// Messages in flight
        #[arg(long, default_value_t = 256)]
        credit: usize,
        /// Calls of the runtime at once
        #[arg(long, default_value_t = 1)]
        slots: usize,
    },
    /// What the memory section starts
    #[command(name = measure::memory::PROBE, hide = true)]
    MemoryProbe,
    /// What the section about streams starts
    #[command(name = measure::gateway::streams::SERVER, hide = true)]
    GatewayServer,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    let say = |text: &str| {
        // Only to pass the time; a closed standard error is no reason to stop.
        let _unheard = writeln!(stderr(), "{text}");
    };
    match arguments.command.take() {
        Some(Command::MemoryProbe) => Ok(writeln!(stdout(), "{}", measure::memory::probe().await?)?),
        Some(Command::GatewayServer) => measure::gateway::streams::serve(&arguments.options()).await,
        Some(Command::Profile { way, credit, slots }) => {
            let options = arguments.options();
            let sample = Comparisons::new(&options, &say)
                .profile(way, Shape { credit, slots })
                .await?;
            let Sample { rate, processor } = sample;
            Ok(writeln!(
                stdout(),
                "{rate:.0} hops/s, {processor:.1} µs of processor time per hop"
            )?)
        }
        None => {
            let json = arguments.json.take();
            let report = measure::run(&arguments.options(), &say).await?;
            if let Some(path) = json {
                let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
                serde_json::to_writer_pretty(file, &report)?;
            }
            report.print(&mut stdout().lock())?;
            ensure!(
                report.failed.is_empty(),
                "{} sections failed, see above",
                report.failed.len()
            );
            Ok(())
        }
    }
}

impl Arguments {
    fn options(self) -> Options {
        let all = || Section::value_variants().to_vec();
        Options {
            rounds: self.rounds.into(),
            stretch: Duration::from_millis(self.stretch),
            directory: self.directory.unwrap_or_else(std::env::temp_dir),
            python: self.python,
            asya: self.asya,
            sidecar: self.sidecar,
            operator: self.operator,
            sections: if self.only.is_empty() { all() } else { self.only },
        }
    }
}
