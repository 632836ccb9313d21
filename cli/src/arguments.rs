//! The command line, as clap reads and explains it.

use std::path::PathBuf;
use std::time::Duration;

use asya_manifest::GoDuration;
use clap::{Args, Parser, Subcommand};

use crate::mcp::McpOptions;

const EXIT_CODES: &str = "\
Exit codes:
  0    everything asked for succeeded
  1    an envelope of the run ended in error-end
  2    the command line or a manifest is wrong; nothing was started
  3    --timeout passed before the run was over
  4    asya could not go on (input cannot be queued, a runtime never gets ready, state directory in use)
  130  interrupted; what was not finished is still queued";

/// Run actor pipelines of plain Python functions.
#[derive(Debug, Parser)]
#[command(name = "asya", version, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Show the handlers' own logs and what asya does; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one job through a pipeline and wait for its results
    ///
    /// Reads the AsyncActor manifests in DIR, starts every actor on this machine with an embedded queue, sends the
    /// input along the route and waits until it and everything that it was split into has ended. Each final envelope
    /// is printed as one line of JSON on standard output; progress and the summary go to standard error.
    #[command(after_help = concat!("Examples:
  asya run examples/document-pipeline
  asya run DIR --route split,clean --input '{\"text\": \"hello\"}'
  asya run DIR --tool digest --input @request.json --timeout 2m > results.jsonl
  echo '{\"text\": \"hello\"}' | asya run DIR --route clean --input -

See 'asya --help' for the exit codes."))]
    Run(RunOptions),

    /// Keep a pipeline running and work on what is sent to it
    ///
    /// Goes on with whatever is still queued in the state directory, and starts a gateway whose tools 'asya mcp' and
    /// any MCP client call. Ends on Ctrl-C or SIGTERM after the running
    /// calls have ended, or with --drain as soon as every queue is empty.
    #[command(after_help = "Examples:
  asya up DIR
  asya up DIR --port 9000 & asya mcp --url http://localhost:9000 list
  asya up DIR --drain && ls DIR/.asya/results

See 'asya --help' for the exit codes.")]
    Up(UpOptions),

    /// Queue input for a pipeline and return at once
    ///
    /// Works while nothing is running too: the messages wait in the state directory for the next 'asya up'. Prints
    /// the id of each envelope, one per line.
    #[command(after_help = concat!("Examples:
  asya send DIR --route split,clean --input '{\"text\": \"hello\"}'
  asya send DIR --tool digest --input @requests.jsonl

Each line of a .jsonl file is one input.
See 'asya --help' for the exit codes."))]
    Send(SendOptions),

    /// Call the tools of a gateway and watch what becomes of the calls
    #[command(after_help = crate::mcp::EXIT_CODES)]
    Mcp(McpOptions),

    /// Run a gateway, configured by its environment
    #[command(after_help = asya_gateway::program::long_help())]
    Gateway(asya_gateway::program::Arguments),
}

/// Where the pipeline is and where its state lies.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Directory with the AsyncActor manifests and the handlers beside them
    pub(crate) dir: PathBuf,

    /// Where queues, results and logs are kept [default: DIR/.asya]
    #[arg(long, value_name = "PATH", env = "ASYA_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// What is sent where.
#[derive(Debug, Clone, Args)]
pub(crate) struct Job {
    /// Actors to visit, in order: a,b,c [default: the route of the only tool, or the only actor]
    #[arg(long, value_name = "ACTORS", value_delimiter = ',', conflicts_with = "tool")]
    pub(crate) route: Vec<String>,

    /// Tool of DIR/asya.yaml whose route and default arguments are used
    #[arg(long, value_name = "NAME")]
    pub(crate) tool: Option<String>,

    /// The input: JSON text, @FILE, @FILE.jsonl (one input per line), or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    pub(crate) input: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pub(crate) place: Place,

    #[command(flatten)]
    pub(crate) job: Job,

    /// Give up after this time, for example 90s or 5m; what is unfinished stays queued
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,

    #[command(flatten)]
    pub(crate) local: LocalOptions,
}

#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    pub(crate) place: Place,

    /// End as soon as every queue is empty
    #[arg(long)]
    pub(crate) drain: bool,

    /// Port of the gateway on this machine; 0 takes a free one [default: 8089, or a free one]
    #[arg(long, value_name = "PORT", conflicts_with = "no_gateway")]
    pub(crate) port: Option<u16>,

    /// Start no gateway: work comes from 'asya send' alone
    #[arg(long)]
    pub(crate) no_gateway: bool,

    #[command(flatten)]
    pub(crate) local: LocalOptions,
}

#[derive(Debug, Args)]
pub(crate) struct SendOptions {
    #[command(flatten)]
    pub(crate) place: Place,

    #[command(flatten)]
    pub(crate) job: Job,
}

/// How actors run on this machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct LocalOptions {
    /// Python for actors whose pythonExecutable is not on this machine
    #[arg(long, value_name = "PATH", default_value = "python3", env = "ASYA_PYTHON")]
    pub(crate) python: String,

    /// How long running calls may take to end when asya stops
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) grace: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    // A bare number is seconds, as everywhere in Asya (contract data-plane §5).
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    text.parse::<GoDuration>()
        .map(|duration| duration.0)
        .map_err(|error| format!("{error}; write it like 90s, 5m or 1h30m"))
}
