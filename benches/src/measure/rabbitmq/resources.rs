//! What a sidecar process needs when it has nothing to do, when it is full, and how soon it begins.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::field::{Field, SIZE};
use crate::broker::{Child, Echo, Kind, Processor, STEP, sidecar};
use crate::figures::Row;
use crate::meter::as_f64;

/// The name of this section.
pub const SECTION: &str = "resources";

const MIB: usize = 1024 * 1024;
/// Messages of 1 MiB that a full sidecar holds, as a setting.
const HELD: (u64, &str) = (100, "100");
/// Milliseconds of processor time in a second that count as none: half a percent of one core.
const IDLE: f64 = 5.0;
/// How long an idle process is watched.
const WATCHED: Duration = Duration::from_secs(4);
/// Time until everything that a start brings with it is over.
const CALM: Duration = Duration::from_secs(3);
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// The rows of this section.
pub async fn measure(field: &Field<'_>) -> Result<Vec<Row>> {
    let mut rows = idle(field).await?;
    rows.push(full(field).await?);
    rows.push(moving(field).await?);
    rows.extend(starts(field).await?);
    Ok(rows)
}

/// An idle sidecar: memory, processor time and wake-ups.
async fn idle(field: &Field<'_>) -> Result<Vec<Row>> {
    field.say("resources: idle");
    let directory = field.directory()?;
    let echo = Echo::start(directory.path(), Duration::ZERO).await?;
    field.node.fill(Kind::Classic, 1, SIZE).await?;
    let mut sidecar = sidecar::start(&field.program, &field.node, directory.path(), &[])?;
    // It has run once, so nothing is left to be set up.
    sidecar.during(field.node.reached(1)).await?;
    tokio::time::sleep(CALM).await;
    let (before, begun) = (sidecar.processor()?, Instant::now());
    tokio::time::sleep(WATCHED).await;
    let (used, watched) = (sidecar.processor()?.since(before), begun.elapsed().as_secs_f64());
    let memory = sidecar.usage()?;
    sidecar.stop().await?;
    echo.stop()?;
    let Processor { time, sleeps } = used;
    Ok(vec![
        Row::alone(SECTION, "idle sidecar process", mib(memory.now), "MiB"),
        Row::alone(
            SECTION,
            "  processor time per second",
            time.as_secs_f64() * 1e3 / watched,
            "ms",
        )
        .limit(IDLE),
        Row::alone(
            SECTION,
            "  wake-ups of its threads",
            as_f64(sleeps) / watched,
            "/s",
        ),
    ])
}

/// A sidecar that holds as much as it may, with a handler that does not return.
async fn full(field: &Field<'_>) -> Result<Row> {
    let (held, prefetch) = HELD;
    field.say(&format!("resources: {held} messages of 1 MiB in hand"));
    let directory = field.directory()?;
    let echo = Echo::start(directory.path(), PATIENCE * 2).await?;
    field.node.fill(Kind::Classic, held + 10, MIB).await?;
    let settings = [("ASYA_RABBITMQ_PREFETCH", prefetch)];
    let mut sidecar = sidecar::start(&field.program, &field.node, directory.path(), &settings)?;
    sidecar.during(emptied_to(field, 10)).await?;
    let memory = settled(&sidecar).await?;
    // Nothing that it holds can end: it is killed, and the broker has its messages again.
    drop(sidecar);
    echo.stop()?;
    let per = mib(memory) / as_f64(held);
    Ok(Row::alone(
        SECTION,
        format!("sidecar with {held} bodies of 1 MiB in hand"),
        mib(memory),
        "MiB",
    )
    .beside("MiB for each of them", per, "MiB"))
}

/// The most that a sidecar needs while it moves large messages, all defaults.
async fn moving(field: &Field<'_>) -> Result<Row> {
    const COUNT: u64 = 150;
    field.say("resources: moving messages of 1 MiB");
    let directory = field.directory()?;
    let echo = Echo::start(directory.path(), Duration::ZERO).await?;
    field.node.fill(Kind::Classic, COUNT, MIB).await?;
    let mut sidecar = sidecar::start(&field.program, &field.node, directory.path(), &[])?;
    sidecar.during(field.node.reached(COUNT)).await?;
    let memory = sidecar.usage()?;
    sidecar.stop().await?;
    echo.stop()?;
    let name = format!("most while moving {COUNT} bodies of 1 MiB, all defaults");
    Ok(Row::alone(SECTION, name, mib(memory.peak), "MiB"))
}

/// How soon the handler is called for the first time.
async fn starts(field: &Field<'_>) -> Result<Vec<Row>> {
    let (mut whole, mut waiting) = (Vec::new(), Vec::new());
    for round in 0..field.rounds() {
        field.say(&format!("resources: starts, round {}", round + 1));
        whole.push(start_with_runtime(field).await?);
        waiting.push(runtime_after_start(field).await?);
    }
    let row = |name: &str, times: &[f64]| Row::median(SECTION, name, times, "ms").limit(100.0);
    Ok(vec![
        row("start of the process to the first call, runtime ready", &whole),
        row("runtime ready to the first call, process waiting", &waiting),
    ])
}

/// Milliseconds from the start of the process to the first call.
async fn start_with_runtime(field: &Field<'_>) -> Result<f64> {
    let directory = field.directory()?;
    let echo = Echo::start(directory.path(), Duration::ZERO).await?;
    field.node.fill(Kind::Classic, 1, SIZE).await?;
    let started = Instant::now();
    let sidecar = sidecar::start(&field.program, &field.node, directory.path(), &[])?;
    called(field, started, echo, sidecar).await
}

/// Milliseconds from the moment when the runtime is ready to the first call, with a sidecar that waits for it.
async fn runtime_after_start(field: &Field<'_>) -> Result<f64> {
    let directory = field.directory()?;
    field.node.fill(Kind::Classic, 1, SIZE).await?;
    let sidecar = sidecar::start(&field.program, &field.node, directory.path(), &[])?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let starting = Instant::now();
    let echo = Echo::start(directory.path(), Duration::ZERO).await?;
    called(field, starting, echo, sidecar).await
}

async fn called(field: &Field<'_>, since: Instant, echo: Echo, mut sidecar: Child) -> Result<f64> {
    sidecar.during(field.node.reached(1)).await?;
    let first = echo.first_call().context("the echo was not called")?;
    sidecar.stop().await?;
    echo.stop()?;
    Ok(first.duration_since(since).as_secs_f64() * 1e3)
}

/// Waits until only `left` messages wait.
async fn emptied_to(field: &Field<'_>, left: u64) -> Result<()> {
    let begun = Instant::now();
    while field.node.depth(STEP).await? > left {
        ensure!(
            begun.elapsed() < PATIENCE,
            "the sidecar does not take what it may hold"
        );
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Its memory once that does not grow any more.
async fn settled(sidecar: &Child) -> Result<u64> {
    let (begun, mut last) = (Instant::now(), 0);
    loop {
        let now = sidecar.usage()?.now;
        if now <= last {
            return Ok(now);
        }
        ensure!(begun.elapsed() < PATIENCE, "its memory keeps growing");
        last = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn mib(kib: u64) -> f64 {
    as_f64(kib) / 1024.0
}
