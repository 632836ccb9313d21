//! From an advert to an open connection.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::time::timeout_at;

use super::decoder::Decoded;
use super::frame::{Frame, Kind, Reader};
use super::hello::{Purpose, hello};
use super::wire::{LinkError, Wire};
use crate::client::{after, connect_when_free};
use crate::go_duration::GoDuration;
use crate::ready::Advert;

/// Why there is no connection. In no case has anything run.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody listens.
    #[error("failed to connect to runtime socket: {0}")]
    NotReachable(#[source] io::Error),
    /// The server answered with an ERROR, which says this.
    #[error("the runtime refused the connection: {0}")]
    Refused(String),
    /// The connection ended before WELCOME, or something else came in its place.
    #[error("the runtime did not welcome the connection: {0}")]
    Ended(#[source] LinkError),
    /// The time was up before WELCOME came.
    #[error("the runtime did not welcome the connection within {}", GoDuration(*.after))]
    TimedOut {
        /// The time that connecting was given.
        after: Duration,
    },
}

/// Connects, says HELLO and waits for WELCOME, whose body it gives. The decoder goes on as `reader`.
pub(super) async fn connect(
    advert: &Advert,
    purpose: Purpose,
    reader: Reader,
    limit: usize,
    time: Duration,
) -> Result<(Wire, Bytes), ConnectError> {
    let end = after(time);
    let stream = connect_when_free(&advert.socket, end)
        .await
        .map_err(ConnectError::NotReachable)?;
    match timeout_at(end, greet(stream, advert, purpose, limit)).await {
        Ok(Ok((mut wire, body))) => {
            wire.set_reader(reader);
            Ok((wire, body))
        }
        Ok(Err(LinkError::Remote(reason))) => Err(ConnectError::Refused(reason)),
        Ok(Err(error)) => Err(ConnectError::Ended(error)),
        Err(_) => Err(ConnectError::TimedOut { after: time }),
    }
}

async fn greet(
    stream: UnixStream,
    advert: &Advert,
    purpose: Purpose,
    limit: usize,
) -> Result<(Wire, Bytes), LinkError> {
    let mut wire = Wire::new(stream, Reader::Greeting, limit);
    let hello = hello(&advert.nonce, purpose).map_err(LinkError::Protocol)?;
    wire.push(Kind::Hello, 0, 0, &[], hello);
    match wire.next().await? {
        Decoded::Frame(Frame {
            kind: Kind::Welcome,
            body,
            ..
        }) => Ok((wire, body)),
        // The decoder lets nothing else through to a reader that is greeting.
        Decoded::Frame(Frame { kind, .. }) | Decoded::TooLarge { kind, .. } => {
            Err(LinkError::Protocol(format!("{} before WELCOME", kind.name())))
        }
    }
}
