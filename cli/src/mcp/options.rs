//! The command line of `asya mcp`, as clap reads and explains it.

use clap::{Args, Subcommand};

/// What `--help` says of exit codes.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0    done; with 'call', the envelope succeeded
  1    the gateway could not be asked, refused, or does not know the tool or the envelope; the arguments of
       the tool cannot be read
  2    the tool refused the call (also: the command line is wrong)
  3    the envelope failed, timed out or was cancelled
  130  interrupted; the envelope goes on

--exit-zero makes 2 and 3 of a call to 0, as it was in older versions.";

/// The options of all commands.
#[derive(Debug, Args)]
pub(crate) struct McpOptions {
    #[arg(
        long,
        value_name = "URL",
        global = true,
        help = "Address of the gateway [env: ASYA_CLI_MCP_URL] [default: http://localhost:8089]"
    )]
    pub(crate) url: Option<String>,

    #[arg(
        long,
        alias = "no_stream",
        global = true,
        help = "Print the gateway's answer to a call and do not wait for the envelope [env: ASYA_CLI_NO_STREAM]"
    )]
    pub(crate) no_stream: bool,

    #[arg(
        long,
        global = true,
        help = "Print each event as JSON instead of the progress bar [env: ASYA_CLI_MCP_DEBUG]"
    )]
    pub(crate) debug: bool,

    #[command(subcommand)]
    pub(crate) command: McpCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum McpCommand {
    /// List the tools with their parameters, as YAML
    List,

    /// Show one tool with its parameters, as YAML
    Show {
        /// Name of the tool
        tool: String,
    },

    /// Call a tool, show progress, print the last event as JSON
    #[command(after_help = "Examples:
  asya mcp call digest --path data --keywords 4
  asya mcp call digest '{\"documents\": [{\"name\": \"a.md\", \"text\": \"# Hello\"}]}'
  asya mcp call digest @request.json --no-stream
  asya mcp call --idempotency-key order-17 charge --amount 12.50

Arguments are one JSON object (or @FILE), or flags: --name value, --name=value, and --name alone for true. Values are
read by the tool's schema: text stays text, arrays take JSON or the flag several times, objects take JSON. For
parameters that the tool does not describe, true and false are booleans, numbers are numbers, all else is text.
Options of asya itself stand before the name of the tool.")]
    Call(CallOptions),

    /// Print an envelope as JSON
    Status {
        /// Id of the envelope
        id: String,
    },

    /// Follow an envelope until it is final
    Stream {
        /// Id of the envelope
        id: String,

        /// Print each event as one line of JSON on standard output
        #[arg(long)]
        json: bool,
    },

    /// Cancel an envelope and everything that it was split into
    Cancel {
        /// Id of the envelope
        id: String,

        /// Why, for people
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },

    /// Make a gateway in a cluster reachable on this machine, and print its address
    ///
    /// Runs 'kubectl port-forward' in the background. Prints only the address on standard output.
    #[command(after_help = "Example:\n  export ASYA_CLI_MCP_URL=$(asya mcp forward)")]
    Forward(ForwardOptions),
}

#[derive(Debug, Args)]
pub(crate) struct CallOptions {
    /// End with 0 whatever became of the call
    #[arg(long)]
    pub(crate) exit_zero: bool,

    /// Repeating the call with the same key does not make a second envelope
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,

    /// Name of the tool
    pub(crate) tool: String,

    /// JSON object, @FILE, or flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ForwardOptions {
    /// Namespace of the gateway
    #[arg(short, long, default_value = "asya-e2e")]
    pub(crate) namespace: String,

    /// Name of its Deployment
    #[arg(short, long, default_value = "asya-gateway")]
    pub(crate) deployment: String,

    /// Port of its pods
    #[arg(short, long, default_value_t = 8080)]
    pub(crate) port: u16,

    /// Port on this machine [default: the first free one from 8080 to 8999]
    #[arg(short, long)]
    pub(crate) local_port: Option<u16>,

    /// Do not ask the gateway whether it is there
    #[arg(long, overrides_with = "check_health")]
    pub(crate) no_check_health: bool,

    /// Ask the gateway whether it is there; this is the default
    #[arg(long, overrides_with = "no_check_health", hide = true)]
    pub(crate) check_health: bool,

    /// Stay, and end the forwarding when told to end
    #[arg(long)]
    pub(crate) keep_alive: bool,
}
