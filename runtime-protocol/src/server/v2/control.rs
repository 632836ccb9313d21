//! The control connection, as the server has it.

use bytes::Bytes;

use crate::server::ServerOptions;
use crate::v2::decoder::Decoded;
use crate::v2::frame::{Frame, Kind, Reader};
use crate::v2::hello::{Gone, Welcome, WorkerId, WorkerState, welcome, worker};
use crate::v2::wire::Wire;
use crate::v2::{CancelReason, LinkError};

/// How this side calls itself.
const SERVER: &str = concat!("asya-native/", env!("CARGO_PKG_VERSION"));

/// What a client orders.
#[derive(Clone, Copy)]
pub(super) enum Order {
    Cancel(WorkerId, u32, CancelReason),
    Kill(WorkerId, u32),
    /// It has drained.
    Goodbye,
    /// The connection ended without goodbye.
    Lost,
}

pub(super) struct Control {
    offered: Welcome,
    wire: Option<Wire>,
    frame_timeout: std::time::Duration,
}

impl Control {
    pub(super) fn new(options: &ServerOptions) -> Self {
        Self {
            offered: Welcome {
                server: SERVER.to_owned(),
                workers: 1,
                concurrency: u32::try_from(options.concurrency.get()).unwrap_or(u32::MAX),
                batch_size: 1,
                batch_wait: std::time::Duration::ZERO,
                stream: false,
                cancel_grace: options.cancel_grace,
                max_message_size: options.max_frame,
            },
            wire: None,
            frame_timeout: options.io_timeout,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.wire.is_some()
    }

    /// Takes a connection in the place of the one before.
    pub(super) fn connect(&mut self, mut wire: Wire, id: WorkerId) {
        wire.set_reader(Reader::ControlServer);
        wire.set_frame_timeout(self.frame_timeout);
        say(&mut wire, Kind::Welcome, 0, welcome(&self.offered));
        say_worker(&mut wire, id, WorkerState::Ready { pid: None });
        self.wire = Some(wire);
    }

    /// The next order. Writes what is queued, also while it waits. Never ends without a connection.
    pub(super) async fn next(&mut self) -> Order {
        loop {
            let Some(wire) = &mut self.wire else {
                return std::future::pending().await;
            };
            let order = match wire.next().await {
                Ok(Decoded::Frame(frame)) => read(wire, &frame),
                // Only payloads can be too large, and none is allowed here.
                Ok(Decoded::TooLarge { .. }) => Ok(None),
                Err(error) => Err(error),
            };
            match order {
                Ok(None) => {}
                Ok(Some(order)) => {
                    if matches!(order, Order::Goodbye) {
                        self.wire = None;
                    }
                    return order;
                }
                Err(_) => {
                    self.wire = None;
                    return Order::Lost;
                }
            }
        }
    }

    pub(super) fn say_stopping(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.push_small(Kind::Stopping, 0, &[]);
        }
    }

    /// One worker is gone and another is there in its place.
    pub(super) fn say_replaced(&mut self, old: WorkerId, gone: Gone, new: WorkerId) {
        if let Some(wire) = &mut self.wire {
            say_worker(wire, old, WorkerState::Gone(gone));
            say_worker(wire, new, WorkerState::Starting);
            say_worker(wire, new, WorkerState::Ready { pid: None });
        }
    }

    /// Says goodbye and writes everything.
    pub(super) async fn say_goodbye(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.push_small(Kind::Goodbye, 0, &[]);
            wire.flush().await;
        }
    }
}

fn say_worker(wire: &mut Wire, id: WorkerId, state: WorkerState) {
    say(wire, Kind::Worker, id.worker, worker(id, state));
}

/// Queues a frame; a body that cannot be made ends the connection.
pub(super) fn say(wire: &mut Wire, kind: Kind, tag: u32, body: Result<Bytes, String>) {
    match body {
        Ok(body) => wire.push(kind, 0, tag, &[], body),
        Err(text) => {
            wire.break_off(text);
        }
    }
}

/// What a frame orders; a ping is answered here.
fn read(wire: &mut Wire, frame: &Frame) -> Result<Option<Order>, LinkError> {
    let tag = frame.tag;
    match frame.kind {
        Kind::Ping => {
            wire.push_small(Kind::Pong, tag, &[]);
            Ok(None)
        }
        Kind::Goodbye => Ok(Some(Order::Goodbye)),
        Kind::Kill => match worker_id(&frame.body) {
            Some((id, [])) => Ok(Some(Order::Kill(id, tag))),
            _ => Err(wire.break_off("KILL cannot be read".to_owned())),
        },
        Kind::Cancel => match worker_id(&frame.body) {
            Some((id, [1])) => Ok(Some(Order::Cancel(id, tag, CancelReason::Deadline))),
            Some((id, [2])) => Ok(Some(Order::Cancel(id, tag, CancelReason::Asked))),
            Some((id, [3])) => Ok(Some(Order::Cancel(id, tag, CancelReason::Withdrawn))),
            _ => Err(wire.break_off("CANCEL with an unknown reason".to_owned())),
        },
        // The decoder lets nothing else through.
        kind => Err(wire.break_off(format!("{} on a control connection", kind.name()))),
    }
}

fn worker_id(body: &[u8]) -> Option<(WorkerId, &[u8])> {
    let (worker, rest) = body.split_first_chunk()?;
    let (incarnation, rest) = rest.split_first_chunk()?;
    let id = WorkerId {
        worker: u32::from_be_bytes(*worker),
        incarnation: u32::from_be_bytes(*incarnation),
    };
    Some((id, rest))
}
