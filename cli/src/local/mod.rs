//! A whole pipeline on this machine: state directory, runtimes as child processes, sidecar trees in this process.

mod engine;
mod gateway;
mod job;
mod output;
mod preflight;
mod runtime;
mod settings;
mod state;

pub(crate) use engine::{Drained, Engine, LEAST_GRACE};
pub(crate) use gateway::Port;
pub(crate) use job::{Input, resolve};
pub(crate) use preflight::{Project, load};
pub(crate) use state::State;

/// The Python runtime, one file, as it is mounted into pods too.
pub(crate) const PYTHON_RUNTIME: &str = asya_runtime_protocol::PYTHON_RUNTIME;

/// Names of the built-in end actors.
pub(crate) const HAPPY_END: &str = "happy-end";
pub(crate) const ERROR_END: &str = "error-end";
