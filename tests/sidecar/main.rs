//! The program `asya-sidecar` as whoever runs it sees it: environment, log lines, exit codes, endpoints, its page.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

mod configuration;
mod ending;
mod endpoints;
mod jobs;
mod metrics;
mod page;
mod pods;
mod refusals;
mod setup;
