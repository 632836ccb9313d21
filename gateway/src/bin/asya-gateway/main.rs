//! `asya-gateway`: the gateway as a program. All of it is in [`asya_gateway::program`].

use std::process::ExitCode;

use asya_gateway::program::{self, Arguments};
use clap::Parser;

/// Offers pipelines of actors as tools over MCP, REST and gRPC, and knows what became of every call.
///
/// It is configured by environment variables alone; they are listed below.
#[derive(Debug, Parser)]
#[command(name = "asya-gateway", version, after_long_help = program::long_help(), max_term_width = 120)]
struct CommandLine {
    #[command(flatten)]
    arguments: Arguments,
}

fn main() -> ExitCode {
    program::run(CommandLine::parse().arguments).into()
}
