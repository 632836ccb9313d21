//! Protocol v1: one connection, one request, one answer.

use std::sync::Arc;

use bytes::Bytes;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::answer;
use super::files::SocketFiles;
use super::handler::{Handler, HandlerError, HandlerItem, RequestEnvelope};
use super::run::Runner;
use super::{ACCEPT_FAILURES, ACCEPT_PAUSE, ServeError, propagate_panic};
use crate::frame::{FrameError, read_frame, write_frame};

/// Connections that may wait or dawdle beside those whose handler runs.
const WAITING: usize = 64;

/// Accepts and answers until `shutdown` ends, removes the files, calls `closed`, and answers what was connected.
pub(super) async fn serve<H: Handler>(
    runner: &Arc<Runner<H>>,
    listener: UnixListener,
    files: SocketFiles,
    shutdown: impl Future<Output = ()>,
    closed: impl FnOnce(),
) -> Result<(), ServeError> {
    let mut connections = JoinSet::new();
    let accepted = accept_until(&listener, runner, &mut connections, shutdown).await;
    drop(files);
    closed();
    if accepted.is_ok() {
        // What stands in the kernel's queue has been promised an answer.
        while let Some(stream) = accept_waiting(&listener) {
            connections.spawn(connection(Arc::clone(runner), stream));
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
    runner: &Arc<Runner<H>>,
    connections: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let mut shutdown = std::pin::pin!(shutdown);
    let room = WAITING.saturating_add(runner.options.concurrency.get());
    let mut failures = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return Ok(()),
            Some(ended) = connections.join_next() => propagate_panic(ended),
            accepted = listener.accept(), if connections.len() < room => match accepted {
                Ok((stream, _)) => {
                    failures = 0;
                    connections.spawn(connection(Arc::clone(runner), stream));
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

/// One connection: one request, one answer. A peer that goes away in between gets nothing.
async fn connection<H: Handler>(runner: Arc<Runner<H>>, mut stream: UnixStream) {
    let limit = runner.options.io_timeout;
    let request = timeout(limit, read_frame(&mut stream, runner.options.max_frame)).await;
    let answer = match request {
        Ok(Ok(body)) => answer_to(&runner, &body).await,
        Ok(Err(error @ FrameError::TooLong { .. })) => {
            let error = HandlerError::new(error.to_string()).code("connection_error");
            return refuse(&runner, stream, &answer::failure(&error)).await;
        }
        // Closed, broken or too slow; a readiness check looks like this.
        Ok(Err(_)) | Err(_) => return,
    };
    // Whether the peer still listens is its own affair: the sidecar sees a missing answer by itself.
    let _ = timeout(limit, write_frame(&mut stream, &answer)).await;
}

/// Answers a request that is too long, then takes the rest of it off the peer, who reads only when it has sent.
async fn refuse<H: Handler>(runner: &Runner<H>, mut stream: UnixStream, answer: &Bytes) {
    let discarded = async {
        write_frame(&mut stream, answer).await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
        Ok::<_, FrameError>(())
    };
    // As above: a peer that is gone, or never stops, has had its answer.
    let _ = timeout(runner.options.io_timeout, discarded).await;
}

async fn answer_to<H: Handler>(runner: &Runner<H>, body: &Bytes) -> Bytes {
    let request = match runner.request(body) {
        Ok(request) => request,
        Err(error) => {
            // In its turn, like any other: a sidecar takes the answer to an empty frame for the proof that the
            // handler which did not answer before has ended.
            let _turn = runner.places.acquire().await;
            return answer::failure(&error);
        }
    };
    let Ok(_place) = runner.places.acquire().await else {
        return answer::failure(&HandlerError::new("the server has stopped"));
    };
    let result = run(Arc::clone(&runner.handler), request.clone()).await;
    runner.answer(&request, result)
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
