//! `asya run`: one job through a pipeline.

use std::time::{Duration, Instant};

use crate::arguments::RunOptions;
use crate::commands::{display, interrupted, prepare, print_results};
use crate::exit::Exit;
use crate::local::{Engine, resolve};
use crate::view::{Screen, Tracker, say, summary};

/// How the waiting ended.
enum End {
    Over,
    TimedOut,
    Interrupted,
    Failed(anyhow::Error),
}

/// Runs the job to its end.
pub(crate) async fn run(options: RunOptions) -> anyhow::Result<Exit> {
    let (state, project) = prepare(&options.place, &options.local.python).await?;
    let order = resolve(&project.directory, &options.job)?;
    let names: Vec<_> = project
        .actors
        .iter()
        .map(|(actor, _)| actor.name.as_str())
        .collect();
    let screen = Screen::new(names.iter().copied());
    for notice in &project.notices {
        say(&format!("note: {notice}"));
    }
    let started = Instant::now();
    let (engine, finals) = Engine::start(&project, &state, Tracker::default()).await?;
    let printer = print_results(finals);
    let left_over: u64 = engine
        .depths()
        .await?
        .values()
        .map(asya_transport::Depth::total)
        .sum();
    if left_over > 0 {
        say(&format!(
            "note: {left_over} messages of an earlier run are still queued and run too"
        ));
    }
    engine.submit(order.envelopes()).await?;
    tracing::info!(route = ?order.route(), "submitted");

    let end = tokio::select! {
        () = over(&engine) => End::Over,
        () = deadline(options.timeout) => End::TimedOut,
        signal = interrupted() => { signal?; End::Interrupted }
        reason = engine.failed() => End::Failed(anyhow::anyhow!(reason)),
        error = display(&engine, &screen) => End::Failed(error),
    };
    screen.clear();
    let report = engine.figures(|tracker| summary(tracker, &names, started.elapsed(), engine.results()));
    let (open, failed) = engine.figures(|tracker| (tracker.open(), tracker.failed()));
    engine.drain(options.local.grace).await;
    if printer.join().is_err() {
        anyhow::bail!("printing the results failed");
    }
    say(report.trim_end());

    let place = state.directory().display();
    let unfinished =
        format!("{open} envelopes are unfinished and stay queued in {place}; 'asya up' goes on with them");
    match end {
        End::Over if failed > 0 => Ok(Exit::EnvelopesFailed),
        End::Over => Ok(Exit::Success),
        End::TimedOut => {
            say(&format!("timed out: {unfinished}"));
            Ok(Exit::TimedOut)
        }
        End::Interrupted => {
            say(&format!("interrupted: {unfinished}"));
            Ok(Exit::Interrupted)
        }
        End::Failed(error) => {
            say(&unfinished);
            Err(error)
        }
    }
}

async fn over(engine: &Engine) {
    while !engine.figures(Tracker::is_over) {
        engine.changed().await;
    }
}

async fn deadline(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
