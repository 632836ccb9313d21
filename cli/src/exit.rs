//! The exit codes of `asya`, in one place; `asya --help` prints them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything that was asked for succeeded.
    Success,
    /// At least one envelope of the run ended in error-end.
    EnvelopesFailed,
    /// The command line or a manifest is wrong; nothing was started.
    Usage,
    /// `--timeout` passed before the run was over.
    TimedOut,
    /// Asya itself could not go on: input that cannot be queued, a runtime that never gets ready, a state directory
    /// in use. A disk that fills up later is waited for, with a warning.
    CannotGoOn,
    /// Ended by Ctrl-C or SIGTERM; what was not finished is still queued.
    Interrupted,
}

impl Exit {
    /// The number that a shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::EnvelopesFailed => 1,
            Self::Usage => 2,
            Self::TimedOut => 3,
            Self::CannotGoOn => 4,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that a person can mend by changing the command line or a file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);
