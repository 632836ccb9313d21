//! A call from beginning to end: a request over REST, three actors, the last event on its stream; 50 a second.
//!
//! Everything runs in this process: gateway on SQLite, embedded queue, a sidecar tree for each actor and for
//! happy-end, native echoes behind real sockets. The gateway's share is the time before the first actor has the message
//! and after the end actor has finished it, of the whole.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use asya_sidecar::gateway::{GatewayAddress, GatewayOptions, GatewayReporter};
use asya_sidecar::{Config, Event, FinalReport, Notices, Progress, ReportError, Reporter, Role, Sidecar};
use futures::StreamExt as _;
use futures::future::{BoxFuture, try_join_all};

use super::{Outcome, Site, call};
use crate::figures::Row;
use crate::measure::Options;
use crate::stage::Echo;

/// The name of this section.
pub const SECTION: &str = "gateway-calls";

/// Calls a second.
const RATE: u32 = 50;

/// Calls that are measured, in stretches of one second.
const SECONDS: u32 = 10;

/// Longest time for one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// When the data plane had an envelope first and last.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    received: Option<Instant>,
    finished: Option<Instant>,
}

/// Notes times and tells the gateway.
struct Noting {
    gateway: GatewayReporter,
    seen: Arc<Mutex<HashMap<String, Seen>>>,
}

impl Noting {
    fn note(&self, id: &str, note: impl FnOnce(&mut Seen)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        note(seen.entry(id.to_owned()).or_default());
    }
}

impl Reporter for Noting {
    fn progress(&self, progress: Progress) {
        if matches!(progress.event, Event::Received { .. }) {
            let now = Instant::now();
            self.note(&progress.envelope.id, |seen| {
                seen.received.get_or_insert(now);
            });
        }
        self.gateway.progress(progress);
    }

    fn finish(&self, report: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        let now = Instant::now();
        self.note(&report.id, |seen| {
            seen.finished.get_or_insert(now);
        });
        self.gateway.finish(report)
    }

    fn notices(&self) -> Option<Arc<Notices>> {
        self.gateway.notices()
    }
}

/// The rows of this section.
pub(super) async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Outcome> {
    say(&format!("{SECTION}: {RATE} calls a second for {SECONDS} s"));
    let site = Site::start(options).await?;
    let seen = Arc::new(Mutex::new(HashMap::new()));
    // A runtime has one sidecar.
    let mut pods = Vec::new();
    for (actor, role) in [
        ("one", Role::Step),
        ("two", Role::Step),
        ("three", Role::Step),
        ("happy-end", Role::HappyEnd),
    ] {
        let echo = Echo::start(&site.stage.path(actor), 1, None);
        pods.push((sidecar(&site, actor, role, &seen).await?, echo));
    }
    let (client, url) = (reqwest::Client::new(), site.server.url());
    // Connections, statements and caches.
    for _ in 0..RATE {
        tokio::time::timeout(PATIENCE, one(&client, &url))
            .await
            .context("a call does not end")??;
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut calls = Vec::new();
    for _ in 0..RATE * SECONDS {
        tick.tick().await;
        let (client, url) = (client.clone(), url.clone());
        calls.push(tokio::spawn(async move {
            tokio::time::timeout(PATIENCE, one(&client, &url))
                .await
                .context("a call does not end")?
        }));
    }
    let ended: Vec<_> = try_join_all(calls).await?.into_iter().collect::<Result<_>>()?;
    for (sidecar, echo) in pods {
        sidecar.drain(Duration::from_secs(5)).await;
        echo.stop().await?;
    }
    site.server.close().await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    rows(&ended, &seen)
}

async fn sidecar(
    site: &Site,
    actor: &str,
    role: Role,
    seen: &Arc<Mutex<HashMap<String, Seen>>>,
) -> Result<Sidecar> {
    let mut config = Config::new(actor, role);
    config.socket_dir = site.stage.path(actor);
    let mut options = GatewayOptions::new(GatewayAddress::parse(&site.server.url())?);
    options.progress_rate = None;
    let reporter = Noting {
        gateway: GatewayReporter::start(options)?,
        seen: Arc::clone(seen),
    };
    let sidecar = Sidecar::builder(config, Arc::new(site.stage.transport.clone()))
        .reporter(Arc::new(reporter))
        .start()
        .await?;
    tokio::time::timeout(PATIENCE, sidecar.ready())
        .await
        .context("a sidecar is not ready")?;
    Ok(sidecar)
}

/// One call.
struct Ended {
    id: String,
    called: Instant,
    answered: Instant,
    told: Instant,
}

async fn one(client: &reqwest::Client, url: &str) -> Result<Ended> {
    let called = Instant::now();
    let id = call(client, url).await?;
    let answered = Instant::now();
    let stream = client.get(format!("{url}/envelopes/{id}/stream")).send().await?;
    let (mut bytes, mut heard) = (stream.bytes_stream(), Vec::new());
    // The gateway ends the stream after the last event.
    while let Some(chunk) = bytes.next().await {
        heard.extend_from_slice(&chunk?);
    }
    let told = Instant::now();
    let heard = String::from_utf8_lossy(&heard);
    ensure!(
        heard.contains("\"succeeded\""),
        "the last event is missing: {heard}"
    );
    Ok(Ended {
        id,
        called,
        answered,
        told,
    })
}

fn rows(ended: &[Ended], seen: &HashMap<String, Seen>) -> Result<Outcome> {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let (mut whole, mut answers, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for call in ended {
        let seen = seen
            .get(&call.id)
            .context("an envelope was not seen by any actor")?;
        let (received, finished) = seen
            .received
            .zip(seen.finished)
            .context("an envelope was not seen to its end")?;
        let all = call.told - call.called;
        whole.push(ms(all));
        answers.push(ms(call.answered - call.called));
        shares.push(1.0 - (finished - received).as_secs_f64() / all.as_secs_f64());
    }
    let at = |values: &mut Vec<f64>, percent: usize| {
        values.sort_unstable_by(f64::total_cmp);
        values[(values.len() * percent / 100).min(values.len() - 1)]
    };
    Ok(Outcome::Measured(vec![
        Row::alone(
            SECTION,
            "call to last event, three actors, p50",
            at(&mut whole, 50),
            "ms",
        ),
        Row::alone(SECTION, "the same, p99", at(&mut whole, 99), "ms"),
        Row::alone(SECTION, "call to its answer, p50", at(&mut answers, 50), "ms"),
        Row::alone(SECTION, "the same, p99", at(&mut answers, 99), "ms"),
        Row::alone(
            SECTION,
            "share of the gateway, median",
            at(&mut shares, 50) * 100.0,
            "%",
        ),
    ]))
}
