//! The runtime's end of both protocols, for handlers written in Rust.
//!
//! Implement [`Handler`], describe the socket with [`ServerOptions`], run [`serve`]. The server reads and answers
//! connections side by side, but runs at most [`ServerOptions::concurrency`] handlers at a time, whichever protocol
//! they were called over.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use crate::frame::DEFAULT_MAX_FRAME;
use crate::name::SocketPathTooLong;
use crate::ready::SOCKET_NAME;

mod answer;
mod files;
mod handler;
mod run;
mod v1;
mod v2;

use files::Listening;
pub use handler::{EnvelopeItem, Handler, HandlerError, HandlerItem, RequestEnvelope};
use run::Runner;
use v2::{Arbiter, Phase};

/// Pause after a failed accept, and how many in a row end the server.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_FAILURES: u32 = 100;

/// Which protocols a server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocols {
    /// Both (PROTOCOL.md). Where the path of the second socket is too long for a socket address, v1 only.
    #[default]
    V1AndV2,
    /// As runtimes did before there was v2.
    V1Only,
}

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Directory of sockets and ready file; made if missing.
    pub socket_dir: PathBuf,
    /// Name of the socket in it (default [`SOCKET_NAME`]). That of protocol v2 has `.v2` behind it.
    pub socket_name: String,
    /// Mode bits of the sockets (default `0o666`); `None` leaves what the umask gives.
    pub chmod: Option<u32>,
    /// Longest request and longest answer in bytes (default [`DEFAULT_MAX_FRAME`]).
    pub max_frame: usize,
    /// Handlers that run at the same time (default 1, as the original).
    pub concurrency: NonZeroUsize,
    /// Whether envelopes are checked on the way in and out (contract §6.4, §6.6; default yes).
    pub validation: bool,
    /// How long a peer may take to send its request, and to take its answer (default 30 s each).
    pub io_timeout: Duration,
    /// The protocols (default both).
    pub protocols: Protocols,
    /// v2: the time that clients are told to give a cancelled request before they have it killed (default 5 s).
    pub cancel_grace: Duration,
    /// v2: how long to serve on after `shutdown` for the client's goodbye, or the file `sidecar-drained` in the
    /// socket directory (default 0: not at all).
    pub shutdown_grace: Duration,
}

impl ServerOptions {
    /// The defaults, in `socket_dir`.
    pub fn new(socket_dir: impl Into<PathBuf>) -> Self {
        Self {
            socket_dir: socket_dir.into(),
            socket_name: SOCKET_NAME.to_owned(),
            chmod: Some(0o666),
            max_frame: DEFAULT_MAX_FRAME,
            concurrency: NonZeroUsize::MIN,
            validation: true,
            io_timeout: Duration::from_secs(30),
            protocols: Protocols::default(),
            cancel_grace: Duration::from_secs(5),
            shutdown_grace: Duration::ZERO,
        }
    }

    /// The socket's path.
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(&self.socket_name)
    }
}

/// Why a server could not start or go on.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The path does not fit into a socket address.
    #[error(transparent)]
    PathTooLong(#[from] SocketPathTooLong),
    /// The files around the socket could not be made.
    #[error("cannot {action} {}: {source}", path.display())]
    Files {
        /// What was tried, for example `bind`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Accepting connections failed again and again.
    #[error("cannot accept connections: {0}")]
    Accept(#[source] std::io::Error),
}

/// Serves `handler` until `shutdown` ends.
///
/// Listens, then writes the ready file. At shutdown a client of protocol v2 gets the time to drain that
/// [`ServerOptions::shutdown_grace`] allows. Then sockets and ready file are removed, so that nobody new comes;
/// connections that were already made are accepted and answered, what runs for v2 is answered too, then it returns.
/// Dropping the future ends everything at once and removes the files too.
///
/// A handler that panics costs its own request an error item, nothing else.
pub async fn serve<H: Handler>(
    options: ServerOptions,
    handler: H,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let Listening { v1, v2, files } = Listening::start(&options)?;
    let runner = Arc::new(Runner::new(options, handler));
    let (phase, phases) = watch::channel(Phase::Serving);
    let (drained, is_drained) = oneshot::channel();
    // In a task, so that it does not share one with whoever serves; in a set, so that it ends with this future.
    let mut arbiter = JoinSet::new();
    match v2 {
        Some((listener, advert)) => {
            let serving = Arbiter::new(Arc::clone(&runner), listener, advert.nonce, phases, drained);
            arbiter.spawn(serving.run());
        }
        // Nobody has to drain.
        None => drop(drained),
    }
    let drain = async {
        shutdown.await;
        phase.send_replace(Phase::Stopping);
        // An error is the end of the arbiter, or that there is none.
        let _ = is_drained.await;
    };
    let accepted = v1::serve(&runner, v1, files, drain, || {
        phase.send_replace(Phase::Finishing);
    })
    .await;
    while let Some(ended) = arbiter.join_next().await {
        propagate_panic(ended);
    }
    accepted
}

/// Handler panics are caught where the handler runs; any other is a defect of this crate and must not hide.
fn propagate_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
