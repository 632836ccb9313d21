//! The listener: HTTP/1.1 and HTTP/2 on one port, with TLS where a certificate is given.
//!
//! What it is: an accept loop that survives what can go wrong with accepting, limits for peers that are slow, silent or
//! too many, and an orderly end. What it is not: it knows no paths; whatever [`Router`] it is given, it serves.
//!
//! A connection passes three stages: `tls` (a handshake, if there is a certificate), `detect` (HTTP/2 announces itself
//! by its first bytes or in the handshake), `connection` (hyper). Before the first request is complete all of it is
//! bounded by [`ServerOptions::header_timeout`]; a peer that takes nothing of an answer is left after
//! [`ServerOptions::write_timeout`].

mod connection;
mod detect;
mod patience;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connection::Shared;
pub use tls::{Tls, TlsError};

/// How long accepting rests when the process or the machine has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener puts up with.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The certificate; `None` for plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// How long a TLS handshake, and then each request's head, may take. An idle connection of HTTP/1.1 ends after it,
    /// too. 15 s.
    pub header_timeout: Duration,
    /// Largest head of a request, in bytes; beyond it the answer is 431. 64 KiB.
    pub max_header_bytes: usize,
    /// How long a peer may take nothing of what is written to it. 30 s.
    pub write_timeout: Duration,
    /// Connections at a time; further ones wait in the kernel until one has ended. 50 000.
    pub max_connections: usize,
    /// How long requests and streams may go on after [`draining`](Self::draining). 1.5 s.
    pub grace: Duration,
    /// Ends the server: nothing more is accepted, and every connection ends after what is under way.
    pub draining: CancellationToken,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            tls: None,
            header_timeout: Duration::from_secs(15),
            max_header_bytes: 64 * 1024,
            write_timeout: Duration::from_secs(30),
            max_connections: 50_000,
            grace: Duration::from_millis(1500),
            draining: CancellationToken::new(),
        }
    }
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}{}", hint(.cause))]
pub struct BindError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the kernel said.
    #[source]
    pub cause: io::Error,
}

fn hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "; another program has the port, choose another one",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege, choose a higher one",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

/// Takes the port. A failure is the caller's to end the program with (contract gateway §12, defect 15).
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|cause| BindError { address, cause })
}

/// Serves until [`ServerOptions::draining`], then lets what is under way end within the grace. After it returns no
/// connection is left.
pub async fn serve(listener: TcpListener, router: Router, options: ServerOptions) {
    let connections = TaskTracker::new();
    let shared = Arc::new(Shared::new(router, options));
    accept(listener, &shared, &connections).await;
    connections.close();
    if tokio::time::timeout(shared.options.grace, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "ending connections whose grace is over"
        );
        shared.kill.cancel();
        connections.wait().await;
    }
}

/// Accepts until draining; the listener is closed when it returns.
async fn accept(listener: TcpListener, shared: &Arc<Shared>, connections: &TaskTracker) {
    let slots = Arc::new(Semaphore::new(
        shared.options.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let draining = shared.options.draining.clone();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = draining.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let shared = shared.clone();
                connections.spawn(async move {
                    connection::serve(stream, peer, &shared).await;
                    drop(slot);
                });
            }
            Err(error) if concerns_one_peer(&error) => {}
            Err(error) => {
                // Out of descriptors or memory: those that are open go on, and some of them will end.
                tracing::error!(%error, "cannot accept connections, trying again");
                tokio::select! {
                    () = draining.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

fn concerns_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Small answers leave at once, and a peer that has vanished without a word is noticed.
fn prepare(stream: &TcpStream, options: &ServerOptions) {
    use rustix::net::sockopt;
    let millis = u32::try_from(options.write_timeout.as_millis()).unwrap_or(u32::MAX);
    let set = stream
        .set_nodelay(true)
        .and_then(|()| Ok(sockopt::set_socket_keepalive(stream, true)?))
        .and_then(|()| Ok(sockopt::set_tcp_keepidle(stream, Duration::from_mins(1))?))
        .and_then(|()| Ok(sockopt::set_tcp_user_timeout(stream, millis)?));
    if let Err(error) = set {
        tracing::debug!(%error, "a connection has kept the system's settings");
    }
}
