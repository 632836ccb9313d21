//! The operator: an `AsyncActor` becomes a workload with a sidecar, a queue, an autoscaler and a truthful status.
//!
//! What it is: pure functions from ([`resource::Actor`], [`registry`], [`desired::Facts`]) to the objects that should
//! exist ([`desired`]) and from what was seen to the status that is shown ([`status`]), and a controller that makes it
//! so ([`control`]) on a Kubernetes API server and, through [`queues`], on brokers. What it is not: it moves no
//! messages, stores no results, and never reads what a message says.
//!
//! Start reading at [`resource`], then [`desired::objects`], [`status::assess`], and [`control`] for the order in which
//! things happen.
//!
//! The rules come from the operator contract; a comment names its section ("contract operator §6.1") or the ruling.

pub mod control;
pub mod crd;
pub mod desired;
pub mod program;
pub mod queues;
pub mod registry;
pub mod report;
pub mod resource;
pub mod status;
pub mod yaml;
