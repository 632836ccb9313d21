//! The environment as one typed value, or everything that is wrong with it at once.
//!
//! What it is: a pure function from variables to [`Settings`]. What it is not: it connects to nothing.

mod broker;
mod custom_metrics;
mod gateway;
mod tree;

use std::time::Duration;

use asya_program::environment::{boolean, duration, listen_address, namespace};
use asya_program::logging::LogSettings;
use asya_program::{Environment, Expected, Reader, misspelled};
use asya_sidecar::Config;
use asya_sidecar::gateway::GatewayOptions;
use asya_transport::rabbitmq::RabbitMqOptions;

use crate::variables as v;

pub(crate) use custom_metrics::{CustomKind, CustomMetric};

/// Everything that configures the program.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The tree.
    pub(crate) config: Config,
    /// Whether this end actor is one of the two whose word is final (contract data-plane §9).
    pub(crate) reports: bool,
    /// The broker.
    pub(crate) rabbitmq: RabbitMqOptions,
    /// Whether the address of the broker was given as a whole.
    pub(crate) is_url: bool,
    /// The gateway that is told, if any.
    pub(crate) gateway: Option<GatewayOptions>,
    /// Where metrics and health are served, if at all.
    pub(crate) listen: Option<String>,
    /// What the names of metrics begin with.
    pub(crate) namespace: String,
    /// Metrics of the user's.
    pub(crate) custom_metrics: Vec<CustomMetric>,
    /// How long running calls may take when the sidecar is asked to end.
    pub(crate) grace: Duration,
}

/// What became of reading the environment.
pub(crate) type Reading = asya_program::Reading<Settings>;

/// Reads the environment.
pub(crate) fn read(environment: &Environment<'_>) -> Reading {
    let mut reader = Reader::new(environment);
    let log = LogSettings::read(&mut reader, &v::LOG_LEVEL, &v::LOG_FORMAT);
    reader.get(&v::TRANSPORT, transport);
    let tree = tree::read(&mut reader);
    let rabbitmq = broker::read(&mut reader);
    let is_url = reader.is_set(&v::RABBITMQ_URL);
    let gateway = gateway::read(&mut reader);
    let enabled = reader.get(&v::METRICS_ENABLED, boolean);
    let listen = reader.get(&v::METRICS_ADDR, listen_address);
    let namespace = reader.get(&v::METRICS_NAMESPACE, namespace);
    let custom_metrics = custom_metrics::read(&mut reader);
    let grace = reader.get(&v::SHUTDOWN_GRACE, duration);
    let mut warnings = reader.warnings;
    warnings.extend(misspelled(environment, &v::TABLE));
    let settings = match (tree, rabbitmq, custom_metrics) {
        (Some(tree), Some(rabbitmq), Some(custom_metrics)) if reader.problems.is_empty() => Ok(Settings {
            gateway: gateway.map(|gateway| GatewayOptions {
                actor: tree.config.actor.clone(),
                ..gateway
            }),
            config: tree.config,
            reports: tree.reports,
            rabbitmq,
            is_url,
            listen: enabled.then_some(listen),
            namespace,
            custom_metrics,
            grace,
        }),
        _ => Err(reader.problems),
    };
    Reading {
        settings,
        warnings,
        log,
        set: reader.set,
    }
}

fn transport(value: &str) -> Result<(), Expected> {
    match value {
        "rabbitmq" => Ok(()),
        "sqs" => Err(Expected::new("rabbitmq").because("is not in this build yet")),
        _ => Err(Expected::new("rabbitmq")),
    }
}

#[cfg(test)]
mod tests;
