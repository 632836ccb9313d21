//! The readiness handshake between sidecar and runtime (contract §6.8).

use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::client::after;
use crate::go_duration::GoDuration;

/// Name of the file that a runtime writes into the socket directory once it listens.
pub const READY_FILE_NAME: &str = "runtime-ready";
/// Name of the socket in the socket directory.
pub const SOCKET_NAME: &str = "asya-runtime.sock";

/// Time between two looks.
const POLL: Duration = Duration::from_millis(50);
/// Longest wait for one connection.
const CONNECT: Duration = Duration::from_secs(2);

/// The runtime was not ready in time; `Display` says what was missing at the last look.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("runtime not ready after {}: {missing}", GoDuration(*.waited))]
pub struct NotReady {
    /// How long it was waited for.
    pub waited: Duration,
    /// What was missing.
    pub missing: String,
}

/// Waits until the ready file is in `socket_dir` and `socket` accepts a connection, which is closed at once.
///
/// Looks at once, then every 50 ms. Safe to cancel.
pub async fn wait_ready(socket_dir: &Path, socket: &Path, limit: Duration) -> Result<(), NotReady> {
    let ready_file = socket_dir.join(READY_FILE_NAME);
    let end = after(limit);
    loop {
        let look = timeout_at(end, look(&ready_file, socket)).await;
        let missing = match look {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(missing)) => missing,
            Err(_) => format!("socket {} accepts no connection", socket.display()),
        };
        if Instant::now() + POLL > end {
            return Err(NotReady {
                waited: limit,
                missing,
            });
        }
        sleep(POLL).await;
    }
}

async fn look(ready_file: &Path, socket: &Path) -> Result<(), String> {
    // A stat of a local file; a thread hop would cost more than it saves.
    if !ready_file.is_file() {
        return Err(format!("ready file {} does not exist", ready_file.display()));
    }
    match timeout(CONNECT, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => Ok(()),
        // Its queue of connections is full: busy, but there.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
        Ok(Err(error)) => Err(format!("socket {}: {error}", socket.display())),
        Err(_) => Err(format!("socket {} accepts no connection", socket.display())),
    }
}
