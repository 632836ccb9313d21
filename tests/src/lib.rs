//! What tests of whole programs share: the real `asya` on pipelines in directories of their own, and real sidecars
//! and runtimes on a RabbitMQ node of their own.
//!
//! What it is: a [`Pipeline`] writes manifests and Python handlers, [`Pipeline::asya`] runs the binary with a hard
//! time limit, and everything that comes to rest is read back: exit code, output, stored results, queues, and the
//! processes that are left. A [`plant::Plant`] runs `asya-sidecar` and runtimes that can be killed one by one, and
//! counts every message; a [`storm`] kills all of them at random. What it is not: it knows nothing about the inside of
//! the programs; only queues are opened directly, because bad messages cannot be sent in any other way.
//!
//! Start reading at [`Pipeline`], for RabbitMQ at [`plant`]. The tests are in `e2e/`, `sidecar/` and `faults/`, one
//! file per topic.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::return_self_not_must_use,
    reason = "a harness fails the test where it stands"
)]

mod binary;
mod chance;
pub mod keda;
pub mod kube;
mod manifest;
mod pipeline;
pub mod plant;
pub mod postgres;
mod processes;
mod proxy;
mod queue;
pub mod rabbitmq;
mod running;
mod screen;
pub mod sqs;
mod stored;
pub mod storm;
mod waiting;

pub use binary::{asya, native_echo, operator, real_python, sidecar};
pub use chance::Chance;
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
