//! Time from `asya run` to the first handler call, beside the start of a bare interpreter.
//!
//! Both ends of the time are outside of `asya`: we note when we start the process, the handler writes down when it is
//! called. What stands beside is a Python that only imports `json` and `socket`, measured in the same way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::{Options, Outcome};
use crate::figures::Row;
use crate::python::resolve;

/// The name of this section.
pub const SECTION: &str = "start";

/// Starts in one run; each takes a fraction of a second.
const ROUNDS: usize = 9;
/// Longest time for one start.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest time for building `asya`.
const BUILD: Duration = Duration::from_mins(20);

const MANIFEST: &str = "\
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata:
  name: stamp
spec:
  transport: rabbitmq
  workload:
    kind: Deployment
    template:
      spec:
        containers:
          - name: asya-runtime
            image: python:3.12-slim
            env:
              - name: ASYA_HANDLER
                value: stamp.stamp
";

const HANDLER: &str = "\
import os
import time


def stamp(payload):
    now = time.time_ns()
    with open(os.path.join(os.path.dirname(__file__), 'stamp.txt'), 'w') as file:
        file.write(str(now))
    return payload
";

const BARE: &str = "import json, socket, time; print(time.time_ns())";

/// The row of this section.
pub async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Outcome> {
    let asya = match find(options, say).await? {
        Ok(asya) => asya,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let python = resolve(&options.python)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        say(&format!("start: round {round} of {ROUNDS}"));
        ours.push(to_first_call(&asya, &python, options).await?);
        bare.push(to_first_line(&python).await?);
    }
    let name = "asya run to the first handler call";
    Ok(Outcome::Measured(vec![Row::times(
        SECTION,
        name,
        "ms",
        &ours,
        ("start of a bare python3", &bare),
    )]))
}

/// The program, or why there is none.
async fn find(options: &Options, say: &dyn Fn(&str)) -> Result<Result<PathBuf, String>> {
    if let Some(asya) = &options.asya {
        ensure!(asya.is_file(), "there is no program {}", asya.display());
        return Ok(Ok(asya.canonicalize()?));
    }
    let here = std::env::current_exe()?;
    let asya = here.with_file_name("asya");
    // Set when we were started by cargo, which then is at hand to bring the program up to date.
    if let Some(cargo) = std::env::var_os("CARGO") {
        say("start: building asya");
        let mut build = Command::new(cargo);
        build
            .args(["build", "--quiet", "--package", "asya"])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let output = output(&mut build, BUILD).await?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let first = errors
                .lines()
                .find(|line| line.starts_with("error"))
                .unwrap_or_default();
            return Ok(Err(format!(
                "asya cannot be built: cargo ended with {}: {first}",
                output.status
            )));
        }
    }
    if asya.is_file() {
        return Ok(Ok(asya));
    }
    Ok(Err(format!(
        "there is no {}; build it with `cargo build --release -p asya`, or set ASYA_BIN",
        asya.display()
    )))
}

/// Milliseconds from starting `asya run` until its handler is called.
async fn to_first_call(asya: &Path, python: &Path, options: &Options) -> Result<f64> {
    let directory = tempfile::Builder::new()
        .prefix("asya-bench-")
        .tempdir_in(&options.directory)?;
    let path = directory.path();
    fs::write(path.join("actors.yaml"), MANIFEST)?;
    fs::write(path.join("stamp.py"), HANDLER)?;
    let started = now()?;
    let mut run = Command::new(asya);
    run.arg("run")
        .arg(path)
        .args(["--input", "{}", "--timeout", "50s"])
        .env("ASYA_PYTHON", python);
    run.env_remove("ASYA_STATE_DIR");
    let output = output(&mut run, PATIENCE).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "asya run ended with {}:\n{errors}",
        output.status
    );
    let stamp = fs::read_to_string(path.join("stamp.txt")).context("the handler was not called")?;
    milliseconds(started, &stamp)
}

/// Milliseconds from starting a bare interpreter until its first line runs.
async fn to_first_line(python: &Path) -> Result<f64> {
    let started = now()?;
    let output = output(Command::new(python).args(["-c", BARE]), PATIENCE).await?;
    ensure!(
        output.status.success(),
        "{} ended with {}",
        python.display(),
        output.status
    );
    milliseconds(started, &String::from_utf8(output.stdout)?)
}

async fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    let name = command.as_std().get_program().to_owned();
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let ended = tokio::time::timeout(limit, running).await;
    ended
        .with_context(|| format!("{} did not end in {limit:?}", name.display()))?
        .with_context(|| format!("cannot run {}", name.display()))
}

/// The wall clock, since that is the one that both processes can read.
fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

fn milliseconds(started: Duration, stamp: &str) -> Result<f64> {
    let stamp = Duration::from_nanos(stamp.trim().parse().context("not a time stamp")?);
    let time = stamp
        .checked_sub(started)
        .context("the clock was set back during the measurement")?;
    Ok(time.as_secs_f64() * 1e3)
}
