//! `asya-sidecar`: the sidecar of one actor as a program, configured by its environment alone.
//!
//! What it is: the shell around the library. It reads [variables](variables) into [settings](settings), connects to
//! RabbitMQ, starts the tree and ends it ([life](life)), and serves [metrics and health](server). What it is not: it
//! decides nothing about messages.
//!
//! Start reading at [`life::run`].

mod broker;
mod exit;
mod help;
mod life;
mod liveness;
mod mark;
mod metrics;
mod server;
mod settings;
mod station;
mod variables;

use std::process::ExitCode;

use asya_program::{Environment, Exit, logging, print};
use clap::Parser as _;

use help::Arguments;
use settings::Reading;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.markdown {
        return print(&help::markdown()).into();
    }
    let reading = settings::read(&Environment::of_process());
    if arguments.print_config {
        return print(&reading.shown()).into();
    }
    let actor = reading.set.get(variables::ACTOR_NAME.name).cloned();
    let _writing = logging::start(reading.log, actor.map(|actor| ("actor", actor)));
    if arguments.check {
        return reading.check().into();
    }
    start(reading).into()
}

fn start(reading: Reading) -> Exit {
    let Some(settings) = reading.start(env!("CARGO_PKG_VERSION")) else {
        return Exit::CannotGoOn;
    };
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
