//! What every Asya program does in the same way: read its environment, explain itself, log, listen to signals, end.
//!
//! What it is: the shell around a library. A program has one [`Table`] of [variables](Variable), from which its
//! environment is [read](Reader), its `--help` and its page are [made](help), and the line at its start is written.
//! All mistakes of an environment are found at once and none of them shows a secret. What it is not: it knows no
//! messages, and decides nothing; which variables there are is each program's own table.
//!
//! Start reading at [`Table`], then [`Reader`].

pub mod environment;
pub mod exit;
pub mod help;
pub mod logging;
#[cfg(feature = "rabbitmq")]
pub mod rabbitmq;

mod listen;
mod reading;
mod signals;
mod table;
mod variable;

pub use environment::{Environment, Expected, Problem, Reader, misspelled, nearest};
pub use exit::{Exit, Signal, print};
pub use listen::listen;
pub use reading::Reading;
pub use signals::Signals;
pub use table::Table;
pub use variable::{Group, Severity, Shown, Variable};
