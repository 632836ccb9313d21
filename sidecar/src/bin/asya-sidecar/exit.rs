//! The exit codes of the program, in one place; `--help` and `docs/sidecar.md` show them.

use std::process::ExitCode;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was asked to end, and drained. Also the end of `--check` when all is well.
    Success,
    /// It cannot go on.
    CannotGoOn,
    /// A second signal came while it drained.
    Interrupted(Signal),
}

/// A signal that asks the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signal {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

impl Exit {
    /// The number that whoever started the program sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::CannotGoOn => 1,
            Self::Interrupted(Signal::Interrupt) => 130,
            Self::Interrupted(Signal::Terminate) => 143,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Code and meaning, for people.
pub(crate) const MEANINGS: &[(&str, &str)] = &[
    (
        "0",
        "Asked to end by SIGTERM or SIGINT, at any time; what was not finished within the grace is back in its queue. `--check`: the configuration is good.",
    ),
    (
        "1",
        "Cannot go on: the configuration is wrong, the broker refused login, virtual host or exchange at the start, the runtime was never ready or never free again, or a part of the sidecar failed too often.",
    ),
    ("2", "Unknown option on the command line."),
    (
        "130, 143",
        "A second SIGINT or SIGTERM came while it drained; it ended at once. What it held returns to the queue.",
    ),
];
