//! The runtime's end of protocol v1, for handlers written in Rust.
//!
//! Implement [`Handler`], describe the socket with [`ServerOptions`], run [`serve`]. The server reads and answers
//! connections side by side, but runs at most [`ServerOptions::concurrency`] handlers at a time.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::frame::{DEFAULT_MAX_FRAME, FrameError, read_frame, write_frame};
use crate::name::SocketPathTooLong;
use crate::ready::SOCKET_NAME;

mod answer;
mod files;
mod handler;

use files::SocketFiles;
pub use handler::{EnvelopeItem, Handler, HandlerError, HandlerItem, RequestEnvelope};

/// Connections that may wait or dawdle beside those whose handler runs.
const WAITING: usize = 64;
/// Pause after a failed accept, and how many in a row end the server.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const ACCEPT_FAILURES: u32 = 100;

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Directory of socket and ready file; made if missing.
    pub socket_dir: PathBuf,
    /// Name of the socket in it (default [`SOCKET_NAME`]).
    pub socket_name: String,
    /// Mode bits of the socket (default `0o666`); `None` leaves what the umask gives.
    pub chmod: Option<u32>,
    /// Longest request and longest answer in bytes (default [`DEFAULT_MAX_FRAME`]).
    pub max_frame: usize,
    /// Handlers that run at the same time (default 1, as the original).
    pub concurrency: NonZeroUsize,
    /// Whether envelopes are checked on the way in and out (contract §6.4, §6.6; default yes).
    pub validation: bool,
    /// How long a peer may take to send its request, and to take its answer (default 30 s each).
    pub io_timeout: Duration,
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
/// Listens, then writes the ready file. At shutdown socket and ready file are removed first, so that nobody new
/// comes; connections that were already made are accepted and answered, then it returns. Dropping the future ends
/// everything at once and removes the files too.
///
/// A handler that panics costs its own request an error item, nothing else.
pub async fn serve<H: Handler>(
    options: ServerOptions,
    handler: H,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (listener, files) = SocketFiles::create(&options)?;
    let running = Semaphore::new(options.concurrency.get());
    let server = Arc::new(Server {
        options,
        handler: Arc::new(handler),
        running,
    });
    let mut connections = JoinSet::new();

    let accepted = accept_until(&listener, &server, &mut connections, shutdown).await;
    drop(files);
    if accepted.is_ok() {
        // What stands in the kernel's queue has been promised an answer.
        while let Some(stream) = accept_waiting(&listener) {
            connections.spawn(Arc::clone(&server).connection(stream));
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        propagate_panic(ended);
    }
    accepted
}

async fn accept_until<H: Handler>(
    listener: &UnixListener,
    server: &Arc<Server<H>>,
    connections: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let room = WAITING.saturating_add(server.options.concurrency.get());
    let mut failures = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            Some(ended) = connections.join_next() => propagate_panic(ended),
            accepted = listener.accept(), if connections.len() < room => match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    connections.spawn(Arc::clone(server).connection(stream));
                }
                Err(error) if failures >= ACCEPT_FAILURES => return Err(ServeError::Accept(error)),
                Err(_) => {
                    failures += 1;
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

/// A connection that waits in the kernel's queue, if there is one.
fn accept_waiting(listener: &UnixListener) -> Option<UnixStream> {
    use std::os::fd::AsFd;
    // Asked of the kernel, not of the reactor, which may not have heard of the newest connection yet.
    let listener = std::os::unix::net::UnixListener::from(listener.as_fd().try_clone_to_owned().ok()?);
    let (stream, _) = listener.accept().ok()?;
    stream.set_nonblocking(true).ok()?;
    UnixStream::from_std(stream).ok()
}

/// Handler panics are caught where the handler runs; any other is a defect of this crate and must not hide.
fn propagate_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

struct Server<H> {
    options: ServerOptions,
    handler: Arc<H>,
    running: Semaphore,
}

impl<H: Handler> Server<H> {
    /// One connection: one request, one answer. A peer that goes away in between gets nothing.
    async fn connection(self: Arc<Self>, mut stream: UnixStream) {
        let limit = self.options.io_timeout;
        let request = timeout(limit, read_frame(&mut stream, self.options.max_frame)).await;
        let answer = match request {
            Ok(Ok(body)) => self.answer(&body).await,
            Ok(Err(error @ FrameError::TooLong { .. })) => {
                let error = HandlerError::new(error.to_string()).code("connection_error");
                return self.refuse(stream, &answer::failure(&error)).await;
            }
            // Closed, broken or too slow; a readiness check looks like this.
            Ok(Err(_)) | Err(_) => return,
        };
        // Whether the peer still listens is its own affair: the sidecar sees a missing answer by itself.
        let _ = timeout(limit, write_frame(&mut stream, &answer)).await;
    }

    /// Answers a request that is too long, then takes the rest of it off the peer, who reads only when it has sent.
    async fn refuse(&self, mut stream: UnixStream, answer: &Bytes) {
        let discarded = async {
            write_frame(&mut stream, answer).await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            Ok::<_, FrameError>(())
        };
        // As above: a peer that is gone, or never stops, has had its answer.
        let _ = timeout(self.options.io_timeout, discarded).await;
    }

    async fn answer(&self, body: &Bytes) -> Bytes {
        let request = match answer::request(body, self.options.validation) {
            Ok(request) => request,
            Err(error) => {
                // In its turn, like any other: a sidecar takes the answer to an empty frame for the proof that the
                // handler which did not answer before has ended.
                let _turn = self.running.acquire().await;
                return answer::failure(&error);
            }
        };
        let Ok(_permit) = self.running.acquire().await else {
            return answer::failure(&HandlerError::new("the server has stopped"));
        };
        let envelope = request.envelope.clone();
        let result = run(Arc::clone(&self.handler), request)
            .await
            .map(|items| answer::success(&envelope, &items, self.options.validation));
        match result {
            Ok(answer) if answer.len() > self.options.max_frame => {
                answer::failure(&HandlerError::new(format!(
                    "the answer has {} bytes, the limit is {} bytes",
                    answer.len(),
                    self.options.max_frame
                )))
            }
            Ok(answer) => answer,
            Err(error) => answer::failure(&error),
        }
    }
}

/// Runs the handler in a task of its own, which catches a panic and ends with this future.
async fn run<H: Handler>(
    handler: Arc<H>,
    request: RequestEnvelope,
) -> Result<Vec<HandlerItem>, HandlerError> {
    let mut task = JoinSet::new();
    task.spawn(async move { handler.handle(request).await });
    match task.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => Err(HandlerError::panicked(error)),
        None => Err(HandlerError::new("the handler did not start")),
    }
}
