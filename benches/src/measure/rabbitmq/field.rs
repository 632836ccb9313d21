//! What the sections on RabbitMQ share: the node, the program, and one round of each party.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use asya_runtime_protocol::SOCKET_NAME;
use tempfile::TempDir;

use crate::broker::bare::Bare;
use crate::broker::{Echo, Kind, Node, sidecar};
use crate::measure::Options;
use crate::meter::hops_in;
use crate::python::{Script, Server, resolve};

/// Bytes of one message.
pub const SIZE: usize = 1024;
/// Messages of the run that finds out how many a stretch needs, for each one in hand; and the fewest and the most.
const PILOT: (u64, u64, u64) = (100, 400, 10_000);

/// The place where all compete.
pub struct Field<'a> {
    /// How thoroughly to measure.
    pub options: &'a Options,
    say: &'a dyn Fn(&str),
    /// The broker.
    pub node: Node,
    /// The sidecar.
    pub program: PathBuf,
    /// The interpreter.
    pub python: PathBuf,
}

/// A queue and how much of it may be in hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// The queue.
    pub kind: Kind,
    /// Messages in hand.
    pub prefetch: u16,
}

/// What a sidecar calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// An echo with the runtime library.
    Native,
    /// The Python runtime with an echo as handler.
    Python,
    /// An echo in Python without anything of ours.
    BarePython,
}

/// How many messages pass before the stretch that counts, in it, and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Until all have found their pace.
    pub warm: u64,
    /// That count.
    pub counted: u64,
    /// So that the last one that counts moves under load too.
    pub after: u64,
}

impl Stretch {
    /// Of `counted` messages with up to `prefetch` in hand.
    #[must_use]
    pub fn of(counted: u64, prefetch: u16) -> Self {
        let held = u64::from(prefetch);
        Self {
            warm: (counted / 4).max(2 * held),
            counted,
            after: 2 * held,
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(self) -> u64 {
        self.warm + self.counted + self.after
    }
}

/// A runtime that runs.
enum Running {
    Native(Echo),
    Python(Server),
}

impl Running {
    fn stop(self) -> Result<()> {
        match self {
            Self::Native(echo) => echo.stop(),
            // Killed when dropped; it has nothing to say at the end.
            Self::Python(server) => {
                drop(server);
                Ok(())
            }
        }
    }
}

impl<'a> Field<'a> {
    /// Starts a node and finds the programs.
    pub async fn open(options: &'a Options, say: &'a dyn Fn(&str)) -> Result<Self> {
        say("rabbitmq: building asya-sidecar");
        let program = sidecar::program(options.sidecar.as_deref()).await?;
        say("rabbitmq: starting a node");
        Ok(Self {
            options,
            say,
            node: Node::start().await?,
            program,
            python: resolve(&options.python)?,
        })
    }

    /// How many rounds: each takes seconds here, since the queue is filled for it.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.options.rounds.div_ceil(2)
    }

    /// Tells what is going on.
    pub fn say(&self, text: &str) {
        (self.say)(text);
    }

    /// A directory for one round.
    pub fn directory(&self) -> Result<TempDir> {
        let made = tempfile::Builder::new().prefix("asya-bench-").tempdir();
        made.context("cannot make a directory")
    }

    /// How many messages the bare loop moves in a stretch; the same number is given to all.
    pub async fn stretch(&self, shape: Shape) -> Result<Stretch> {
        let (each, fewest, most) = PILOT;
        let pilot = (each * u64::from(shape.prefetch)).clamp(fewest, most);
        let rate = self.bare(shape, Stretch::of(pilot, shape.prefetch), None).await?;
        let counted = hops_in(rate, self.options.stretch).max(pilot / 2);
        Ok(Stretch::of(counted, shape.prefetch))
    }

    /// Hops per second of the bare loop; with a runtime, which it calls for each message.
    pub async fn bare(&self, shape: Shape, stretch: Stretch, runtime: Option<Runtime>) -> Result<f64> {
        let directory = self.directory()?;
        let running = match runtime {
            Some(runtime) => Some(self.runtime(runtime, &directory).await?),
            None => None,
        };
        let socket = runtime.map(|_| directory.path().join(SOCKET_NAME));
        self.node.fill(shape.kind, stretch.total(), SIZE).await?;
        let bare = Bare::start(self.node.url(), shape.prefetch, socket);
        let rate = self.timed(stretch).await.context("the bare loop")?;
        bare.stop()?;
        self.node.check_moved(stretch.total()).await?;
        running.map_or(Ok(()), Running::stop)?;
        Ok(rate)
    }

    /// Hops per second of the sidecar.
    pub async fn sidecar(
        &self,
        kind: Kind,
        prefetch: Option<u16>,
        runtime: Runtime,
        settings: &[(&str, &str)],
        stretch: Stretch,
    ) -> Result<f64> {
        let directory = self.directory()?;
        let running = self.runtime(runtime, &directory).await?;
        self.node.fill(kind, stretch.total(), SIZE).await?;
        let prefetch = prefetch.map(|prefetch| prefetch.to_string());
        let mut settings = settings.to_vec();
        settings.extend(
            prefetch
                .as_deref()
                .map(|prefetch| ("ASYA_RABBITMQ_PREFETCH", prefetch)),
        );
        let mut sidecar = sidecar::start(&self.program, &self.node, directory.path(), &settings)?;
        let rate = sidecar.during(self.timed(stretch)).await?;
        sidecar.stop().await?;
        self.node.check_moved(stretch.total()).await?;
        running.stop()?;
        Ok(rate)
    }

    /// The speed over the stretch; returns when everything has arrived.
    pub async fn timed(&self, stretch: Stretch) -> Result<f64> {
        let rate = self
            .node
            .rate(stretch.warm, stretch.warm + stretch.counted)
            .await?;
        self.node.reached(stretch.total()).await?;
        Ok(rate)
    }

    async fn runtime(&self, runtime: Runtime, directory: &TempDir) -> Result<Running> {
        let script = match runtime {
            Runtime::Native => {
                return Ok(Running::Native(
                    Echo::start(directory.path(), Duration::ZERO).await?,
                ));
            }
            Runtime::Python => Script::ECHO,
            Runtime::BarePython => Script::BareEcho,
        };
        Ok(Running::Python(
            Server::start(script, &self.python, directory.path(), None).await?,
        ))
    }
}
