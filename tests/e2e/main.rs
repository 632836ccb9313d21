//! The command line as a whole: the real binary, real Python handlers, real processes and files.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod asking;
mod bad_handlers;
mod bad_messages;
mod killing;
mod lifecycle;
mod manifests;
mod output;
mod pipelines;
mod retries;
mod run;
mod sending;
mod shapes;
mod terminal;
mod tools;
mod workers;
