//! The environment as one typed value, or everything that is wrong with it at once.
//!
//! What it is: a function from variables, and the files that they name, to [`Settings`]. What it is not: it connects
//! to nothing.

mod auth;
mod database;
mod listener;
mod queues;
mod values;

use std::path::PathBuf;

use asya_gateway_store::Retention;
use asya_manifest::Problems;
use asya_program::environment::{at_least_one, listen_address, size, text};
use asya_program::logging::LogSettings;
use asya_program::{Environment, Reader, Reading, misspelled};

use super::variables as v;
use crate::core::{Patience, ToolBook};
use crate::settings::{Database, Limits, Settings};

/// What the program was told.
#[derive(Debug)]
pub(super) struct Told {
    /// The variables. Settings are there only if the tools are good as well; the mistakes are those of variables.
    pub(super) reading: Reading<Prepared>,
    /// What is wrong with the tools, if anything.
    pub(super) tools: Problems,
}

/// The settings, and what only the program needs.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) settings: Settings,
    /// Where metrics are served besides, as `HOST:PORT` or `:PORT`.
    pub(super) metrics_address: Option<String>,
}

/// Reads everything.
pub(super) fn read(environment: &Environment<'_>) -> Told {
    let mut reader = Reader::new(environment);
    let log = LogSettings::read(&mut reader, &v::LOG_LEVEL, &v::LOG_FORMAT);
    let listen = listener::listen(&mut reader);
    let tls = listener::tls(&mut reader);
    let auth = auth::read(&mut reader, listen);
    let database = database::read(&mut reader);
    let queues = queues::read(&mut reader);
    let limits = Limits {
        max_body: reader.get(&v::MAX_BODY, size),
        max_streams: reader.get(&v::MAX_STREAMS, max_streams),
    };
    let retention = Retention {
        updates: reader.get(&v::RETENTION_UPDATES, values::retention),
        envelopes: reader.get(&v::RETENTION_ENVELOPES, values::retention),
    };
    let metrics_address = reader.optional(&v::METRICS_ADDR, listen_address);
    let (tools, mistakes) = tools(&mut reader);
    let Reader {
        problems,
        mut warnings,
        set,
        ..
    } = reader;
    warnings.extend(misspelled(environment, &v::TABLE));
    let settings = match (auth, database, queues, tools) {
        (Some(auth), Some(database), Some(queues), Some(tools)) if problems.is_empty() => Ok(Prepared {
            settings: Settings {
                listen,
                tls,
                database,
                queues,
                tools,
                auth,
                limits,
                retention,
                patience: Patience::default(),
                metrics: None,
            },
            metrics_address,
        }),
        _ => Err(problems),
    };
    Told {
        reading: Reading {
            settings,
            warnings,
            log,
            set,
        },
        tools: mistakes,
    }
}

/// Reads what `migrate` needs: the database alone.
pub(super) fn read_database(environment: &Environment<'_>) -> Reading<Database> {
    let mut reader = Reader::new(environment);
    let log = LogSettings::read(&mut reader, &v::LOG_LEVEL, &v::LOG_FORMAT);
    let database = database::read(&mut reader);
    let Reader {
        problems,
        warnings,
        set,
        ..
    } = reader;
    let settings = match database {
        Some(database) if problems.is_empty() => Ok(database),
        _ => Err(problems),
    };
    Reading {
        settings,
        warnings,
        log,
        set,
    }
}

/// The tools, or what is wrong with them. Without a path there are none (contract gateway §2.6).
fn tools(reader: &mut Reader<'_>) -> (Option<ToolBook>, Problems) {
    let Some(path) = reader.optional(&v::CONFIG_PATH, text) else {
        return (Some(ToolBook::empty()), Problems::default());
    };
    match ToolBook::open(&PathBuf::from(path)) {
        Ok(tools) => (Some(tools), Problems::default()),
        Err(problems) => (None, problems),
    }
}

fn max_streams(value: &str) -> Result<usize, asya_program::Expected> {
    at_least_one::<u32>(value).map(|streams| usize::try_from(streams).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
