//! The sidecar's end of protocol v2 (PROTOCOL.md): lasting connections, tagged requests, workers that die alone.
//!
//! [`read_ready`](crate::read_ready) finds the [`Advert`]; [`Control::connect`] says what the server offers and how
//! its workers are; [`WorkerLink::connect`] opens one connection to each. Both queue what they are told and write it
//! in [`next`](WorkerLink::next), so that whatever is queued between two calls leaves in one write.
//!
//! [`frame`], [`decoder`] are the format itself, without any I/O.

mod connect;
mod control;
pub mod decoder;
pub mod frame;
pub(crate) mod hello;
mod link;
mod outbox;
pub(crate) mod wire;

pub use crate::ready::Advert;
pub use connect::ConnectError;
pub use control::{CancelReason, Control, ControlEvent};
pub use hello::{Gone, Welcome, WorkerId, WorkerState};
pub use link::{LinkEvent, Request, WorkerLink};
pub use wire::LinkError;
