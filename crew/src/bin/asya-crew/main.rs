//! `asya-crew`: an end actor as a program, beside a sidecar, configured by its environment alone.
//!
//! What it is: the native counterpart of the original's Python crew, chosen by the same values of `ASYA_HANDLER`
//! (rulings 25) and configured by the same variables (contract data-plane §5.3). What it is not: a sidecar; it talks to
//! one over the runtime's socket.

mod settings;
mod variables;

use std::process::ExitCode;
use std::sync::Arc;

use asya_crew::{EndHandler, serve_end_actor};
use asya_program::help::{self, Below};
use asya_program::{Environment, Exit, Signals, logging, print};
use clap::Parser;

use settings::{Settings, Storage};
use variables::TABLE;

/// What the exit codes mean.
const MEANINGS: &[(&str, &str)] = &[
    (
        "0",
        "Asked to end by SIGTERM or SIGINT, and what was under way is done. `--check`: the configuration is good.",
    ),
    (
        "1",
        "Cannot go on: the configuration is wrong, the place for results cannot be opened, or the socket cannot be served.",
    ),
    ("2", "Unknown option on the command line."),
];

/// Takes the envelopes that came to their end, stores them, and tells the sidecar when they are safe.
///
/// It is configured by environment variables alone; they are listed below.
#[derive(Debug, Parser)]
#[command(name = "asya-crew", version, after_long_help = after(), max_term_width = 120)]
struct Arguments {
    /// Check the configuration, say all that is wrong with it, and end with 0 or 1; nothing is opened
    #[arg(long)]
    check: bool,
    /// Print the variables that are set as JSON, without secrets, and end
    #[arg(long)]
    print_config: bool,
    /// Print the tables of the documentation
    #[arg(long, hide = true)]
    markdown: bool,
}

fn after() -> String {
    let below = Below {
        notes: &[
            "In brackets: the default. An empty value counts as unset. Durations: 90s, 5m, 1h30m, or seconds.",
        ],
        exit_codes: MEANINGS,
        examples_title: "Example",
        examples: &[
            "ASYA_HANDLER=handlers.end_handlers.happy_end_handler ASYA_SOCKET_DIR=/tmp/happy-end \\",
            "ASYA_RESULTS_URL=/tmp/results asya-crew",
        ],
    };
    help::text(&TABLE, &below)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.markdown {
        let parts = [
            ("variables", help::variables(&TABLE)),
            ("exit-codes", help::exit_codes(MEANINGS)),
        ];
        return print(&help::markdown(parts)).into();
    }
    let reading = settings::read(&Environment::of_process());
    if arguments.print_config {
        return print(&reading.shown()).into();
    }
    let _writing = logging::start(reading.log, None);
    if arguments.check {
        return reading.check().into();
    }
    let Some(settings) = reading.start(env!("CARGO_PKG_VERSION")) else {
        return Exit::CannotGoOn.into();
    };
    let ended = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("failed to start the async runtime: {error}"))
        .and_then(|runtime| runtime.block_on(run(settings)));
    match ended {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            tracing::error!("{error}");
            Exit::CannotGoOn.into()
        }
    }
}

async fn run(settings: Settings) -> Result<(), String> {
    // Nobody else has chosen a provider in this process; had somebody, that one would do.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let results = match &settings.storage {
        Storage::Nothing => {
            tracing::warn!("results are not kept: neither ASYA_S3_BUCKET nor ASYA_RESULTS_URL is set");
            None
        }
        storage => Some(Arc::new(storage.open().map_err(|error| error.to_string())?)),
    };
    let mut signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
    let handler = EndHandler::new(settings.end, results, None);
    tracing::info!(
        end = settings.end.name(),
        socket = %settings.server.socket().display(),
        "serving"
    );
    let shutdown = async move {
        let signal = signals.next().await;
        tracing::info!("{}: serving on until the sidecar has drained", signal.name());
    };
    serve_end_actor(settings.server, handler, shutdown)
        .await
        .map_err(|error| error.to_string())
}
