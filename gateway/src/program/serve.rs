//! Serving, from the first log line to the end.

use asya_program::{Exit, Signals};
use rustix::process::{Resource, Rlimit};

use super::environment::{Prepared, Told};
use super::metrics;
use crate::life::Server;
use crate::settings::{Metrics, Settings};

/// Says what is wrong, or serves until a signal or a failure ends it.
pub(super) fn start(told: Told) -> Exit {
    for problem in &told.tools {
        tracing::error!("{problem}");
    }
    let Some(prepared) = told.reading.start(env!("CARGO_PKG_VERSION")) else {
        return Exit::CannotGoOn;
    };
    allow_many_connections();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("failed to start the async runtime: {error}");
            return Exit::CannotGoOn;
        }
    };
    let exit = runtime.block_on(live(prepared));
    // Tasks of clients of the broker must not hold the process back.
    runtime.shutdown_background();
    exit.unwrap_or_else(|reason| {
        tracing::error!("{reason}");
        Exit::CannotGoOn
    })
}

/// Every stream is an open file, and the usual soft limit of 1024 is there for programs that use `select`.
fn allow_many_connections() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = limit.current, "the number of connections stays limited by open files");
    }
}

/// The error says in one line why it cannot go on.
async fn live(prepared: Prepared) -> Result<Exit, String> {
    let mut signals = Signals::listen().map_err(|error| format!("cannot listen for signals: {error}"))?;
    let recorder = metrics::install().map_err(|error| format!("metrics cannot be recorded: {error}"))?;
    let _upkeep = metrics::Upkeep::start(recorder.clone());
    let settings = Settings {
        metrics: Some(Metrics {
            render: std::sync::Arc::new(move || recorder.render()),
            address: prepared.metrics_address,
        }),
        ..prepared.settings
    };
    let mut server = tokio::select! {
        started = Server::start(settings) => started.map_err(|error| error.to_string())?,
        signal = signals.next() => {
            tracing::info!(signal = signal.name(), "asked to end before it served");
            return Ok(Exit::Success);
        }
    };
    let metrics_address = server.metrics_address().map(|address| address.to_string());
    tracing::info!(url = server.url(), address = %server.address(), metrics = metrics_address, "serving");
    let ended = tokio::select! {
        signal = signals.next() => Ok(signal),
        reason = server.failed() => Err(reason),
    };
    match &ended {
        Ok(signal) => tracing::info!(signal = signal.name(), "draining: streams are told to reconnect"),
        Err(reason) => tracing::error!("{reason}"),
    }
    tokio::select! {
        () = server.close() => {}
        again = signals.next() => {
            tracing::warn!(signal = again.name(), "asked again, ending at once");
            return Ok(Exit::Interrupted(again));
        }
    }
    match ended {
        Ok(_) => {
            tracing::info!("drained");
            Ok(Exit::Success)
        }
        Err(_) => Ok(Exit::CannotGoOn),
    }
}
