//! MCP on a real socket: the SQLite store, the embedded queue, and actors that take messages and report.
//!
//! The official conformance suite and an MCP client in Python run against the same server; they need programs from
//! two registries, so those tests are ignored here and run by `tests/mcp/run.sh`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, helpers included"
)]

mod actors;
mod calls;
mod client;
mod handshake;
mod plant;
mod stateless;
mod suites;
mod tasks;
mod waiting;
