//! The part of the settings that configures the tree.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use asya_program::environment::{actor_name, at_least_one, boolean, duration, positive_duration, size, text};
use asya_program::{Expected, Reader};
use asya_sidecar::{Config, Credit, ErrorNames, Protocol, RetryPolicy, Role, RunUntil};

use crate::variables as v;

/// Longest wait that a delayed message can have.
const LONGEST_BACKOFF: Duration = Duration::from_hours(24);

/// The tree's configuration.
pub(super) struct Tree {
    pub(super) config: Config,
    pub(super) reports: bool,
}

/// Reads it; `None` when there is not even a name.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Tree> {
    let name = reader.required(&v::ACTOR_NAME, actor_name);
    let happy_end = reader.get(&v::HAPPY_END, actor_name);
    let error_end = reader.get(&v::ERROR_END, actor_name);
    if happy_end == error_end {
        reader.problem(
            &v::HAPPY_END,
            format!("{happy_end:?} is the end of failed envelopes, too; expected two different actors"),
        );
    }
    let is_end = reader.get(&v::IS_END_ACTOR, boolean);
    // Everything is read before anything is given up, so that all problems are found at once.
    let mut config = Config::new(name.clone().unwrap_or_default(), Role::Step);
    (config.happy_end, config.error_end) = (happy_end, error_end);
    (config.socket_dir, config.socket_name) = socket(reader);
    config.runtime_timeout = reader.get(&v::RUNTIME_TIMEOUT, positive_duration);
    config.runtime_ready_timeout = reader.get(&v::RUNTIME_READY_TIMEOUT, positive_duration);
    config.protocol = reader.get(&v::RUNTIME_PROTOCOL, protocol);
    if let Some(prefetch) = reader.optional(&v::RABBITMQ_PREFETCH, prefetch) {
        config.credit = Credit::Fixed(prefetch);
    }
    config.max_deliveries = reader.get(&v::MAX_DELIVERIES, at_least_one);
    config.max_message_size = reader.get(&v::MAX_MESSAGE_SIZE, size);
    config.max_hops = reader.get(&v::MAX_HOPS, max_hops);
    config.unroutable_patience = reader.get(&v::UNROUTABLE_TIMEOUT, duration);
    config.retry = retries(reader);
    config.run_until = reader.get(&v::RUN_UNTIL, run_until);
    config.actor = name?;
    let reports = set_role(reader, &mut config, is_end);
    Some(Tree { config, reports })
}

/// The role follows from the name (contract data-plane §9). False for an end actor that is neither of the two.
fn set_role(reader: &mut Reader<'_>, config: &mut Config, is_end: bool) -> bool {
    let by_name = if config.actor == config.happy_end {
        Some(Role::HappyEnd)
    } else if config.actor == config.error_end {
        Some(Role::ErrorEnd)
    } else {
        None
    };
    match (is_end, by_name) {
        (true, Some(role)) => config.role = role,
        (true, None) => {
            config.role = Role::HappyEnd; // It publishes nothing, as the two do.
            reader.warn(
                &v::IS_END_ACTOR,
                format!(
                    "{} is neither {} nor {}, so no final status will be reported",
                    config.actor, config.happy_end, config.error_end
                ),
            );
            return false;
        }
        (false, Some(role)) => {
            // As a step it would send what it cannot handle to itself, for ever.
            config.role = role;
            reader.warn(
                &v::IS_END_ACTOR,
                format!(
                    "{} is the name of an end actor, so it runs as one all the same",
                    config.actor
                ),
            );
        }
        (false, None) => {}
    }
    true
}

/// Directory and name of the socket. `ASYA_SOCKET_PATH` gives both; the canonical variables win over it.
fn socket(reader: &mut Reader<'_>) -> (PathBuf, String) {
    let (has_directory, has_name) = (reader.is_set(&v::SOCKET_DIR), reader.is_set(&v::SOCKET_NAME));
    let mut directory: PathBuf = reader.get(&v::SOCKET_DIR, text).into();
    let mut name = reader.get(&v::SOCKET_NAME, file_name);
    if let Some((path_directory, path_name)) = reader.optional(&v::SOCKET_PATH, full_path) {
        if !has_directory {
            directory = path_directory;
        }
        if !has_name {
            name = path_name;
        }
    }
    (directory, name)
}

fn full_path(value: &str) -> Result<(PathBuf, String), Expected> {
    let path = Path::new(value);
    let parts = path.parent().zip(path.file_name().and_then(|name| name.to_str()));
    match parts {
        Some((directory, name)) if path.is_absolute() => Ok((directory.to_owned(), name.to_owned())),
        _ => Err(Expected::new(
            "a full path, for example /var/run/asya/asya-runtime.sock",
        )),
    }
}

fn file_name(value: &str) -> Result<String, Expected> {
    if value.contains('/') {
        return Err(Expected::new("the name of a file without its directory"));
    }
    text(value)
}

fn protocol(value: &str) -> Result<Protocol, Expected> {
    match value {
        "auto" => Ok(Protocol::Auto),
        "v1" => Ok(Protocol::V1),
        _ => Err(Expected::new("auto or v1")),
    }
}

fn run_until(value: &str) -> Result<RunUntil, Expected> {
    match value {
        "stopped" => Ok(RunUntil::Stopped),
        "empty" => Ok(RunUntil::Empty),
        "one" => Ok(RunUntil::One),
        _ => Err(Expected::new("stopped, empty or one")),
    }
}

fn prefetch(value: &str) -> Result<usize, Expected> {
    // As AMQP carries it.
    at_least_one::<u16>(value)
        .map(usize::from)
        .map_err(|_| Expected::new("a whole number from 1 to 65535"))
}

fn max_hops(value: &str) -> Result<u64, Expected> {
    at_least_one(value)
}

fn retries(reader: &mut Reader<'_>) -> RetryPolicy {
    RetryPolicy {
        max_attempts: reader.get(&v::RETRY_MAX_ATTEMPTS, attempts),
        initial_backoff: reader.get(&v::RETRY_INITIAL_BACKOFF, backoff),
        max_backoff: reader.get(&v::RETRY_MAX_BACKOFF, backoff),
        multiplier: reader.get(&v::RETRY_MULTIPLIER, |value| {
            value.parse().map_err(|_| Expected::new("a number of at least 1"))
        }),
        jitter: reader.get(&v::RETRY_JITTER, |value| {
            value.parse().map_err(|_| Expected::new("a number from 0 to 1"))
        }),
        max_duration: reader.optional(&v::RETRY_MAX_DURATION, positive_duration),
        on: reader.get(&v::RETRY_ON, names),
        never_on: reader.get(&v::RETRY_NEVER_ON, names),
    }
}

fn attempts(value: &str) -> Result<NonZeroU32, Expected> {
    value
        .parse()
        .map_err(|_| Expected::new("a whole number above zero"))
}

fn backoff(value: &str) -> Result<Duration, Expected> {
    match duration(value) {
        Ok(wait) if wait <= LONGEST_BACKOFF => Ok(wait),
        Ok(_) => Err(Expected::new("at most 24h")),
        Err(expected) => Err(expected),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the form of all parsers")]
fn names(value: &str) -> Result<ErrorNames, Expected> {
    match value.parse() {
        Ok(names) => Ok(names),
        Err(never) => match never {},
    }
}
