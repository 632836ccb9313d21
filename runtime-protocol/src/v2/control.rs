//! The control connection of a client.

use std::time::Duration;

use super::connect::{ConnectError, connect};
use super::decoder::Decoded;
use super::frame::{Kind, Reader};
use super::hello::{Purpose, Welcome, WorkerId, WorkerState, parse_welcome, parse_worker};
use super::wire::{LinkError, Wire};
use crate::ready::Advert;

/// Why a request is cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// Its time is up.
    Deadline,
    /// Somebody asked for it.
    Asked,
    /// It is to be run elsewhere, unless it was started: then it is left alone.
    Withdrawn,
}

impl CancelReason {
    const fn byte(self) -> u8 {
        match self {
            Self::Deadline => 1,
            Self::Asked => 2,
            Self::Withdrawn => 3,
        }
    }
}

/// What a server says on the control connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlEvent {
    /// The state of a worker: each one once after the WELCOME, then each change.
    Worker(WorkerId, WorkerState),
    /// The server is asked to end and waits for our goodbye.
    Stopping,
    /// The answer to a ping with this tag.
    Pong(u32),
    /// The server says nothing further.
    Goodbye,
}

/// The control connection: the state of workers, cancellation, goodbye. It carries no payload.
#[derive(Debug)]
pub struct Control {
    wire: Wire,
    workers: u32,
}

impl Control {
    /// Connects to the server of `advert` and waits for its WELCOME, `limit` for both together.
    pub async fn connect(advert: &Advert, limit: Duration) -> Result<(Self, Welcome), ConnectError> {
        let (wire, body) = connect(advert, Purpose::Control, Reader::ControlClient, 0, limit).await?;
        let welcome = parse_welcome(&body).map_err(|text| ConnectError::Ended(LinkError::Protocol(text)))?;
        let workers = welcome.workers;
        Ok((Self { wire, workers }, welcome))
    }

    /// The next event. Writes what is queued, also while it waits. Safe to cancel.
    ///
    /// After an error all that follows is [`LinkError::Closed`].
    pub async fn next(&mut self) -> Result<ControlEvent, LinkError> {
        let frame = match self.wire.next().await? {
            Decoded::Frame(frame) => frame,
            Decoded::TooLarge { kind, .. } => return Err(self.wire.break_off(not_taken(kind))),
        };
        match frame.kind {
            Kind::Worker => match parse_worker(frame.tag, self.workers, &frame.body) {
                Ok((id, state)) => Ok(ControlEvent::Worker(id, state)),
                Err(text) => Err(self.wire.break_off(text)),
            },
            Kind::Stopping => Ok(ControlEvent::Stopping),
            Kind::Pong => Ok(ControlEvent::Pong(frame.tag)),
            Kind::Goodbye => Ok(ControlEvent::Goodbye),
            kind => Err(self.wire.break_off(not_taken(kind))),
        }
    }

    /// Queues the request to end the request `tag` of this worker. Changes nothing if either is over.
    pub fn cancel(&mut self, id: WorkerId, tag: u32, reason: CancelReason) {
        let [w0, w1, w2, w3] = id.worker.to_be_bytes();
        let [i0, i1, i2, i3] = id.incarnation.to_be_bytes();
        let body = [w0, w1, w2, w3, i0, i1, i2, i3, reason.byte()];
        self.wire.push_small(Kind::Cancel, tag, &body);
    }

    /// Queues the order to kill this worker, because its request `tag` did not end.
    pub fn kill(&mut self, id: WorkerId, tag: u32) {
        let [w0, w1, w2, w3] = id.worker.to_be_bytes();
        let [i0, i1, i2, i3] = id.incarnation.to_be_bytes();
        self.wire
            .push_small(Kind::Kill, tag, &[w0, w1, w2, w3, i0, i1, i2, i3]);
    }

    /// Queues a ping; [`ControlEvent::Pong`] with the same tag answers it.
    pub fn ping(&mut self, tag: u32) {
        self.wire.push_small(Kind::Ping, tag, &[]);
    }

    /// Queues the goodbye: this client has drained. Go on with [`next`](Self::next) until the connection is closed.
    pub fn goodbye(&mut self) {
        self.wire.push_small(Kind::Goodbye, 0, &[]);
    }
}

fn not_taken(kind: Kind) -> String {
    format!("{} on a control connection", kind.name())
}
