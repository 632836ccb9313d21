//! `asya-operator` as a program: flags, variables, leader election, endpoints, `--dry-run`, exit codes.

use std::ffi::OsString;
use std::process::ExitCode;

/// What is typed.
#[derive(Debug, clap::Parser)]
#[command(name = "asya-operator", version)]
pub struct Arguments {}

/// Arguments as clap wants them, from those as Go's `flag` package takes them (`-leader-elect`).
pub fn arguments(given: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    given.into_iter().collect()
}

/// Runs until it is told to stop.
pub fn main(arguments: Arguments) -> ExitCode {
    let _ = arguments;
    ExitCode::SUCCESS
}
