//! Kills a whole pipeline again and again, and counts every message at the end.
//!
//! [`run`] fills the queue of the first of three actors, starts a worker process that runs all three, kills it with
//! SIGKILL at random moments, and starts the next one on the same state directory, until every message has come to
//! the last queue. Then it looks at each of them:
//!
//! - nothing is lost;
//! - nothing is damaged: payload, id and message id are what they have to be;
//! - what came twice carries the same message id both times, and there are at most as many as could have been in
//!   flight when the worker was killed, kills × actors × credit;
//! - no message was given up: error-end and the dead-letter queues are empty.
//!
//! The worker alone touches the queue while it lives and dies, so whatever has to be repaired is repaired by the next
//! worker, as in real life. It is a program that calls [`worker::run`] with what [`worker::Arguments`] read.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use asya_tests::Chance;
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Administration as _, QueueName};
use bytes::Bytes;

mod child;
mod counting;
pub mod line;
pub mod outcome;
pub mod rabbitmq;
pub mod worker;

use child::{Child, Ended};
pub use outcome::Outcome;
use worker::Status;

use crate::meter::as_f64;

/// The three actors, in the order of the route.
pub const ACTORS: [&str; 3] = ["one", "two", "three"];
/// Where the results come to; nobody takes them away.
const RESULTS: &str = "happy-end";
const ERRORS: &str = "error-end";

/// Bytes of one envelope.
const SIZE: usize = 1024;

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Envelopes that go through the three actors.
    pub envelopes: u64,
    /// Mean time between two kills; each is drawn from half to one and a half of it.
    pub kill_every: Duration,
    /// Kills that have to happen. If the work is too quick for that many, some come earlier than drawn.
    pub least_kills: u32,
    /// Longest time for everything.
    pub limit: Duration,
    /// Credit of each sidecar.
    pub credit: usize,
    /// Slots of each sidecar.
    pub slots: usize,
    /// The Python to run the handlers with; without it they are native.
    pub python: Option<PathBuf>,
    /// Where the state lies; a new temporary directory if absent. Must be empty.
    pub state: Option<PathBuf>,
    /// Decides at which moments to kill.
    pub seed: u64,
    /// Program and first arguments of the worker; those of [`worker::Arguments`] are added.
    pub worker: Vec<PathBuf>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Results in the last queue.
    pub results: u64,
    /// Kills so far.
    pub kills: u32,
}

/// Runs the soak; `watch` hears of every change.
///
/// # Errors
/// When it could not be carried out (a worker that ends by itself, a state directory in use). Messages that are lost
/// or damaged are not an error but an [`Outcome`], and so is a limit that has passed.
pub async fn run(options: &Options, watch: &mut dyn FnMut(Progress)) -> Result<Outcome> {
    let temporary = match &options.state {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("asya-soak-").tempdir()?),
    };
    let given = options.state.clone();
    let state = given
        .or(temporary.as_ref().map(|directory| directory.path().to_owned()))
        .context("no state")?;
    submit(options, &state).await?;

    let started = Instant::now();
    let mut soak = Soak {
        options,
        state: &state,
        chance: Chance::new(options.seed),
        kills: 0,
        started,
        watch,
    };
    let finished = soak.work_through().await?;
    let (kills, took) = (soak.kills, started.elapsed());
    let count = counting::count(&state, options.envelopes, body).await?;
    Ok(Outcome::new(options, kills, took, finished, count))
}

/// The n-th envelope.
fn body(number: u64) -> Bytes {
    crate::stage::envelope(number, r#""one","two","three""#, SIZE)
}

/// Declares all queues and puts every envelope into the first.
async fn submit(options: &Options, state: &std::path::Path) -> Result<()> {
    let transport = LocalTransport::open(&worker::queue(state), &LocalOptions::default())?;
    for actor in ACTORS.iter().chain(&[RESULTS, ERRORS]) {
        let queue = QueueName::for_actor(actor);
        transport.declare(&queue).await?;
        let before = transport.depth(&queue).await?.total();
        anyhow::ensure!(
            before == 0,
            "the queue {queue} in {} already holds messages",
            state.display()
        );
    }
    crate::stage::fill(&transport, ACTORS[0], options.envelopes, |number| {
        (format!("soak/{number}"), body(number))
    })
    .await
}

/// A soak under way.
struct Soak<'a> {
    options: &'a Options,
    state: &'a std::path::Path,
    chance: Chance,
    kills: u32,
    started: Instant,
    watch: &'a mut dyn FnMut(Progress),
}

impl Soak<'_> {
    /// Starts worker after worker until all work is done; `false` when the limit has passed before.
    async fn work_through(&mut self) -> Result<bool> {
        loop {
            let left = self.options.limit.saturating_sub(self.started.elapsed());
            let Ok(ended) = tokio::time::timeout(left, self.one_life()).await else {
                return Ok(false);
            };
            if ended? {
                return Ok(true);
            }
            self.kills += 1;
        }
    }

    /// Starts a worker and kills it at some time; `true` if it has done all work before.
    async fn one_life(&mut self) -> Result<bool> {
        let mut child = Child::start(self.options, self.state)?;
        let life = self.options.kill_every.mul_f64(0.5 + self.chance.next());
        // One life in eight is over before it has begun: the time then runs while the worker starts.
        let in_start = self.chance.next() < 0.125;
        let early = self.next_early_kill();
        let mut end = in_start.then(|| Instant::now() + life.min(Duration::from_millis(100)));
        loop {
            let status = tokio::select! {
                status = child.next_status() => status?,
                () = until(end) => {
                    child.kill().await?;
                    return Ok(false);
                }
            };
            let status = match status {
                Ended::Not(status) => status,
                Ended::ByItself(how) => anyhow::bail!("the worker ended by itself, with {how}"),
            };
            end.get_or_insert_with(|| Instant::now() + life);
            (self.watch)(Progress {
                results: status.results,
                kills: self.kills,
            });
            if status.waiting == 0 {
                child.finish().await?;
                return Ok(true);
            }
            if early.is_some_and(|results| status.results >= results) {
                child.kill().await?;
                return Ok(false);
            }
        }
    }

    /// The number of results at which the next kill is due, whatever the time: so that the least number of kills
    /// spreads over the work.
    fn next_early_kill(&mut self) -> Option<u64> {
        let (done, least) = (f64::from(self.kills), f64::from(self.options.least_kills));
        (done < least).then(|| {
            let share = (done + self.chance.next()) / (least + 1.0);
            crate::meter::hops_in(as_f64(self.options.envelopes) * share, Duration::from_secs(1)).max(1)
        })
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}
