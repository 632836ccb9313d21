//! The command line.

use clap::{Args, Subcommand};

use super::key::Wish;

/// What can be asked for; without anything the gateway serves.
#[derive(Debug, Default, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each one is a switch of the command line"
)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// Check configuration and tool files, say all that is wrong with them, and end with 0 or 1; nothing is connected
    #[arg(long)]
    pub check: bool,
    /// With --check: say it as JSON
    #[arg(long, requires = "check")]
    pub json: bool,
    /// Print the variables that are set as JSON, without secrets, and end
    #[arg(long)]
    pub print_config: bool,
    /// Print the tables of the documentation
    #[arg(long, hide = true)]
    pub markdown: bool,
    /// Something else than to serve
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Something else than to serve.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Bring the tables of the database up to date, and end
    Migrate {
        /// Only show which steps were taken; ends with 1 if some were not
        #[arg(long)]
        status: bool,
    },
    /// Print the OpenAPI document of the REST interface
    Openapi,
    /// Make a key for `ASYA_AUTH=keys`: the key itself, and the line for the file of keys
    Key(Wish),
}
