//! The operator: what a thousand actors cost, how soon a change takes effect, and how fast status reaches a gateway.
//!
//! Everything is real but the nodes: an API server, its etcd, RabbitMQ, and the programs.

use super::{Options, Outcome, Section};

pub mod cluster;
pub mod metrics;
pub mod reports;
pub mod site;

/// Measures one section.
pub(super) async fn section(
    section: Section,
    options: &Options,
    say: &dyn Fn(&str),
) -> anyhow::Result<Outcome> {
    match section {
        Section::Operator => cluster::measure(options, say).await,
        _ => reports::measure(options, say).await,
    }
}
