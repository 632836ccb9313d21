//! A sidecar and a real Python runtime over protocol v2: workers that die, hang, stream and work in batches.
//!
//! Each test runs the tree on the embedded queue and a runtime as a process of its own, and counts what arrived and how
//! often the handler was called.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

#[path = "../common/mod.rs"]
mod common;

mod batches;
mod cancelling;
mod fallback;
mod ghosts;
mod items;
mod loss;
mod python;
mod restarts;
mod streams;
mod time;
