//! The process that is killed: three actors on one embedded queue, in one process.
//!
//! It writes one line of JSON ([`Status`]) to standard output each time it has counted, and ends in an orderly way
//! when its standard input is closed, so that it does not outlive whoever started it.

use std::io::{Read as _, Write as _, stdin, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use asya_sidecar::{Config, Credit, Role, Sidecar};
use asya_transport::QueueName;
use asya_transport::local::{LocalOptions, LocalTransport};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::{ACTORS, RESULTS};
use crate::python::{Script, Server};
use crate::stage::Echo;

/// Pause between two counts.
const COUNT: Duration = Duration::from_millis(50);
/// Longest wait for a runtime, and for calls to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the worker is told on its command line.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// State directory
    #[arg(long)]
    pub state: PathBuf,
    /// Credit of each sidecar
    #[arg(long)]
    pub credit: usize,
    /// Slots of each sidecar
    #[arg(long)]
    pub slots: usize,
    /// Run the echo in Python
    #[arg(long)]
    pub python: Option<PathBuf>,
}

/// What the worker says about the queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Status {
    /// Messages that the three actors still have to do with.
    pub(super) waiting: u64,
    /// Messages in the last queue.
    pub(super) results: u64,
}

/// Where the queue lies in a state directory.
pub(super) fn queue(state: &Path) -> PathBuf {
    state.join("queue")
}

/// Works until standard input is closed.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let closed = stdin_closed();
    let transport = LocalTransport::open(&queue(&arguments.state), &LocalOptions::default())?;
    let mut actors = Vec::new();
    for actor in ACTORS {
        actors.push(
            Actor::start(actor, arguments, &transport)
                .await
                .with_context(|| format!("actor {actor}"))?,
        );
    }
    tokio::select! {
        never = report(&transport) => never?,
        cause = any_failed(&actors) => return Err(anyhow!("a sidecar gave up: {cause}")),
        _ = closed => {}
    }
    for actor in actors {
        actor.stop().await?;
    }
    Ok(())
}

/// Resolves when nobody holds the other end any more. A thread, because a read of standard input cannot be cancelled.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // An error ends it as well as the end of the input.
        let _ended = stdin().lock().read_to_end(&mut Vec::new());
        let _already_gone = sender.send(());
    });
    receiver
}

async fn report(transport: &LocalTransport) -> Result<()> {
    let results = QueueName::for_actor(RESULTS);
    let actors = ACTORS.map(QueueName::for_actor);
    loop {
        let mut status = Status {
            waiting: 0,
            results: 0,
        };
        for (queue, depth) in transport.depths().await? {
            if queue == results {
                status.results = depth.total();
            } else if actors.contains(&queue) {
                status.waiting += depth.total();
            }
        }
        // Fails when the reader has gone, and then it is time to end.
        writeln!(stdout(), "{}", serde_json::to_string(&status)?)?;
        tokio::time::sleep(COUNT).await;
    }
}

async fn any_failed(actors: &[Actor]) -> String {
    let failures = actors.iter().map(|actor| Box::pin(actor.sidecar.failed()));
    futures::future::select_all(failures).await.0
}

/// One actor: a handler and its sidecar.
struct Actor {
    sidecar: Sidecar,
    handler: Handler,
}

enum Handler {
    Native(Echo),
    Python(Server),
}

impl Actor {
    async fn start(actor: &str, arguments: &Arguments, transport: &LocalTransport) -> Result<Self> {
        let mut config = Config::new(actor, Role::Step);
        config.socket_dir = arguments.state.join(actor);
        config.credit = Credit::Fixed(arguments.credit);
        config.slots = arguments.slots;
        let handler = match &arguments.python {
            Some(python) => {
                Handler::Python(Server::start(Script::ECHO, python, &config.socket_dir, None).await?)
            }
            None => Handler::Native(Echo::start(&config.socket_dir, arguments.slots, None)),
        };
        let sidecar = Sidecar::builder(config, Arc::new(transport.clone()))
            .start()
            .await?;
        tokio::time::timeout(PATIENCE, sidecar.ready())
            .await
            .context("its runtime is not ready")?;
        Ok(Self { sidecar, handler })
    }

    async fn stop(self) -> Result<()> {
        self.sidecar.drain(PATIENCE).await;
        match self.handler {
            Handler::Native(echo) => echo.stop().await,
            Handler::Python(server) => {
                drop(server);
                Ok(())
            }
        }
    }
}
