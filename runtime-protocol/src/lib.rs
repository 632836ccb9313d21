//! The envelope that travels between actors, and the socket protocol between a sidecar and a runtime.
//!
//! What it is: [`Envelope`] and [`Route`] around a payload that stays raw bytes ([`RawJson`]), deterministic ids,
//! error envelopes, the answers of a runtime ([`Reply`]), and both ends of the socket protocol, which `PROTOCOL.md`
//! beside this crate describes. For sidecars: [`RuntimeClient`] speaks v1, [`v2`] speaks v2, and [`read_ready`] tells
//! which of them a runtime offers. For handlers written in Rust: [`serve`] speaks both at once.
//! `python/asya_runtime.py` is the same end for Python handlers.
//! What it is not: it knows no queues, no policy (who retries, where errors go), no metrics and no logging.
//!
//! Start reading at [`Envelope::parse`], then [`Reply::parse`], then [`RuntimeClient::call`] and
//! [`v2::WorkerLink`]. The format of v2 is in [`v2::frame`] and [`v2::decoder`], without any I/O;
//! `examples/fuzz_frames.rs` feeds them what they should not get.
//!
//! The rules come from the data-plane contract; a comment names the section ("contract §7.2") or the ruling.

mod client;
mod envelope;
mod error_envelope;
mod frame;
mod go_duration;
mod ids;
mod json;
mod name;
mod raw;
mod ready;
mod reply;
mod route;
mod server;
pub mod v2;

pub use client::{CallError, Connection, RuntimeClient};
pub use envelope::{Envelope, JsonProblem, ParseError, Parsed};
pub use error_envelope::ErrorEnvelope;
pub use frame::{DEFAULT_MAX_FRAME, FrameError, read_frame, write_frame};
pub use go_duration::GoDuration;
pub use ids::{child_id, fallback_id, message_id};
pub use name::{ActorName, ActorNameError, SocketPathTooLong, check_socket_path};
pub use raw::{Member, RawJson, RawObject};
pub use ready::{
    DONE_FILE_NAME, DRAINED_FILE_NAME, DRAINING_FILE_NAME, NotReady, READY_FILE_NAME, Ready, SOCKET_NAME,
    read_ready, wait_ready, work_done,
};
pub use reply::{ErrorDetails, HeadersField, Reply, ReplyError, ReplyItem};
pub use route::Route;
pub use server::{
    EnvelopeItem, Handler, HandlerError, HandlerItem, Protocols, RequestEnvelope, ServeError, ServerOptions,
    serve,
};

/// The runtime for Python handlers: the whole of `python/asya_runtime.py`, for whoever starts runtimes.
pub const PYTHON_RUNTIME: &str = include_str!("../python/asya_runtime.py");
