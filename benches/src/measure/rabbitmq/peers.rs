//! Our hop beside those that a Python user would write by hand with the same guarantees: confirmed publish, late
//! acknowledgement, nothing lost when a process dies.
//!
//! Ours is the sidecar with a Python handler and all defaults. The others are the scripts in `peers/`, with their
//! packages in a virtual environment beside the build products, made at the first run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command;
use tokio::time::timeout;

use super::field::{Field, Runtime, SIZE, Shape, Stretch};
use super::{ENOUGH, Outcome};
use crate::broker::{Child, Kind, NEXT, STEP, address_of};
use crate::figures::Row;
use crate::meter::hops_in;

/// The name of this section.
pub const SECTION: &str = "peers";

/// Longest time for making the virtual environment.
const INSTALL: Duration = Duration::from_mins(4);
/// Messages that a peer may have in hand.
const PREFETCH: u16 = 100;

struct Peer {
    /// What the row says.
    row: &'static str,
    beside: &'static str,
    script: &'static str,
    /// About how many hops it makes in a second; only the length of the run depends on it.
    rate: f64,
}

const PEERS: [Peer; 3] = [
    Peer {
        row: "Python echo, all defaults",
        beside: "pika, confirms one by one",
        script: "pika_hop.py",
        rate: 700.0,
    },
    Peer {
        row: "  the same",
        beside: "aio-pika, confirms side by side",
        script: "aio_pika_hop.py",
        rate: 1_500.0,
    },
    Peer {
        row: "  the same",
        beside: "Celery, acks_late, chain, confirm_publish",
        script: "celery_hop.py",
        rate: 400.0,
    },
];

/// The rows of this section.
pub async fn measure(field: &Field<'_>) -> Result<Outcome> {
    let python = match environment(field).await? {
        Ok(python) => python,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let (kind, prefetch) = (Kind::Classic, ENOUGH);
    let stretch = field.stretch(Shape { kind, prefetch }).await?;
    let mut ours = Vec::new();
    let mut theirs = [const { Vec::new() }; PEERS.len()];
    for round in 0..field.rounds() {
        field.say(&format!("peers: round {}", round + 1));
        ours.push(field.sidecar(kind, None, Runtime::Python, &[], stretch).await?);
        for (peer, rates) in PEERS.iter().zip(&mut theirs) {
            rates.push(peer.run(field, &python).await?);
        }
    }
    let row = |(peer, rates): (&Peer, &Vec<f64>)| Row::rates(SECTION, peer.row, &ours, (peer.beside, rates));
    Ok(Outcome::Measured(PEERS.iter().zip(&theirs).map(row).collect()))
}

impl Peer {
    /// Hops per second, as the broker counts them.
    async fn run(&self, field: &Field<'_>, python: &Path) -> Result<f64> {
        let directory = field.directory()?;
        let stretch = Stretch::of(hops_in(self.rate, field.options.stretch).max(100), PREFETCH);
        let mut command = Command::new(python);
        command
            .arg(scripts().join(self.script))
            .args([&field.node.url(), &address_of(STEP), &address_of(NEXT)])
            .arg(PREFETCH.to_string())
            .current_dir(directory.path())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        if self.script == "celery_hop.py" {
            // Its messages have a form of their own, so it fills the queue itself.
            field.node.lay(Kind::Classic).await?;
            command.arg(stretch.total().to_string());
        } else {
            field.node.fill(Kind::Classic, stretch.total(), SIZE).await?;
        }
        let mut child = Child::start("peer", &mut command, directory.path())?;
        let rate = child.during(field.timed(stretch)).await.context(self.script)?;
        child.stop().await.context(self.script)?;
        Ok(rate)
    }
}

/// The interpreter of the virtual environment, or why there is none.
async fn environment(field: &Field<'_>) -> Result<Result<PathBuf, String>> {
    let place = std::env::current_exe()?;
    // target/<profile>/bench
    let target = place
        .ancestors()
        .nth(2)
        .context("the program lies in no target directory")?;
    let environment = target.join("bench-venv");
    let python = environment.join("bin/python");
    let wanted = scripts().join("requirements.txt");
    let done = environment.join("installed.txt");
    if std::fs::read(&done).ok() == Some(std::fs::read(&wanted)?) {
        return Ok(Ok(python));
    }
    field.say("peers: installing pika, aio-pika and Celery into a virtual environment");
    let mut create = Command::new(&field.python);
    create.args(["-m", "venv"]).arg(&environment);
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--requirement"])
        .arg(&wanted);
    for mut step in [create, install] {
        let ended = timeout(INSTALL, step.kill_on_drop(true).output()).await;
        let failed = match ended {
            Ok(Ok(output)) if output.status.success() => continue,
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
                .to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("not done within {INSTALL:?}"),
        };
        return Ok(Err(format!(
            "the packages of peers/requirements.txt cannot be installed: {failed}"
        )));
    }
    std::fs::copy(&wanted, &done)?;
    Ok(Ok(python))
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}
