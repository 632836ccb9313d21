//! The gRPC services on a real port, over a real store, as a sidecar, an operator or a client sees them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests, helpers included")]

mod actors;
mod clients;
mod harness;
mod replicas;
mod report;
mod services;
mod sessions;
mod storm;
mod watch;
mod whole;
