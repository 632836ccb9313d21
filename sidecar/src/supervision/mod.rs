//! Restarting actors: ractor reports every exit and restarts nothing, so the policy is ours.
//!
//! [`policy`] decides (pure, property-tested with invented clocks), [`supervisor`] is the thin actor that executes
//! the decisions. Neither knows what the supervised actors do.

pub(crate) mod policy;
pub(crate) mod supervisor;

pub(crate) use policy::{Exit, Policy, Strategy};
pub(crate) use supervisor::{Child, Supervisor, SupervisorArguments, SupervisorMessage};
