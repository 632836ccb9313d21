//! `asya-sidecar`: the sidecar of one actor as a program, configured by its environment alone.
//!
//! What it is: the shell around the library. It reads [variables](variables) into [settings](settings), connects to
//! RabbitMQ, starts the tree and ends it ([life](life)), and serves [metrics and health](server). What it is not: it
//! decides nothing about messages.
//!
//! Start reading at [`life::run`].

mod broker;
mod environment;
mod exit;
mod help;
mod life;
mod liveness;
mod logging;
mod mark;
mod metrics;
mod server;
mod settings;
mod station;
mod variables;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use environment::Environment;
use exit::Exit;
use help::Arguments;
use settings::Reading;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.markdown {
        return print(&help::markdown()).into();
    }
    let reading = settings::read(&Environment::of_process());
    if arguments.print_config {
        let shown = serde_json::json!(reading.set);
        return print(&format!("{shown:#}\n")).into();
    }
    let actor = reading.set.get(variables::ACTOR_NAME.name).cloned();
    let _writing = logging::start(reading.log, actor);
    if arguments.check {
        return check(&reading).into();
    }
    start(reading).into()
}

/// Says what is wrong; all of it, whatever the outcome.
fn check(reading: &Reading) -> Exit {
    for warning in &reading.warnings {
        tracing::warn!("{warning}");
    }
    match &reading.settings {
        Ok(_) => {
            tracing::info!("the configuration is good");
            Exit::Success
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!("{problem}");
            }
            Exit::CannotGoOn
        }
    }
}

fn start(reading: Reading) -> Exit {
    for warning in &reading.warnings {
        tracing::warn!("{warning}");
    }
    let settings = match reading.settings {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in &problems {
                tracing::error!("{problem}");
            }
            return Exit::CannotGoOn;
        }
    };
    let set: Vec<_> = reading
        .set
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = set.join(" "),
        "starting; what is not named here is at its default"
    );
    // One thread: messages pass through half a dozen tasks, and a wake-up on another core costs more than what most of
    // them do. It moves more than a queue of RabbitMQ delivers.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("failed to start the async runtime: {error}");
            return Exit::CannotGoOn;
        }
    };
    let ended = runtime.block_on(life::run(settings));
    // Tasks of the broker's client must not hold the process back.
    runtime.shutdown_background();
    ended.unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        Exit::CannotGoOn
    })
}

fn print(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::CannotGoOn, // Nobody reads.
    }
}
