//! The operator against a real API server, RabbitMQ node and SQS stand-in. One file per topic; every test works in
//! namespaces of its own.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod admission;
mod adopting;
mod api_proxy;
mod changes;
mod deleting;
mod drift;
mod faults;
mod objects;
mod pods;
mod queues;
mod reconcile;
mod setup;
mod steady;
mod takeover;
mod telling;
mod two_clusters;
