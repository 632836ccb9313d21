//! `asya`: what a person types to run pipelines.
//!
//! What it is: the command line over the crates of this workspace; `asya run` and `asya up` start a whole pipeline in
//! one process: embedded queue, sidecar trees, end actors, and the handlers' runtimes as child processes. What it is
//! not: it decides nothing about messages; that is the sidecar's business.
//!
//! Start reading at [`commands`], then [`local`] (everything that runs) and [`view`] (everything that is shown).

mod arguments;
mod commands;
mod exit;
mod guard;
mod local;
mod logging;
mod mcp;
mod view;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};
use exit::{Exit, UsageError};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    if words.next().is_some_and(|first| first == guard::ARGUMENT) {
        return guard::run(&words.collect::<Vec<_>>());
    }
    let arguments = Arguments::parse_from(mcp::alias(std::env::args_os()));
    if let Command::Gateway(options) = arguments.command {
        // A program of its own, with its own log and exit codes.
        return asya_gateway::program::run(options).into();
    }
    logging::start(&arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let (reason, exit) =
                explain(&anyhow::Error::new(error).context("failed to start the async runtime"));
            // Nothing runs yet that the write could hold back.
            let _unread = writeln!(std::io::stderr(), "{reason}");
            return exit.into();
        }
    };
    if let Command::Mcp(options) = arguments.command {
        return ask_gateway(&runtime, options);
    }
    let exit = runtime.block_on(async {
        let ended = match arguments.command {
            Command::Mcp(_) | Command::Gateway(_) => unreachable!("carried out above"),
            Command::Run(options) => commands::run::run(options).await,
            Command::Up(options) => commands::up::run(options).await,
            Command::Send(options) => commands::send::run(options).await,
        };
        let exit = match ended {
            Ok(exit) => exit,
            Err(error) => {
                let (reason, exit) = explain(&error);
                view::say_last(&reason).await;
                exit
            }
        };
        view::flush().await;
        exit
    });
    // Blocking reads of pipes must not hold the process back.
    runtime.shutdown_background();
    exit.into()
}

/// `asya mcp`, whose exit codes are its own.
fn ask_gateway(runtime: &tokio::runtime::Runtime, options: mcp::McpOptions) -> ExitCode {
    // A second installation in one process, as in tests, changes nothing.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match runtime.block_on(mcp::run(options)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            let _unread = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// What to say about an error, and the exit code.
fn explain(error: &anyhow::Error) -> (String, Exit) {
    let label = console::style("error:").for_stderr().red().bold();
    let (reason, exit) = if let Some(problems) = error.downcast_ref::<asya_manifest::Problems>() {
        let reason = format!("the manifests cannot be used as they are\n{problems}");
        (reason, Exit::Usage)
    } else if error.downcast_ref::<UsageError>().is_some() {
        (format!("{error:#}"), Exit::Usage)
    } else {
        (format!("{error:#}"), Exit::CannotGoOn)
    };
    (format!("{label} {reason}"), exit)
}
