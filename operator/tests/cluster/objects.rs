//! What is written for an actor: as YAML, and on a real API server with KEDA's own definitions.

mod applied;
mod scalers;
mod scenarios;
mod snapshots;
mod workloads;
