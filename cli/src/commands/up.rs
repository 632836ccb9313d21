//! `asya up`: keep a pipeline running.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use asya_manifest::Tools;
use asya_transport::Depth;
use tokio::time::Instant;

use crate::arguments::UpOptions;
use crate::commands::{counted, display, interrupted, note_strangers, prepare};
use crate::exit::Exit;
use crate::local::{Engine, Port};
use crate::mcp::DEFAULT_PORT;
use crate::view::{Screen, Tracker, say, say_last, summary};

/// Pause between two looks whether the queues are empty.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// Runs until told to stop, or until every queue is empty with `--drain`.
pub(crate) async fn run(options: UpOptions) -> anyhow::Result<Exit> {
    // From the first moment: the import of a handler may take long, and a parent may have had SIGINT ignored.
    let mut interrupted = pin!(interrupted());
    let (state, project) = tokio::select! {
        prepared = prepare(&options.place, &options.local.python) => prepared?,
        signal = &mut interrupted => return signal.map(|()| Exit::Interrupted).map_err(Into::into),
    };
    let names: Vec<_> = project
        .actors
        .iter()
        .map(|(actor, _)| actor.name.as_str())
        .collect();
    let screen = Arc::new(Screen::new(names.iter().copied()));
    for notice in &project.notices {
        say(&format!("note: {notice}"));
    }
    let started = Instant::now();
    let (engine, mut finals) = Engine::start(
        &project,
        &state,
        Tracker::of_everything(),
        Arc::clone(&screen),
        port(&options),
    )
    .await?;
    note_strangers(&engine).await?;
    // Results are stored; nobody asked to see them here.
    tokio::spawn(async move { while finals.recv().await.is_some() {} });
    let dir = options.place.dir.display();
    say(&format!(
        "running {} of {dir}; give work with: asya send {dir} …",
        counted(names.len(), "actor")
    ));
    if let Some(url) = engine.gateway_url() {
        say(&gateway_lines(url, project.directory.tools.as_ref()));
    }

    let ended = tokio::select! {
        empty = empty(&engine), if options.drain => empty.map(|()| Exit::Success),
        signal = &mut interrupted => signal.map(|()| Exit::Interrupted).map_err(Into::into),
        reason = engine.failed() => Err(anyhow::anyhow!(reason)),
        error = display(&engine, &screen) => Err(error),
    };
    screen.clear();
    let (watch, results) = (engine.watch(), engine.results().to_owned());
    let drained = engine.drain(Instant::now() + options.local.grace).await;
    let report = watch.look(|tracker| summary(tracker, &names, started.elapsed(), &results));
    say_last(report.trim_end()).await;
    if drained.returned > 0 {
        say_last(&format!(
            "{} not finished in time, still queued",
            counted(drained.returned, "message")
        ))
        .await;
    }
    match ended {
        Ok(Exit::Interrupted) if options.drain => Ok(Exit::Interrupted),
        // Ending is what a person who presses Ctrl-C here asks for: nothing has gone wrong.
        Ok(_) => Ok(Exit::Success),
        Err(error) => Err(error),
    }
}

/// Where the gateway is wanted, if it is.
fn port(options: &UpOptions) -> Option<Port> {
    match options.port {
        _ if options.no_gateway => None,
        Some(port) => Some(Port::Exactly(port)),
        None => Some(Port::Rather(DEFAULT_PORT)),
    }
}

/// How its tools are called.
fn gateway_lines(url: &str, tools: Option<&Tools>) -> String {
    let is_default = url == format!("http://127.0.0.1:{DEFAULT_PORT}");
    let option = if is_default {
        String::new()
    } else {
        format!(" --url {url}")
    };
    let call = match tools.and_then(|tools| tools.tools.first()) {
        Some(tool) => format!("asya mcp{option} call {}", tool.name),
        None => format!("asya mcp{option} list"),
    };
    format!("gateway at {url} (REST, gRPC; MCP at {url}/mcp); call a tool with: {call}")
}

/// Resolves when no queue of this directory holds a message in any state.
async fn empty(engine: &Engine) -> anyhow::Result<()> {
    loop {
        if engine.depths().await?.values().map(Depth::total).sum::<u64>() == 0 {
            return Ok(());
        }
        tokio::time::sleep(DRAIN_INTERVAL).await;
    }
}
