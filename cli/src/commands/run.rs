//! `asya run`: one job through a pipeline.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::arguments::RunOptions;
use crate::commands::{counted, display, interrupted, note_strangers, prepare, print_results};
use crate::exit::Exit;
use crate::local::{Drained, Engine, LEAST_GRACE, State, resolve};
use crate::view::{Screen, Tracker, say, say_last, summary};

/// How the waiting ended.
enum End {
    Over,
    TimedOut,
    Interrupted,
    Failed(anyhow::Error),
}

/// Runs the job to its end.
pub(crate) async fn run(options: RunOptions) -> anyhow::Result<Exit> {
    // From the first moment: the import of a handler may take long, and a parent may have had SIGINT ignored.
    let mut interrupted = pin!(interrupted());
    let (state, project) = tokio::select! {
        prepared = prepare(&options.place, &options.local.python) => prepared?,
        signal = &mut interrupted => return signal.map(|()| Exit::Interrupted).map_err(Into::into),
    };
    let order = resolve(&project.directory, &options.job)?;
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
    let (engine, finals) =
        Engine::start(&project, &state, Tracker::of_run(), Arc::clone(&screen), None).await?;
    let printer = print_results(finals);
    note_strangers(&engine).await?;
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
        signal = &mut interrupted => { signal?; End::Interrupted }
        reason = engine.failed() => End::Failed(anyhow::anyhow!(reason)),
        error = display(&engine, &screen) => End::Failed(error),
    };
    screen.clear();
    let (watch, results) = (engine.watch(), engine.results().to_owned());
    let deadline = Instant::now() + options.local.grace;
    let drained = engine.drain(deadline).await;
    let end = printed(end, printer, deadline, interrupted).await?;
    // Only now: what ran at the end of the waiting may have come to its end in the drain.
    let (report, failed) = watch.look(|tracker| {
        (
            summary(tracker, &names, started.elapsed(), &results),
            tracker.failed(),
        )
    });
    say_last(report.trim_end()).await;
    let unfinished = unfinished(watch.look(Tracker::open), drained, &state);
    match end {
        End::Over if failed > 0 => Ok(Exit::EnvelopesFailed),
        End::Over => Ok(Exit::Success),
        End::TimedOut => {
            say_last(&format!("timed out: {unfinished}")).await;
            Ok(Exit::TimedOut)
        }
        End::Interrupted => {
            say_last(&format!("interrupted: {unfinished}")).await;
            Ok(Exit::Interrupted)
        }
        End::Failed(error) => {
            say_last(&unfinished).await;
            Err(error)
        }
    }
}

/// Waits until everything is printed. Who reads slowly is waited for until Ctrl-C; a run that was cut short waits
/// until `deadline`, but at least [`LEAST_GRACE`], since there may be nobody who reads.
async fn printed(
    end: End,
    printer: JoinHandle<()>,
    deadline: Instant,
    interrupted: Pin<&mut impl Future<Output = std::io::Result<()>>>,
) -> anyhow::Result<End> {
    let failed = "printing the results failed";
    if matches!(end, End::Over) {
        return tokio::select! {
            joined = printer => joined.context(failed).map(|()| end),
            signal = interrupted => signal.map(|()| End::Interrupted).map_err(Into::into),
        };
    }
    if let Ok(joined) = tokio::time::timeout_at(deadline.max(Instant::now() + LEAST_GRACE), printer).await {
        joined.context(failed)?;
    }
    Ok(end)
}

fn unfinished(open: usize, drained: Drained, state: &State) -> String {
    if open == 0 {
        return String::from("nothing is left unfinished");
    }
    let (envelopes, place) = (counted(open, "envelope"), state.directory().display());
    match drained.queued {
        Some(0) => format!("{envelopes} unfinished, and no message is queued in {place}"),
        Some(queued) => {
            let messages = if queued == 1 { "message" } else { "messages" };
            format!(
                "{envelopes} unfinished; {queued} {messages} queued in {place}; 'asya up' goes on with them"
            )
        }
        None => format!("{envelopes} unfinished; 'asya up' goes on with what is queued in {place}"),
    }
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
