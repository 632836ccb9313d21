//! How commands of `asya mcp` end. Their numbers are older than those of `asya` (contract gateway §10.1).

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum McpExit {
    /// Done; the envelope of a call succeeded.
    Success,
    /// The tool refused the call.
    ToolError,
    /// The envelope failed, timed out or was cancelled.
    EnvelopeFailed,
    /// Ctrl-C.
    Interrupted,
}

impl McpExit {
    /// With `--exit-zero`.
    pub(super) const fn forgiven(self) -> Self {
        match self {
            Self::ToolError | Self::EnvelopeFailed => Self::Success,
            other => other,
        }
    }
}

impl From<McpExit> for ExitCode {
    fn from(exit: McpExit) -> Self {
        Self::from(match exit {
            McpExit::Success => 0,
            McpExit::ToolError => 2,
            McpExit::EnvelopeFailed => 3,
            McpExit::Interrupted => 130,
        })
    }
}

/// Why a command could not be carried out; the exit code is 1. Its text may have several lines, each of them marked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum McpError {
    /// The request did not work, or the gateway refused it.
    #[error("{}", request_failed(.reason, .payload.as_deref(), .answer.as_deref()))]
    Request {
        /// What happened.
        reason: String,
        /// What was sent, if anything.
        payload: Option<String>,
        /// What came back, if anything.
        answer: Option<String>,
    },
    /// The gateway has no such tool.
    #[error("[-] Tool '{0}' not found")]
    NoTool(String),
    /// The arguments cannot be read.
    #[error("[-] {0}\n[-] Arguments: {1}\n[-] Expected a JSON object, or flags such as --name value")]
    Arguments(String, String),
    /// The gateway said something that we do not understand.
    #[error("[-] The gateway's answer is not understood: {0}")]
    NotUnderstood(String),
    /// Something on this machine.
    #[error("[-] {0}")]
    Local(String),
}

fn request_failed(reason: &str, payload: Option<&str>, answer: Option<&str>) -> String {
    let payload = payload.map_or_else(String::new, |payload| format!("\n[-] Request payload: {payload}"));
    let answer = answer.map_or_else(String::new, |answer| {
        format!("\n[-] Server response: {}", answer.trim_end())
    });
    format!("[-] Request failed: {reason}{payload}{answer}")
}
