//! The sidecar of one actor: it moves messages between a queue and a runtime and never loses one.
//!
//! What it is: a supervision tree of restartable actors (consumer, router, slots, publisher, acker, probe, reaper)
//! around a [ledger](ledger) of unsettled deliveries, and pure functions that decide what happens to a message. What
//! it is not: it knows no broker (that is `asya-transport`), no Kubernetes, no HTTP, and it never looks into a payload.
//!
//! Start reading at [`Sidecar::start`], then the state diagram in the ledger, then [`routing`]. The tree is in
//! [`tree`]; what becomes of a message in which case is in [`admission`], [`routing`] and [`publishing`]. How a runtime
//! of protocol v2 is talked to is in [`session`] and [`worker`], v1 in the slot's actor.
//!
//! The promise: a delivery is acknowledged only after every message that it led to is confirmed by the broker. A
//! crash at any point leads to a redelivery, and the repeated messages carry the same ids.

mod actors;
mod admission;
mod condemn;
mod config;
mod context;
mod credit;
mod death;
mod errors;
mod finish;
#[cfg(feature = "gateway")]
pub mod gateway;
mod ledger;
mod meters;
mod notices;
mod outbox;
mod plan;
mod publishing;
mod pulse;
mod report;
mod retry;
mod routing;
mod session;
mod sidecar;
mod supervision;
mod supply;
mod tree;
mod tuning;
mod worker;

pub use config::{Config, Credit, Protocol, Role, RunUntil};
pub use context::{Fault, Faults, Part, Point, QueueState, RuntimeControl};
pub use ledger::Stage;
pub use meters::{METRICS, Meters, Metric, MetricKind, NAMESPACE};
pub use notices::{CancelNotice, Notices};
pub use pulse::Steps;
pub use report::{Event, FinalReport, FinalStatus, NoReporter, Progress, ReportError, Reporter};
pub use retry::{BadRetryValue, ErrorNames, Jitter, Multiplier, RetryPolicy};
pub use sidecar::{Drained, Monitor, Sidecar, SidecarBuilder, Snapshot, StartError};
