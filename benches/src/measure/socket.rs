//! One call of the Python runtime over v1, beside a bare Python echo with the same JSON work behind the same Rust
//! client.
//!
//! Two placements: client and server pinned to a core each, so that the scheduler's choice is out of the picture, and
//! both free, as they are in real life. Calls are made one after the other; the figure is the median call.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use asya_runtime_protocol::{DEFAULT_MAX_FRAME, Reply, RuntimeClient};
use bytes::Bytes;

use super::Options;
use super::place::Placement;
use crate::figures::Row;
use crate::python::{Script, Server, resolve};
use crate::stage::envelope;

/// The name of this section.
pub const SECTION: &str = "socket";

/// Sizes of the request in bytes, with their name.
const SIZES: [(usize, &str); 2] = [(1024, "1 KiB"), (64 * 1024, "64 KiB")];
/// Longest time for one call.
const CALL: Duration = Duration::from_secs(10);
/// Calls before the first round.
const WARM: usize = 200;
/// Calls whose times are looked at together before the clock is asked whether the stretch is over.
const BATCH: usize = 50;

/// The rows of this section.
pub fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let python = resolve(&options.python)?;
    let mut rows = Vec::new();
    for placement in Placement::all()? {
        say(&format!(
            "socket: {placement}, {} rounds for each size",
            options.rounds
        ));
        rows.extend(placement.run(async || compare(placement, options, &python).await)?);
    }
    Ok(rows)
}

async fn compare(placement: Placement, options: &Options, python: &Path) -> Result<Vec<Row>> {
    let directory = tempfile::Builder::new().prefix("asya-bench-").tempdir()?;
    let start = async |script, name| {
        Server::start(script, python, &directory.path().join(name), placement.server()).await
    };
    let ours = start(Script::ECHO, "ours").await?;
    let bare = start(Script::BareEcho, "bare").await?;
    let [ours, bare] =
        [ours.socket(), bare.socket()].map(|socket| RuntimeClient::new(socket, DEFAULT_MAX_FRAME));
    let mut rows = Vec::new();
    for (size, name) in SIZES {
        let request = structured(size);
        for client in [&ours, &bare] {
            check(client, &request).await?;
            calls(client, &request, |count, _| count < WARM).await?;
        }
        let (mut our_times, mut bare_times) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            let mut turns = [(&ours, &mut our_times), (&bare, &mut bare_times)];
            if round % 2 == 1 {
                turns.reverse();
            }
            for (client, times) in turns {
                times.push(calls(client, &request, |_, time| time < options.stretch / 2).await?);
            }
        }
        let name = format!("call with {name}, {placement}");
        let row = Row::times(SECTION, name, "us", &our_times, ("bare Python echo", &bare_times));
        rows.push(if placement == Placement::Pinned {
            row.aim(0.9)
        } else {
            row
        });
    }
    Ok(rows)
}

/// The median time of calls in µs, made as long as `more` says so of their number and of the time that has passed.
async fn calls(
    client: &RuntimeClient,
    request: &Bytes,
    more: impl Fn(usize, Duration) -> bool,
) -> Result<f64> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while more(times.len(), begun.elapsed()) {
        for _ in 0..BATCH {
            let called = Instant::now();
            client.call(request.clone(), CALL).await?;
            times.push(called.elapsed());
        }
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).context("no call was made")?;
    Ok(median.as_secs_f64() * 1e6)
}

/// Whether the server gives back what it gets; an error is answered fast, too.
async fn check(client: &RuntimeClient, request: &Bytes) -> Result<()> {
    let answer = client.call(request.clone(), CALL).await?;
    let items = Reply::parse(answer).map_err(|error| anyhow!("not an answer: {error}"))?;
    ensure!(
        matches!(&items[..], [item] if !matches!(item, asya_runtime_protocol::ReplyItem::Error { .. })),
        "the echo answered with an error"
    );
    Ok(())
}

/// An envelope of about `size` bytes whose payload is a list of small records, as JSON in real life is.
pub(super) fn structured(size: usize) -> Bytes {
    let record =
        r#"{"id":48213,"name":"section","score":0.8125,"tags":["text","en"],"done":false,"next":null}"#;
    let records = vec![record; (size / (record.len() + 1)).max(1)].join(",");
    let empty = envelope(0, r#""work""#, 0);
    let head = String::from_utf8_lossy(&empty).replace(r#""text":"""#, &format!(r#""records":[{records}]"#));
    Bytes::from(head)
}
