//! What the end-to-end tests share: pipelines in directories of their own, and the real `asya` run on them.
//!
//! What it is: a [`Pipeline`] writes manifests and Python handlers, [`Pipeline::asya`] runs the binary with a hard
//! time limit, and everything that comes to rest is read back: exit code, output, stored results, queues, and the
//! processes that are left. What it is not: it knows nothing about the inside of `asya`; only the queue is opened
//! directly, because bad messages cannot be sent in any other way.
//!
//! Start reading at [`Pipeline`]. The tests are in `e2e/`, one file per topic.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::return_self_not_must_use,
    reason = "a harness fails the test where it stands"
)]

mod binary;
mod manifest;
mod pipeline;
mod processes;
mod proxy;
mod queue;
pub mod rabbitmq;
mod running;
mod screen;
mod stored;
mod waiting;

pub use binary::{asya, real_python, sidecar};
pub use manifest::Actor;
pub use pipeline::Pipeline;
pub use processes::{Process, processes_under};
pub use proxy::Proxy;
pub use queue::Queue;
pub use running::{Asya, Finished, Running, Stdout};
pub use screen::Screen;
pub use stored::{Stored, compact};
pub use waiting::{LIMIT, wait_for};

pub use rustix::process::Signal;
