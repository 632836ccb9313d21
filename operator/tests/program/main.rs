//! The program `asya-operator` as a whole: what it says about itself, how it starts against a real API server, who of
//! several replicas works, and how it ends.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails where it stands"
)]

mod access;
mod command_line;
mod dry_run;
mod leading;
mod page;
mod setup;
mod starting;
