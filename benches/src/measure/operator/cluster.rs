//! A thousand actors: from nothing to all applied, a calm cluster, and one change.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::metrics::samples;
use super::site::{self, NAMESPACE, Site};
use super::{Options, Outcome};
use crate::broker::Child;
use crate::figures::{Row, Spread};
use crate::meter::as_f64;

/// The name of this section.
pub const SECTION: &str = "operator";

/// Actors in the cluster.
const ACTORS: usize = 1_000;
/// Longest time until all of them are applied.
const PATIENCE: Duration = Duration::from_mins(10);
/// How long a calm cluster is watched for each stretch of a second of the other sections: ten minutes by default.
const CALM: u32 = 600;
/// Changes of a spec.
const CHANGES: usize = 100;
/// Memory that the operator should not exceed.
const MEMORY: f64 = 100.0;

/// The rows of this section.
pub(super) async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Outcome> {
    if let Some(reason) = site::missing() {
        return Ok(Outcome::Skipped(reason));
    }
    let site = Site::start(options.operator.clone(), say).await?;
    say(&format!("{SECTION}: creating {ACTORS} actors"));
    site.create_actors(ACTORS).await?;
    let (mut operator, port) = site.operator("cold")?;
    let started = Instant::now();
    say(&format!("{SECTION}: applying them"));
    operator.during(all_settled(&site, port)).await?;
    let cold = started.elapsed();
    let mut rows = applied(&site, port, &operator, cold).await?;
    rows.extend(operator.during(calm(&site, port, options, say)).await?);
    rows.push(cpu_row(&operator, options, say).await?);
    rows.push(operator.during(changes(&site, say)).await?);
    rows.push(memory("most memory of the whole run", operator.usage()?.peak));
    operator.stop().await?;
    Ok(Outcome::Measured(rows))
}

/// Until every actor has a state, and nothing is left to be done.
async fn all_settled(site: &Site, port: u16) -> Result<()> {
    let pause = Duration::from_millis(200);
    let is_settled = || async {
        // It listens a moment after its start.
        let Ok(text) = site.metrics(port).await else {
            return Ok(false);
        };
        let states: f64 = samples(&text, "asya_operator_actor_status")
            .filter(|sample| sample.has("status", "Napping"))
            .map(|sample| sample.value)
            .sum();
        let waiting: f64 = samples(&text, "workqueue_depth").map(|sample| sample.value).sum();
        Ok(states >= as_f64(ACTORS as u64) && waiting == 0.0)
    };
    site::until("all actors to be applied", PATIENCE, pause, is_settled).await?;
    Ok(())
}

