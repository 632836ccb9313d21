//! The environment as one typed value, or everything that is wrong with it at once.
//!
//! What it is: a pure function from variables to [`Settings`]. What it is not: it connects to nothing.

mod broker;
mod custom_metrics;
mod gateway;
mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use asya_sidecar::Config;
use asya_sidecar::gateway::GatewayOptions;
use asya_transport::rabbitmq::RabbitMqOptions;

use crate::environment::{
    Environment, Expected, Problem, Reader, boolean, duration, listen_address, misspelled, namespace,
};
use crate::logging::{Format, Level};
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

/// How log lines look. It is known even when nothing else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub(crate) level: Level,
    /// `None`: whatever suits the place where they go.
    pub(crate) format: Option<Format>,
}

/// What became of reading the environment.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The settings, unless there are problems.
    pub(crate) settings: Result<Settings, Vec<Problem>>,
    /// What is odd, and what holds instead.
    pub(crate) warnings: Vec<Problem>,
    /// How to say it.
    pub(crate) log: LogSettings,
    /// The variables that are set, with values that may be shown.
    pub(crate) set: BTreeMap<&'static str, String>,
}

/// Reads the environment.
pub(crate) fn read(environment: &Environment<'_>) -> Reading {
    let mut reader = Reader::new(environment);
    let log = LogSettings {
        level: reader.get(&v::LOG_LEVEL, log_level),
        format: reader.optional(&v::LOG_FORMAT, log_format),
    };
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
    warnings.extend(misspelled(environment));
    let settings = match (tree, rabbitmq, custom_metrics) {
        (Some(tree), Some(rabbitmq), Some(custom_metrics)) if reader.problems.is_empty() => Ok(Settings {
            config: tree.config,
            reports: tree.reports,
            rabbitmq,
            is_url,
            gateway,
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

fn log_level(value: &str) -> Result<Level, Expected> {
    match value.to_ascii_uppercase().as_str() {
        "DEBUG" => Ok(Level::Debug),
        "INFO" => Ok(Level::Info),
        "WARN" | "WARNING" => Ok(Level::Warn),
        "ERROR" => Ok(Level::Error),
        _ => Err(Expected::new("DEBUG, INFO, WARN or ERROR")),
    }
}

fn log_format(value: &str) -> Result<Format, Expected> {
    match value.to_ascii_lowercase().as_str() {
        "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        "pretty" => Ok(Format::Pretty),
        _ => Err(Expected::new("json, text or pretty")),
    }
}

#[cfg(test)]
mod tests;
