//! What several suites need: a served handler, a scripted peer, and time limits.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    dead_code,
    clippy::unused_async,
    reason = "each suite uses its part; a handler is async"
)]

use std::future::Future;
use std::time::Duration;

use asya_runtime_protocol::{
    Handler, HandlerError, HandlerItem, RequestEnvelope, RuntimeClient, ServeError, ServerOptions, serve,
    wait_ready,
};
use bytes::Bytes;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) mod peer_v2;
pub(crate) mod servers;

/// No test waits longer for anything.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// Fails the test when `work` does not end in time.
pub(crate) async fn bounded<T>(work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.expect("the test took too long")
}

/// A handler behind a real socket.
pub(crate) struct Served {
    pub(crate) dir: TempDir,
    pub(crate) options: ServerOptions,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), ServeError>>,
}

impl Served {
    pub(crate) async fn start(handler: impl Handler) -> Self {
        Self::with(handler, |_| {}).await
    }

    pub(crate) async fn with(handler: impl Handler, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(dir.path());
        change(&mut options);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(options.clone(), handler, async {
            let _ = stopped.await;
        }));
        wait_ready(&options.socket_dir, &options.socket(), LIMIT)
            .await
            .unwrap();
        Self {
            dir,
            options,
            stop,
            server,
        }
    }

    pub(crate) fn client(&self) -> RuntimeClient {
        RuntimeClient::new(self.options.socket(), self.options.max_frame)
    }

    pub(crate) async fn call(&self, request: impl Into<Bytes>) -> Bytes {
        self.client().call(request.into(), LIMIT).await.unwrap()
    }

    /// Drops the server in the middle of its work.
    pub(crate) fn abort(&self) {
        self.server.abort();
    }

    /// Asks the server to stop; the handle ends when it has.
    pub(crate) fn stop(self) -> (TempDir, JoinHandle<Result<(), ServeError>>) {
        self.stop.send(()).unwrap();
        (self.dir, self.server)
    }
}

/// Returns the payload as it came.
pub(crate) async fn echo(request: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    Ok(vec![HandlerItem::Payload(request.payload())])
}

/// A runtime that does what the test says with its one connection.
pub(crate) fn peer<F, R>(script: F) -> (TempDir, RuntimeClient, JoinHandle<R::Output>)
where
    F: FnOnce(UnixStream) -> R + Send + 'static,
    R: Future<Output: Send> + Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let client = RuntimeClient::new(socket, 1024 * 1024);
    let peer = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        script(stream).await
    });
    (dir, client, peer)
}

/// `levels` arrays around nothing.
pub(crate) fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}
