//! A persistent connection of v2 with an echo in Python, beside v1 and beside a bare loop in Python.
//!
//! One process of the runtime serves both protocols. As many calls are under way over v1, a connection each, as there
//! are requests written ahead over v2. The bare loop takes the frames of v2 from the same client and only reads,
//! decodes, encodes and writes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use asya_runtime_protocol::v2::{Advert, WorkerId, WorkerLink};
use asya_runtime_protocol::{DEFAULT_MAX_FRAME, RuntimeClient};
use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::timeout;

use super::client::{self, Links, PATIENCE};
use crate::figures::Row;
use crate::measure::Options;
use crate::measure::place::Placement;
use crate::measure::socket::structured;
use crate::meter::as_f64;
use crate::python::{Script, Server, resolve};
use crate::stage::envelope;

/// The name of this section.
pub const SECTION: &str = "runtime";

const KIB: usize = 1024;
/// What a stretch is divided by, so that all comparisons together take about a minute.
const PART: u32 = 5;

/// What is sent: the price of a connection shows where the JSON is cheap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// One long string.
    Text,
    /// A list of small records.
    Records,
}

/// A request, and how many of them are under way at once.
#[derive(Debug, Clone, Copy)]
struct Case {
    size: usize,
    content: Content,
    depths: &'static [usize],
}

const CASES: [Case; 3] = [
    Case {
        size: KIB,
        content: Content::Text,
        depths: &[1, 8, 32],
    },
    Case {
        size: KIB,
        content: Content::Records,
        depths: &[1, 8, 32],
    },
    Case {
        size: 64 * KIB,
        content: Content::Records,
        depths: &[1, 8],
    },
];

impl Case {
    fn request(self) -> Bytes {
        match self.content {
            Content::Text => envelope(0, r#""work""#, self.size),
            Content::Records => structured(self.size),
        }
    }
}

/// The rows of this section.
pub fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let python = resolve(&options.python)?;
    let mut rows = Vec::new();
    for placement in Placement::all()? {
        say(&format!(
            "runtime: echo, {placement}, {} rounds each",
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
    let runtime = start(Script::ECHO, "runtime").await?;
    let bare = start(Script::BareLoop, "bare").await?;
    let mut parties = Parties {
        first: RuntimeClient::new(runtime.socket(), DEFAULT_MAX_FRAME),
        second: Links::open(runtime.directory()).await?,
        bare: bare_link(&bare).await?,
    };
    let mut rows = Vec::new();
    for case in CASES {
        let request = case.request();
        for depth in case.depths {
            let rates = parties.rounds(&request, *depth, options).await?;
            rows.extend(rates.rows(case, *depth, placement));
        }
    }
    Ok(rows)
}

/// A link to the bare loop, which has no control connection and does not look at nonces.
async fn bare_link(bare: &Server) -> Result<WorkerLink> {
    let advert = Advert {
        socket: bare.socket(),
        nonce: "00000000".into(),
    };
    let only = WorkerId {
        worker: 0,
        incarnation: 1,
    };
    let link = WorkerLink::connect(&advert, only, DEFAULT_MAX_FRAME, PATIENCE).await;
    link.context("the bare loop")
}

/// Who is compared.
struct Parties {
    first: RuntimeClient,
    second: Links,
    bare: WorkerLink,
}

#[derive(Debug, Clone, Copy)]
enum Party {
    First,
    Second,
    Bare,
}

/// Calls per second, by round.
#[derive(Debug, Default)]
struct Rates {
    first: Vec<f64>,
    second: Vec<f64>,
    bare: Vec<f64>,
}

impl Parties {
    async fn rounds(&mut self, request: &Bytes, depth: usize, options: &Options) -> Result<Rates> {
        client::check(self.first.call(request.clone(), PATIENCE).await?)?;
        client::call(self.second.only()?, request).await?;
        client::call(&mut self.bare, request).await?;
        let mut rates = Rates::default();
        let mut turns = [Party::First, Party::Second, Party::Bare];
        let stretch = options.stretch / PART;
        for party in turns {
            self.rate(party, request, depth, stretch / 2).await?;
        }
        for _ in 0..options.rounds {
            for party in turns {
                let rate = self.rate(party, request, depth, stretch).await?;
                rates.of(party).push(rate);
            }
            turns.reverse();
        }
        Ok(rates)
    }

    async fn rate(&mut self, party: Party, request: &Bytes, depth: usize, time: Duration) -> Result<f64> {
        match party {
            Party::First => {
                let calling = connecting(&self.first, request, depth, time);
                timeout(time + PATIENCE, calling).await.context("v1 is stuck")?
            }
            Party::Second => client::rate(self.second.only()?, request, depth, time).await,
            Party::Bare => client::rate(&mut self.bare, request, depth, time).await,
        }
    }
}

impl Rates {
    fn of(&mut self, party: Party) -> &mut Vec<f64> {
        match party {
            Party::First => &mut self.first,
            Party::Second => &mut self.second,
            Party::Bare => &mut self.bare,
        }
    }

    fn rows(&self, case: Case, depth: usize, placement: Placement) -> [Row; 2] {
        let content = match case.content {
            Content::Text => "text",
            Content::Records => "records",
        };
        let depth = match depth {
            1 => "one by one".into(),
            _ => format!("{depth} under way"),
        };
        let name = format!("{} KiB of {content}, {depth}, {placement}", case.size / KIB);
        let times = Row::rates(
            SECTION,
            name,
            &self.second,
            ("v1, a connection each", &self.first),
        );
        let bare = Row::rates(
            SECTION,
            "  the same",
            &self.second,
            ("bare Python loop", &self.bare),
        );
        [
            if case.size == KIB { times.aim(2.0) } else { times },
            if placement == Placement::Pinned {
                bare.aim(0.85)
            } else {
                bare
            },
        ]
    }
}

/// Calls per second over v1 with `depth` of them at once. All are answered at the end.
async fn connecting(client: &RuntimeClient, request: &Bytes, depth: usize, time: Duration) -> Result<f64> {
    let call = || client.call(request.clone(), PATIENCE);
    let (begun, mut answered) = (Instant::now(), 0);
    let mut calls: FuturesUnordered<_> = std::iter::repeat_with(call).take(depth).collect();
    let mut took = None;
    while let Some(answer) = calls.next().await {
        answer?;
        if took.is_some() {
            continue;
        }
        answered += 1;
        let passed = begun.elapsed();
        if passed < time {
            calls.push(call());
        } else {
            took = Some(passed);
        }
    }
    Ok(as_f64(answered) / took.context("no call was made")?.as_secs_f64())
}
