//! How a program ended. Only a program maps causes to these; what they mean for it stands in its own help.

use std::io::Write as _;
use std::process::ExitCode;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is done, or it was asked to end and drained. Also the end of `--check` when all is well.
    Success,
    /// It cannot go on.
    CannotGoOn,
    /// A second signal came while it drained.
    Interrupted(Signal),
}

/// A signal that asks the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// As one types it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

impl Exit {
    /// The number that whoever started the program sees.
    pub const fn code(self) -> u8 {
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

/// Prints what was asked for on standard output.
pub fn print(text: &str) -> Exit {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Success,
        Err(_) => Exit::CannotGoOn, // Nobody reads.
    }
}
