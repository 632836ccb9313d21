//! The environment and the flags as one typed value, or everything that is wrong with them at once.
//!
//! What it is: a function from variables, the files that they name, and flags to [`Prepared`]. What it is not: it
//! connects to nothing.

mod script;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use asya_program::environment::{boolean, duration, text};
use asya_program::logging::{Format, Level, LogSettings};
use asya_program::{Environment, Reader, Reading, misspelled};

use super::arguments::Flags;
use super::variables as v;
use crate::desired::{Defaults, pod};
use crate::registry::{self, Registry};
use crate::report::{GatewayAddress, GatewayToken};

/// What holds when `ASYA_QUEUE_HEALTH_CHECK_INTERVAL` cannot be read (contract operator §3.2).
const UNREADABLE_INTERVAL: Duration = Duration::from_mins(5);

/// All that the program was told.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Namespaces to watch; none means all.
    pub(super) namespaces: Vec<String>,
    /// The namespace that gets the script even without actors.
    pub(super) runtime_namespace: String,
    pub(super) lease_namespace: Option<String>,
    pub(super) concurrency: u16,
    pub(super) queue_check_interval: Option<Duration>,
    pub(super) status_refresh: Duration,
    pub(super) rollouts: u32,
    pub(super) cluster: Option<String>,
    /// Certificate authorities that brokers may show beside those of the system.
    pub(super) ca_file: Option<PathBuf>,
    /// Whom to tell of every actor.
    pub(super) gateway: Option<GatewayAddress>,
    pub(super) gateway_token: Option<GatewayToken>,
    pub(super) registry: Arc<Registry>,
    pub(super) defaults: Arc<Defaults>,
}

/// Reads everything.
pub(super) fn read(environment: &Environment<'_>, flags: &Flags) -> Reading<Prepared> {
    let mut reader = Reader::new(environment);
    let log = log_settings(&mut reader, flags);
    let registry = transports(&mut reader);
    let prepared = Prepared {
        namespaces: reader
            .optional(&v::WATCH_NAMESPACES, values::namespaces)
            .unwrap_or_default(),
        runtime_namespace: runtime_namespace(&mut reader, flags),
        lease_namespace: reader.optional(&v::POD_NAMESPACE, values::namespace),
        concurrency: concurrency(&mut reader, flags),
        queue_check_interval: queue_check_interval(&mut reader),
        status_refresh: reader.get(&v::STATUS_REFRESH, values::refresh),
        rollouts: reader.get(&v::MAX_ROLLOUTS, asya_program::environment::at_least_one),
        cluster: reader.optional(&v::CLUSTER_NAME, values::cluster),
        ca_file: ca_file(&mut reader),
        gateway: reader.optional(&v::GATEWAY_URL, values::gateway),
        gateway_token: gateway_token(&mut reader),
        registry: Arc::new(registry),
        defaults: Arc::new(defaults(&mut reader, environment)),
    };
    let _kubeconfig = reader.optional(&v::KUBECONFIG, text);
    if reader.is_set(&v::RUNTIME_GITHUB_RELEASE) {
        reader.warn(
            &v::RUNTIME_GITHUB_RELEASE,
            "without effect; the script of this build is used",
        );
    }
    let Reader {
        problems,
        mut warnings,
        set,
        ..
    } = reader;
    warnings.extend(misspelled(environment, &v::TABLE));
    let settings = if problems.is_empty() {
        Ok(prepared)
    } else {
        Err(problems)
    };
    Reading {
        settings,
        warnings,
        log,
        set,
    }
}

/// Flags win over variables.
fn log_settings(reader: &mut Reader<'_>, flags: &Flags) -> LogSettings {
    let mut log = LogSettings::read(reader, &v::LOG_LEVEL, &v::LOG_FORMAT);
    if flags.zap_devel == Some(true) {
        log = LogSettings {
            level: Level::Debug,
            format: Some(Format::Pretty),
        };
    }
    if let Some(level) = flags.zap_log_level {
        log.level = level.0;
    }
    if let Some(encoder) = flags.zap_encoder {
        log.format = Some(encoder.0);
    }
    log
}

