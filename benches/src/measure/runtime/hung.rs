//! A handler that hangs in one of three workers: what the others notice, and when a new worker is there.
//!
//! Twice. Through a real sidecar: a trickle of short calls, with and without one that hangs past its deadline, is not
//! moved by the question whether it ended, and is killed. And beside the runtime alone: from KILL to the new worker.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use asya_runtime_protocol::v2::{ControlEvent, WorkerState};
use bytes::Bytes;
use tokio::time::timeout;
use tokio::try_join;

use super::actor::{Actor, Source, Stamp};
use super::client::{self, Links, PATIENCE};
use crate::figures::Row;
use crate::measure::Options;
use crate::meter::{hops_in, quantile};
use crate::python::{Script, Server, resolve};

/// The name of this section.
pub const SECTION: &str = "runtime-hung";

const SCRIPT: Script = Script::Runtime {
    handler: "shape_handlers.hang",
    settings: &[("ASYA_WORKERS", "3"), ("ASYA_CANCEL_GRACE", "300ms")],
};
/// From asking a call to end to killing its worker, as above.
const GRACE: Duration = Duration::from_millis(300);
/// Longest time for a call: far above what an honest one takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(1);
/// Mean gap between two messages.
const GAP: Duration = Duration::from_millis(5);

/// The rows of this section.
pub async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let mut rows = through_sidecar(options, say).await?;
    rows.extend(replaced(options, say).await?);
    Ok(rows)
}

/// What messages wait for their handler in ms, without and with one that hangs, and when that one is answered.
#[derive(Debug, Default)]
struct Seen {
    without: Vec<f64>,
    with: Vec<f64>,
    answered: Vec<f64>,
}

async fn through_sidecar(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let python = resolve(&options.python)?;
    let settle = |config: &mut asya_sidecar::Config| config.runtime_timeout = LIMIT;
    let mut actor = Actor::start(options, &python, SCRIPT, settle).await?;
    let source = actor.source();
    // Long enough that the worker is replaced in the middle of it.
    let count = hops_in(1.0 / GAP.as_secs_f64(), (LIMIT + GRACE) * 2);
    let (mut middle, mut slow) = (Seen::default(), Seen::default());
    for round in 0..options.rounds {
        say(&format!("{SECTION}: round {} of {}", round + 1, options.rounds));
        for hangs in [round % 2 == 0, round % 2 == 1] {
            let (mut waits, answered) = trickle(&mut actor, &source, count, hangs).await?;
            let (half, most) = (quantile(&mut waits, 0.5), quantile(&mut waits, 0.99));
            if let Some(answered) = answered {
                middle.with.push(half);
                slow.with.push(most);
                slow.answered.push(answered);
            } else {
                middle.without.push(half);
                slow.without.push(most);
            }
        }
    }
    actor.stop().await;
    let row = |name: &str, seen: &Seen| {
        let name = format!("wait for the handler while one of 3 workers hangs: {name}");
        Row::times(
            SECTION,
            name,
            "ms",
            &seen.with,
            ("while none hangs", &seen.without),
        )
    };
    let grace = GRACE.as_secs_f64() * 1e3;
    let answered = Row::median(
        SECTION,
        "deadline of the call to its message in error-end",
        &slow.answered,
        "ms",
    );
    Ok(vec![
        row("p50", &middle),
        row("p99", &slow),
        answered.beside("grace in it", grace, "ms"),
    ])
}

/// The waits of `count` messages, and with one more that hangs the time from its deadline to error-end.
async fn trickle(
    actor: &mut Actor,
    source: &Source,
    count: u64,
    hangs: bool,
) -> Result<(Vec<f64>, Option<f64>)> {
    let calm = source.trickle(count, GAP, r#","hang":false"#);
    let answered = if hangs {
        let sent = Instant::now();
        source.send(count, r#","hang":true"#).await?;
        let failing = async {
            let error = actor.error().await?;
            let after = sent.elapsed();
            let text = String::from_utf8_lossy(&error);
            ensure!(text.contains("imeout"), "not a timeout: {text}");
            Ok(after)
        };
        let ((), after) = try_join!(calm, failing)?;
        Some((after.saturating_sub(LIMIT)).as_secs_f64() * 1e3)
    } else {
        calm.await?;
        None
    };
    let stamps = actor.results(count, PATIENCE).await?;
    Ok((stamps.iter().map(Stamp::waited).collect(), answered))
}

/// From KILL to the end of the worker, and to the next one in its place.
async fn replaced(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    say(&format!("{SECTION}: killing {} workers", options.rounds));
    let directory = tempfile::Builder::new().prefix("asya-bench-").tempdir()?;
    let python = resolve(&options.python)?;
    let server = Server::start(SCRIPT, &python, directory.path(), None).await?;
    let (mut gone, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        // A client of its own for each, because the links to workers end with them.
        let mut links = Links::open(server.directory()).await?;
        let (ended, began) = timeout(PATIENCE, kill(&mut links))
            .await
            .context("no new worker")??;
        gone.push(ended.as_secs_f64() * 1e3);
        ready.push(began.as_secs_f64() * 1e3);
        links.control.goodbye();
    }
    Ok(vec![
        Row::median(SECTION, "KILL to the end of the worker", &gone, "ms"),
        Row::median(SECTION, "KILL to the new worker, ready", &ready, "ms"),
    ])
}

async fn kill(links: &mut Links) -> Result<(Duration, Duration)> {
    let hang = Bytes::from_static(
        br#"{"id":"hung","route":{"actors":["work"],"current":0},"payload":{"sent":0,"hang":true}}"#,
    );
    let (id, link) = links.workers.first_mut().context("no worker")?;
    let tag = link.send(client::request(&hang));
    if let Ok(answer) = timeout(GRACE, link.next()).await {
        bail!("the handler that hangs gave {answer:?}");
    }
    let (killed, mut ended) = (Instant::now(), None);
    links.control.kill(*id, tag);
    loop {
        match links.control.next().await? {
            ControlEvent::Worker(of, WorkerState::Gone(_)) if of == *id => ended = Some(killed.elapsed()),
            ControlEvent::Worker(of, WorkerState::Ready { .. }) if of.worker == id.worker => {
                return Ok((ended.context("replaced before it was gone")?, killed.elapsed()));
            }
            _ => {}
        }
    }
}
