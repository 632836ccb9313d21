//! `asya-operator`: the operator as a program. All of it is in [`asya_operator::program`].

use std::process::ExitCode;

use asya_operator::program::{self, Arguments};
use clap::Parser;

/// Turns every `AsyncActor` of a cluster into a workload with a sidecar, a queue, an autoscaler and a truthful status.
///
/// It is configured by environment variables, which are listed below, and by the options of the original operator,
/// with one dash or two.
#[derive(Debug, Parser)]
#[command(name = "asya-operator", version, after_long_help = program::long_help(), max_term_width = 120)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> ExitCode {
    program::main(CommandLine::parse_from(program::arguments(std::env::args_os())).arguments)
}
