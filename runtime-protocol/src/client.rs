//! The sidecar's end of protocol v1.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout_at};

use crate::frame::{FrameError, read_frame, write_frame};
use crate::go_duration::GoDuration;

/// First and longest pause between two attempts to get into a full connection queue.
const BUSY_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Calls a runtime: one connection, one request, one answer (contract §6.1).
///
/// Cheap to clone; calls may run at the same time.
#[derive(Clone, Debug)]
pub struct RuntimeClient {
    socket: PathBuf,
    max_frame: usize,
}

/// A connection to a runtime on which nothing was sent yet. Dropping it is the look of a readiness check, which every
/// runtime puts up with (contract §6.1).
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
}

/// Why a call gave no answer. `Display` is the text of `payload.error` (contract §7.2).
#[derive(Debug, Error)]
pub enum CallError {
    /// No connection, so nothing was sent: wait for the runtime and call again (contract §7.4, rule 5).
    #[error("failed to connect to runtime socket: {0}")]
    NotReachable(#[source] io::Error),
    /// The runtime did not take the whole request, so no handler ran. A runtime that ends while the connection waits
    /// in its queue shows like this too.
    #[error("failed to send message to runtime: {0}")]
    Send(#[source] FrameError),
    /// The request was sent, the answer did not come: the handler may have run.
    #[error("failed to read response from runtime: {0}")]
    Read(#[source] FrameError),
    /// The answer is longer than the limit.
    #[error(
        "failed to read response from runtime: answer of {length} bytes is over the limit of {limit} bytes"
    )]
    ReplyTooLarge {
        /// Bytes that the runtime announced.
        length: usize,
        /// The limit of this client.
        limit: usize,
    },
    /// The time of the whole call was up after a connection was there.
    #[error("Runtime timeout exceeded after {}", GoDuration(*.after))]
    Timeout {
        /// The time that the call was given.
        after: Duration,
    },
}

impl CallError {
    /// Whether a handler may have seen the message. If not, calling again repeats nothing (contract §7.4, rule 5).
    pub fn handler_may_have_run(&self) -> bool {
        match self {
            Self::NotReachable(_) | Self::Send(_) => false,
            Self::Read(_) | Self::ReplyTooLarge { .. } | Self::Timeout { .. } => true,
        }
    }
}

impl RuntimeClient {
    /// A client for the runtime behind `socket`; answers above `max_frame` bytes are refused.
    pub fn new(socket: impl Into<PathBuf>, max_frame: usize) -> Self {
        Self {
            socket: socket.into(),
            max_frame,
        }
    }

    /// The socket that it calls.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends `request` and waits for the answer, `limit` for all of it together.
    ///
    /// Dropping the future closes the connection; the handler is not told.
    pub async fn call(&self, request: Bytes, limit: Duration) -> Result<Bytes, CallError> {
        let end = after(limit);
        let connection = self.connect_until(end).await?;
        self.exchange_until(end, connection, &request, limit).await
    }

    /// Connects ahead of a call, so that the call need not. A runtime of protocol v1 serves one connection at a time
    /// and in order, so call over it soon: whoever connects later waits behind it.
    pub async fn connect(&self, limit: Duration) -> Result<Connection, CallError> {
        self.connect_until(after(limit)).await
    }

    /// As [`call`](Self::call), over a connection that is there already.
    pub async fn call_over(
        &self,
        connection: Connection,
        request: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        self.exchange_until(after(limit), connection, &request, limit)
            .await
    }

    async fn exchange_until(
        &self,
        end: Instant,
        mut connection: Connection,
        request: &Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        match timeout_at(end, self.exchange(&mut connection.stream, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout { after: limit }),
        }
    }

    async fn connect_until(&self, end: Instant) -> Result<Connection, CallError> {
        let stream = connect_when_free(&self.socket, end).await;
        stream
            .map(|stream| Connection { stream })
            .map_err(CallError::NotReachable)
    }

    async fn exchange(&self, stream: &mut UnixStream, request: &Bytes) -> Result<Bytes, CallError> {
        let sent = match write_frame(stream, request).await {
            Err(error @ FrameError::TooLong { .. }) => return Err(CallError::Send(error)),
            sent => sent,
        };
        let answer = read_frame(stream, self.max_frame).await;
        match (sent, answer) {
            // A runtime may refuse a request, with a reason, before it has taken all of it.
            (_, Ok(answer)) => Ok(answer),
            (_, Err(FrameError::TooLong { length, limit })) => {
                Err(CallError::ReplyTooLarge { length, limit })
            }
            (Err(error), _) => Err(CallError::Send(error)),
            (Ok(()), Err(FrameError::Io(error))) if error.kind() == io::ErrorKind::ConnectionReset => {
                // A Unix socket is reset only if its peer closed with bytes unread, else it ends: the request, which
                // is all that we wrote, was not taken whole.
                Err(CallError::Send(FrameError::Io(error)))
            }
            (Ok(()), Err(error)) => Err(CallError::Read(error)),
        }
    }
}

/// Connects; a runtime whose queue of connections is full is busy, not gone.
pub(crate) async fn connect_when_free(socket: &Path, end: Instant) -> io::Result<UnixStream> {
    let (mut pause, longest) = BUSY_PAUSE;
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() + pause >= end {
                    let busy = "its queue of connections stayed full";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, busy));
                }
                sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            connected => return connected,
        }
    }
}

/// The time `limit` from now; a limit that no clock can hold is a year, which no call waits out.
pub(crate) fn after(limit: Duration) -> Instant {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    Instant::now() + limit.min(YEAR)
}