fn transports(reader: &mut Reader<'_>) -> Registry {
    let Some(config) = reader.optional(&v::TRANSPORT_CONFIG, text) else {
        return Registry::default();
    };
    match registry::read(&config) {
        Ok((registry, warnings)) => {
            for line in warnings {
                reader.warn(&v::TRANSPORT_CONFIG, line);
            }
            registry
        }
        Err(problems) => {
            for line in problems {
                reader.problem(&v::TRANSPORT_CONFIG, line);
            }
            Registry::default()
        }
    }
}

fn runtime_namespace(reader: &mut Reader<'_>, flags: &Flags) -> String {
    let told = reader.get(&v::RUNTIME_NAMESPACE, values::namespace);
    match flags.runtime_namespace.as_deref().map(values::namespace) {
        None => told,
        Some(Ok(name)) => name,
        Some(Err(expected)) => {
            let text = format!("--runtime-namespace cannot be used; expected {}", expected.what);
            reader.problem(&v::RUNTIME_NAMESPACE, text);
            told
        }
    }
}

fn concurrency(reader: &mut Reader<'_>, flags: &Flags) -> u16 {
    let told = reader.get(&v::MAX_CONCURRENT_RECONCILES, values::whole);
    let number = flags.max_concurrent_reconciles.unwrap_or(told).max(1);
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn queue_check_interval(reader: &mut Reader<'_>) -> Option<Duration> {
    let read = reader.optional(&v::QUEUE_HEALTH_CHECK_INTERVAL, |value| Ok(duration(value).ok()))?;
    let interval = read.unwrap_or_else(|| {
        let text = "no duration such as 30s, 5m or 1h; every 5m instead";
        reader.warn(&v::QUEUE_HEALTH_CHECK_INTERVAL, text);
        UNREADABLE_INTERVAL
    });
    if interval.is_zero() {
        None
    } else {
        Some(interval.max(Duration::from_secs(1)))
    }
}

fn ca_file(reader: &mut Reader<'_>) -> Option<PathBuf> {
    let path = PathBuf::from(reader.optional(&v::RABBITMQ_CA_FILE, text)?);
    // Only to find out now that it can be read.
    reader.file(&v::RABBITMQ_CA_FILE, &path).map(|_| path)
}

fn gateway_token(reader: &mut Reader<'_>) -> Option<GatewayToken> {
    let token = reader.optional(&v::GATEWAY_TOKEN, values::token);
    let Some(path) = reader.optional(&v::GATEWAY_TOKEN_FILE, text) else {
        return token;
    };
    if reader.is_set(&v::GATEWAY_TOKEN) {
        let text = format!(
            "{} is set as well; expected one of the two",
            v::GATEWAY_TOKEN.name
        );
        reader.problem(&v::GATEWAY_TOKEN_FILE, text);
    }
    let content = reader.file(&v::GATEWAY_TOKEN_FILE, Path::new(&path))?;
    GatewayToken::file(&path, &content)
        .map_err(|error| reader.problem(&v::GATEWAY_TOKEN_FILE, format!("{path}: {error}")))
        .ok()
}

fn defaults(reader: &mut Reader<'_>, environment: &Environment<'_>) -> Defaults {
    let disabled = reader.optional(&v::DISABLE_QUEUE_MANAGEMENT, text);
    if disabled
        .as_ref()
        .is_some_and(|value| value != "true" && value != "false")
    {
        reader.warn(
            &v::DISABLE_QUEUE_MANAGEMENT,
            "without effect; only true, in small letters, disables it",
        );
    }
    // A bad one is told where the address is read; sidecars then get none either.
    let is_usable = |url: &str| Ok(values::gateway(url).is_ok().then(|| url.to_owned()));
    let gateway_url = reader.optional(&v::GATEWAY_URL, is_usable).flatten();
    Defaults {
        sidecar_image: reader.get(&v::SIDECAR_IMAGE, text),
        sidecar_resources: reader.optional(&v::SIDECAR_RESOURCES, values::resources),
        sidecar_security: pod::hardened(),
        sidecar_mode: reader.get(&v::SIDECAR_MODE, values::sidecar_mode),
        gateway_url: gateway_url.unwrap_or_default(),
        script: script::choose(reader, environment),
        disruption_budgets: reader.get(&v::DISRUPTION_BUDGETS, boolean),
        manages_queues: disabled.as_deref() != Some("true"),
    }
}

#[cfg(test)]
mod tests;