/// What the cold start has cost, after a look at whether all is really there.
async fn applied(site: &Site, port: u16, operator: &Child, cold: Duration) -> Result<Vec<Row>> {
    let deployments = site
        .count(&format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments"))
        .await?;
    let scalers = site
        .count(&format!(
            "/apis/keda.sh/v1alpha1/namespaces/{NAMESPACE}/scaledobjects"
        ))
        .await?;
    ensure!(
        (deployments, scalers) == (ACTORS, ACTORS),
        "{deployments} Deployments and {scalers} ScaledObjects of {ACTORS} actors"
    );
    let text = site.metrics(port).await?;
    let per_actor = |count: f64| count / as_f64(ACTORS as u64);
    Ok(vec![
        Row::alone(
            SECTION,
            format!("{ACTORS} actors from cold start to all applied"),
            cold.as_secs_f64(),
            "s",
        ),
        Row::alone(
            SECTION,
            "  requests per actor",
            per_actor(requests(&text, |_| true)),
            "",
        ),
        Row::alone(SECTION, "  of these, writes", per_actor(writes(&text)), ""),
        memory("  most memory", operator.usage()?.peak),
    ])
}

fn memory(name: &str, kib: u64) -> Row {
    Row::alone(SECTION, name, as_f64(kib) / 1024.0, "MiB").limit(MEMORY)
}

fn requests(text: &str, which: impl Fn(&super::metrics::Sample<'_>) -> bool) -> f64 {
    samples(text, "rest_client_requests_total")
        .filter(which)
        .map(|sample| sample.value)
        .sum()
}

fn writes(text: &str) -> f64 {
    requests(text, |sample| !sample.has("method", "GET"))
}

/// A cluster in which nothing happens.
async fn calm(site: &Site, port: u16, options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let watched = options.stretch * CALM;
    say(&format!(
        "{SECTION}: watching a calm cluster for {} s",
        watched.as_secs()
    ));
    let before = site.metrics(port).await?;
    tokio::time::sleep(watched).await;
    let after = site.metrics(port).await?;
    let written = writes(&after) - writes(&before);
    let asked = requests(&after, |_| true) - requests(&before, |_| true);
    let minutes = watched.as_secs_f64() / 60.0;
    Ok(vec![
        Row::alone(
            SECTION,
            format!("writes in {} s of calm", watched.as_secs()),
            written,
            "",
        )
        .limit(0.0),
        Row::alone(SECTION, "  requests, watches included", asked / minutes, "/min"),
    ])
}

/// Processor time while nothing happens.
async fn cpu_row(operator: &Child, options: &Options, say: &dyn Fn(&str)) -> Result<Row> {
    let watched = options.stretch * 30;
    say(&format!(
        "{SECTION}: its processor time in {} s",
        watched.as_secs()
    ));
    let before = operator.processor()?;
    tokio::time::sleep(watched).await;
    let used = operator.processor()?.since(before).time;
    let per_second = used.as_secs_f64() * 1e3 / watched.as_secs_f64();
    Ok(Row::alone(SECTION, "  processor time per second of calm", per_second, "ms").limit(5.0))
}

/// From the answer to a changed spec to the changed Deployment, one actor after the other.
async fn changes(site: &Site, say: &dyn Fn(&str)) -> Result<Row> {
    say(&format!("{SECTION}: {CHANGES} changes of a spec"));
    let mut times = Vec::new();
    for number in 0..CHANGES {
        times.push(change(site, &format!("actor-{number}"), &format!("new-{number}")).await?);
    }
    times.sort_unstable_by(f64::total_cmp);
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    Ok(Row::alone(
        SECTION,
        "changed spec to changed workload, p50",
        Spread::of(times.clone()).median,
        "ms",
    )
    .beside("p99", at(99), "ms"))
}

/// Milliseconds of one change.
async fn change(site: &Site, name: &str, image: &str) -> Result<f64> {
    let deployment = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}");
    let list = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
    let version = site.get(&deployment).await?["metadata"]["resourceVersion"].clone();
    let version = version.as_str().context("a version")?.to_owned();
    let watch = site.url(&format!(
        "{list}?watch=1&fieldSelector=metadata.name={name}&resourceVersion={version}"
    ));
    let mut watch = site.client.get(watch).bearer_auth("admin-token").send().await?;
    let patch = json!([{
        "op": "replace", "path": "/spec/workload/template/spec/containers/0/image", "value": image,
    }]);
    let actor = site.url(&format!(
        "/apis/asya.sh/v1alpha1/namespaces/{NAMESPACE}/asyncactors/{name}"
    ));
    let patched = site
        .client
        .patch(actor)
        .bearer_auth("admin-token")
        .body(patch.to_string());
    let patched = patched
        .header("content-type", "application/json-patch+json")
        .send()
        .await?;
    ensure!(patched.status().is_success(), "{}", patched.text().await?);
    let started = Instant::now();
    let mut read = Vec::new();
    let changed = async {
        while let Some(chunk) = watch.chunk().await? {
            read.extend_from_slice(&chunk);
            while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = read.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line)?;
                let containers = event["object"]["spec"]["template"]["spec"]["containers"].as_array();
                if containers
                    .into_iter()
                    .flatten()
                    .any(|container| container["image"] == image)
                {
                    return Ok(());
                }
            }
        }
        anyhow::bail!("the watch has ended")
    };
    tokio::time::timeout(Duration::from_mins(1), changed)
        .await
        .context("the change does not arrive")??;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}
