//! Many open streams of events: what each costs in memory, and how long an event takes to all of them.
//!
//! The gateway runs in a process of its own (a hidden command of `bench`); the streams are plain connections of this
//! one. Memory is the resident memory of the gateway's process with all streams open, less that without, for each
//! stream: with one envelope that all watch, and with one envelope for each stream. Then one envelope that all watch is
//! reported about, and each stream notes when the event has come.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};

use super::{Outcome, Site, call};
use crate::figures::Row;
use crate::measure::Options;
use crate::meter::as_f64;

/// The name of this section.
pub const SECTION: &str = "gateway-streams";

/// The hidden subcommand of `bench` that runs [`serve`].
pub const SERVER: &str = "gateway-server";

/// Streams that are wanted.
const STREAMS: usize = 10_000;

/// Files that a process has open besides.
const OTHER_FILES: usize = 200;

/// Connections that are opened at a time.
const OPENING: usize = 64;

/// Events that are sent to all streams.
const EVENTS: usize = 20;

/// Longest time for anything.
const PATIENCE: Duration = Duration::from_mins(2);

/// The rows of this section.
pub(super) async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Outcome> {
    let streams = STREAMS.min(allow_files()?.saturating_sub(OTHER_FILES));
    let shared = Gateway::start().await?;
    say(&format!("{SECTION}: {streams} streams of one envelope"));
    let before = shared.resident()?;
    let id = call(&shared.client, &shared.url).await?;
    let mut open = shared.open(streams, |_| id.clone()).await?;
    let each = per_stream(before, shared.resident()?, streams);
    say(&format!("{SECTION}: {EVENTS} events to all of them"));
    let (p50, p99, last) = shared.events(&mut open, &id).await?;
    drop(open);
    shared.stop().await?;

    let own = Gateway::start().await?;
    say(&format!("{SECTION}: {streams} streams of an envelope each"));
    let ids = stream::iter(0..streams).map(|_| call(&own.client, &own.url));
    let ids: Vec<String> = ids.buffer_unordered(OPENING).try_collect().await?;
    let before = own.resident()?;
    let open = own.open(streams, |number| ids[number].clone()).await?;
    let each_own = per_stream(before, own.resident()?, streams);
    drop(open);
    own.stop().await?;

    let named = |name: &str| format!("{name}, {streams} streams");
    let _ = options;
    Ok(Outcome::Measured(vec![
        Row::alone(SECTION, named("memory of a stream, one envelope"), each, "KiB").limit(20.0),
        Row::alone(
            SECTION,
            named("memory of a stream, an envelope each"),
            each_own,
            "KiB",
        )
        .limit(20.0),
        Row::alone(SECTION, named("event to a stream, p50"), p50, "ms"),
        Row::alone(SECTION, named("event to a stream, p99"), p99, "ms"),
        Row::alone(SECTION, named("event to the last stream, median"), last, "ms"),
    ]))
}

/// What the process of its own does: serves until its standard input ends.
pub async fn serve(options: &Options) -> Result<()> {
    allow_files()?;
    let site = Site::start(options).await?;
    writeln!(std::io::stdout(), "{}", site.server.url())?;
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    site.server.close().await;
    Ok(())
}

/// Raises the limit of open files as far as it goes.
fn allow_files() -> Result<usize> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    Ok(limit
        .maximum
        .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX)))
}

fn per_stream(before: u64, after: u64, streams: usize) -> f64 {
    as_f64(after.saturating_sub(before)) / as_f64(streams as u64)
}

/// A gateway in a process of its own.
struct Gateway {
    child: Child,
    stdin: ChildStdin,
    url: String,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Gateway {
    async fn start() -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(SERVER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().context("it is a pipe")?;
        let stdin = child.stdin.take().context("it is a pipe")?;
        let mut url = String::new();
        let reading = BufReader::new(stdout).read_line(&mut url).await;
        reading.context("the gateway does not start")?;
        let url = url.trim().to_owned();
        let address = url
            .trim_start_matches("http://")
            .parse()
            .with_context(|| url.clone())?;
        Ok(Self {
            child,
            stdin,
            url,
            address,
            client: reqwest::Client::new(),
        })
    }

    /// Resident memory in KiB.
    fn resident(&self) -> Result<u64> {
        let pid = self.child.id().context("it has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.context("no VmRSS in its status")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Opens streams and waits until each has had its first bytes of history.
    async fn open(&self, streams: usize, id: impl Fn(usize) -> String) -> Result<Vec<TcpStream>> {
        let opening = stream::iter(0..streams).map(|number| {
            let id = id(number);
            async move {
                let mut connection = TcpStream::connect(self.address).await?;
                let request = format!("GET /envelopes/{id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
                connection.write_all(request.as_bytes()).await?;
                // The first update, that the message was sent, or is about to come.
                read_until(&mut connection, "event: update").await?;
                anyhow::Ok(connection)
            }
        });
        opening.buffer_unordered(OPENING).try_collect().await
    }

    /// Reports about the envelope, and says in ms how long an event took to a stream (p50, p99), and to the last one.
    async fn events(&self, open: &mut [TcpStream], id: &str) -> Result<(f64, f64, f64)> {
        let (mut times, mut lasts) = (Vec::new(), Vec::new());
        for event in 0..EVENTS {
            let mark = format!("event number {event} of many");
            let body = format!(
                r#"{{"actors":["one","two","three"],"current_actor_idx":0,"status":"processing","message":"{mark}"}}"#
            );
            let sent = Instant::now();
            let hearing =
                join_all(open.iter_mut().map(|connection| async {
                    read_until(connection, &mark).await.map(|()| sent.elapsed())
                }));
            let report = self
                .client
                .post(format!("{}/envelopes/{id}/progress", self.url))
                .body(body)
                .send();
            let (heard, answer) = tokio::join!(tokio::time::timeout(PATIENCE, hearing), report);
            ensure!(answer?.status() == 200, "the gateway refuses a report");
            let heard: Result<Vec<_>> = heard.context("an event did not come")?.into_iter().collect();
            let mut heard: Vec<_> = heard?.into_iter().map(|time| time.as_secs_f64() * 1e3).collect();
            heard.sort_unstable_by(f64::total_cmp);
            lasts.push(heard.last().copied().unwrap_or_default());
            times.extend(heard);
        }
        times.sort_unstable_by(f64::total_cmp);
        lasts.sort_unstable_by(f64::total_cmp);
        let at = |times: &[f64], percent: usize| {
            times
                .get((times.len() * percent / 100).min(times.len().saturating_sub(1)))
                .copied()
                .unwrap_or_default()
        };
        Ok((at(&times, 50), at(&times, 99), at(&lasts, 50)))
    }

    async fn stop(mut self) -> Result<()> {
        drop(self.stdin);
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ensure!(
            ended.context("the gateway does not end")??.success(),
            "the gateway failed"
        );
        Ok(())
    }
}

/// Reads until `mark` has come.
async fn read_until(connection: &mut TcpStream, mark: &str) -> Result<()> {
    let mut seen = Vec::new();
    loop {
        let mut buffer = [0; 2048];
        let count = connection.read(&mut buffer).await?;
        if count == 0 {
            bail!(
                "the stream has ended before {mark:?}: {}",
                String::from_utf8_lossy(&seen)
            );
        }
        seen.extend_from_slice(&buffer[..count]);
        if seen.windows(mark.len()).any(|window| window == mark.as_bytes()) {
            return Ok(());
        }
    }
}
