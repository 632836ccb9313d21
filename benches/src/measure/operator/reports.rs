//! How fast what an operator sees reaches a gateway, and whoever watches there.
//!
//! A real reporter and a real gateway on loopback. *Sustained*: every actor changes again as soon as all changes before
//! are acknowledged. *Lag*: changes at a steady pace, from the operator's word to a watcher's ear.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use asya_operator::report::{GatewayAddress, Observer as _, Options as ReportOptions, Reporter};
use asya_operator::resource::AsyncActor;
use asya_operator::status::Status;
use asya_proto::status::v1::WatchActorsRequest;
use asya_proto::status::v1::actor_status_client::ActorStatusClient;
use asya_proto::status::v1::watch_actors_response::Event;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use super::{Options, Outcome};
use crate::figures::Row;
use crate::measure::gateway::Site;
use crate::meter::as_f64;

/// The name of this section.
pub const SECTION: &str = "operator-reports";

/// Actors of the cluster that is reported about.
const ACTORS: usize = 1_000;
/// Changes a second while the lag is measured.
const PACE: u64 = 500;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// The rows of this section.
pub(super) async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Outcome> {
    let site = Site::start(options).await?;
    let url = site.server.url();
    let shutdown = CancellationToken::new();
    let _end = shutdown.clone().drop_guard();
    let address = GatewayAddress::parse(&url)?;
    let reporter = Reporter::start(ReportOptions::new(address, "bench"), shutdown);
    let actors: Vec<AsyncActor> = (0..ACTORS).map(actor).collect();
    let mut rates = Vec::new();
    for round in 1..=options.rounds {
        say(&format!("{SECTION}: round {round} of {}", options.rounds));
        rates.push(sustained(&reporter, &actors, options.stretch).await?);
    }
    say(&format!("{SECTION}: lag at {PACE} changes a second"));
    let mut lags = lags(&reporter, &actors, &url, options.stretch * 5).await?;
    lags.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| lags.get(lags.len() * part / 100).copied().unwrap_or_default();
    let rows = vec![
        Row::median(SECTION, "actors acknowledged by the gateway", &rates, "/s"),
        Row::alone(
            SECTION,
            format!("lag to a watcher at {PACE}/s, p50"),
            at(50),
            "ms",
        )
        .beside("p99", at(99), "ms"),
    ];
    drop(reporter);
    site.server.close().await;
    Ok(Outcome::Measured(rows))
}

fn actor(number: usize) -> AsyncActor {
    let mut actor = AsyncActor::default();
    actor.metadata.name = Some(format!("actor-{number}"));
    actor.metadata.namespace = Some("default".into());
    actor.metadata.uid = Some(uuid::Uuid::new_v4().to_string());
    actor.metadata.generation = Some(1);
    actor
}

fn status(number: u64) -> Status {
    Status {
        status: Some("Running".into()),
        queued_messages: i32::try_from(number).ok(),
        ..Status::default()
    }
}

/// Acknowledged changes a second.
async fn sustained(reporter: &Reporter, actors: &[AsyncActor], stretch: Duration) -> Result<f64> {
    let started = Instant::now();
    let mut told = 0_u64;
    while started.elapsed() < stretch {
        for actor in actors {
            told += 1;
            reporter.observed(actor, &status(told));
        }
        reporter.synced();
        tokio::time::timeout(PATIENCE, reporter.completed())
            .await
            .context("the gateway does not acknowledge")?;
    }
    Ok(as_f64(told) / started.elapsed().as_secs_f64())
}

/// Milliseconds from each change to its arrival at a watcher.
async fn lags(reporter: &Reporter, actors: &[AsyncActor], url: &str, stretch: Duration) -> Result<Vec<f64>> {
    let channel = Endpoint::from_shared(url.to_owned())?.connect().await?;
    let mut client = ActorStatusClient::new(channel);
    let mut watch = client.watch(WatchActorsRequest::default()).await?.into_inner();
    while !matches!(
        watch.message().await?.context("the watch has ended")?.event,
        Some(Event::Synced(_))
    ) {}
    let count = PACE * stretch.as_secs().max(1);
    // Numbers that the rounds before cannot have told.
    let first = 1 << 30;
    let told = std::sync::Mutex::new(HashMap::new());
    let lock = || told.lock().map_err(|_| anyhow::anyhow!("a task has died"));
    let tell = async {
        let mut pace = tokio::time::interval(Duration::from_secs(1) / u32::try_from(PACE)?);
        for (number, actor) in (first..first + count).zip(actors.iter().cycle()) {
            pace.tick().await;
            lock()?.insert(number, Instant::now());
            reporter.observed(actor, &status(number));
        }
        anyhow::Ok(())
    };
    let hear = async {
        let mut lags = Vec::new();
        loop {
            let Some(Event::Actor(actor)) = watch.message().await?.context("the watch has ended")?.event
            else {
                continue;
            };
            let number = actor.queue.and_then(|queue| queue.queued).unwrap_or_default();
            let Some(since) = lock()?.remove(&number) else {
                continue;
            };
            lags.push(since.elapsed().as_secs_f64() * 1e3);
            if number + 1 == first + count {
                return anyhow::Ok(lags);
            }
        }
    };
    let both = futures::future::try_join(tell, hear);
    let ((), lags) = tokio::time::timeout(stretch + PATIENCE, both)
        .await
        .context("the changes do not arrive")??;
    Ok(lags)
}
