//! Resident memory of idle sidecars, in a fresh process that does nothing else.

use std::fs;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use asya_sidecar::{Config, Role, Sidecar};
use asya_transport::local::LocalOptions;
use serde::{Deserialize, Serialize};

use crate::figures::Row;
use crate::meter::as_f64;
use crate::stage::{Echo, Stage};

/// The name of this section.
pub const SECTION: &str = "memory";

/// The hidden subcommand of `bench` that runs [`probe`].
pub const PROBE: &str = "memory-probe";

/// Sidecars started after the first.
const MORE: u32 = 50;

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Resident {
    without: u64,
    with_one: u64,
    with_all: u64,
}

/// The rows of this section.
pub async fn measure(say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    say(&format!("memory: a process with 1 and {} sidecars", MORE + 1));
    let probe = tokio::process::Command::new(std::env::current_exe()?)
        .arg(PROBE)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_mins(1), probe)
        .await
        .context("the probe does not end")??;
    ensure!(output.status.success(), "the probe failed: {}", output.status);
    let resident: Resident = serde_json::from_slice(&output.stdout)?;
    let each = as_f64(resident.with_all.saturating_sub(resident.with_one)) / f64::from(MORE);
    Ok(vec![
        Row::alone(SECTION, "one idle sidecar, of 50 more in a process", each, "KiB"),
        Row::alone(
            SECTION,
            "process with one idle sidecar, queue and echo",
            as_f64(resident.with_one),
            "KiB",
        ),
        Row::alone(
            SECTION,
            "the same process before the sidecar",
            as_f64(resident.without),
            "KiB",
        ),
    ])
}

/// What the fresh process does; returns the line that it prints.
pub async fn probe() -> Result<String> {
    let stage = Stage::new(&std::env::temp_dir(), &LocalOptions::default())?;
    let echo = Echo::start(&stage.path("socket"), 1, None);
    stage.declare(&["happy-end", "error-end"]).await?;
    let without = resident()?;
    let mut sidecars = vec![start(&stage, 0).await?];
    let with_one = resident()?;
    for number in 1..=MORE {
        sidecars.push(start(&stage, number).await?);
    }
    let with_all = resident()?;
    for sidecar in sidecars {
        sidecar.drain(Duration::from_secs(5)).await;
    }
    echo.stop().await?;
    Ok(serde_json::to_string(&Resident {
        without,
        with_one,
        with_all,
    })?)
}

/// Starts a sidecar with the default settings and waits until it consumes.
async fn start(stage: &Stage, number: u32) -> Result<Sidecar> {
    let actor = format!("idle-{number}");
    stage.declare(&[&actor]).await?;
    let mut config = Config::new(actor, Role::Step);
    config.socket_dir = stage.path("socket");
    let sidecar = Sidecar::builder(config, Arc::new(stage.transport.clone()))
        .start()
        .await?;
    tokio::time::timeout(Duration::from_secs(20), sidecar.ready())
        .await
        .context("a sidecar is not ready")?;
    Ok(sidecar)
}

/// Resident memory of this process in KiB.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
