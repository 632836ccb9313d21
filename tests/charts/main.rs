//! The charts with a real helm, against a real API server.
//!
//! There are no nodes, so what kubelet and controllers would write into a status is written by the tests, and what a
//! hook's pod would run is run here, with the rights of that pod.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

mod checks;
mod files;
mod life;
mod notes;
mod pages;
mod programs;
mod refusals;
mod rendering;
mod rights;
mod security;
mod setup;
