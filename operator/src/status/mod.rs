//! The status of an actor: pure functions from what was seen to what is shown (contract operator §11).
//!
//! What it is: [`assess`], which makes the whole status, [`reassess_after`], which says when time alone will change it,
//! [`events`], which says what is worth a Kubernetes Event, and [`Pod::read`] and [`WorkloadCounts::read`], which reduce
//! API objects to what matters here. What it is not: it asks nobody and writes nothing; the clock is an argument.
//!
//! Inside: `seen` holds what a controller saw, `read` makes it from API objects, `health` judges one pod, `census` all of
//! them, `scale` follows the number of ready pods, `overall` is the table of states, `conditions` and `shown` are what
//! stands in the custom resource.

mod assess;
mod census;
mod conditions;
mod events;
mod health;
mod overall;
mod read;
mod scale;
mod seen;
mod shown;
mod state;
mod time;

#[cfg(test)]
mod tests;

pub use assess::{assess, assess_unreadable, reassess_after};
pub use conditions::kinds;
pub use events::{EventKind, EventNote, events};
pub use seen::{
    Container, Exit, Observation, Pod, PodCondition, PodNote, QueueDepth, Verdict, WorkloadCounts,
};
pub use shown::{Condition, ObjectReference, QueueReference, ScaledObjectReference, Status};
pub use state::State;
