//! `asya run`: one job through a pipeline.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinHandle;

use crate::arguments::RunOptions;
use crate::commands::{counted, display, interrupted, prepare, print_results};
use crate::exit::Exit;
use crate::local::{Engine, State, resolve};
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

    let mut interrupted = pin!(interrupted());
    let end = tokio::select! {
        () = over(&engine) => End::Over,
        () = deadline(options.timeout) => End::TimedOut,
        signal = &mut interrupted => { signal?; End::Interrupted }
        reason = engine.failed() => End::Failed(anyhow::anyhow!(reason)),
        error = display(&engine, &screen) => End::Failed(error),
    };
    screen.clear();
    let (watch, results) = (engine.watch(), engine.results().to_owned());
    engine.drain(options.local.grace).await;
    let end = printed(end, printer, options.local.grace, interrupted).await?;
    // Only now: what ran at the end of the waiting may have come to its end in the drain.
    let (report, failed) = watch.look(|tracker| {
        (
            summary(tracker, &names, started.elapsed(), &results),
            tracker.failed(),
        )
    });
    say(report.trim_end());
    let unfinished = unfinished(watch.look(Tracker::open), &state);
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

/// Waits until everything is printed. Who reads slowly is waited for until Ctrl-C; a run that was cut short waits for
/// `grace` at most, since there may be nobody who reads.
async fn printed(
    end: End,
    printer: JoinHandle<()>,
    grace: Duration,
    interrupted: Pin<&mut impl Future<Output = std::io::Result<()>>>,
) -> anyhow::Result<End> {
    let failed = "printing the results failed";
    if matches!(end, End::Over) {
        return tokio::select! {
            joined = printer => joined.context(failed).map(|()| end),
            signal = interrupted => signal.map(|()| End::Interrupted).map_err(Into::into),
        };
    }
    if let Ok(joined) = tokio::time::timeout(grace, printer).await {
        joined.context(failed)?;
    }
    Ok(end)
}

fn unfinished(open: usize, state: &State) -> String {
    if open == 0 {
        return String::from("nothing is left unfinished");
    }
    let (envelopes, place) = (counted(open, "envelope"), state.directory().display());
    format!("{envelopes} unfinished and still queued in {place}; 'asya up' goes on with them")
}

async fn over(engine: &Engine) {
    while !engine.watch().look(Tracker::is_over) {
        engine.changed().await;
    }
}

async fn deadline(timeout: Option<Duration>) {
    match timeout {
        Some(timeout) => tokio::time::sleep(timeout).await,
        None => std::future::pending().await,
    }
}
