//! Where envelopes are kept.

use std::path::PathBuf;
use std::time::Duration;

use asya_gateway_store::postgres::{Address, AtStart, Pool, PostgresOptions};
use asya_program::environment::{boolean, duration, text};
use asya_program::{Expected, Reader};

use super::super::variables as v;
use crate::settings::{Database, Settings};

/// What `ASYA_DATABASE_URL` names.
enum Named {
    Sqlite(PathBuf),
    Postgres(Box<Address>),
}

/// Reads it; `None` when the address is bad.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Database> {
    let state_dir = PathBuf::from(reader.get(&v::STATE_DIR, text));
    let migrate = reader.get(&v::DATABASE_MIGRATE, boolean);
    let mirror = reader.get(&v::DATABASE_MIRROR, boolean);
    let max_connections = reader.get(&v::DB_MAX_CONNS, connections);
    let min_connections = reader.get(&v::DB_MIN_CONNS, spare_connections);
    let max_lifetime = reader.get(&v::DB_MAX_CONN_LIFETIME, age);
    let max_idle = reader.get(&v::DB_MAX_CONN_IDLE_TIME, age);
    if !reader.is_set(&v::DATABASE_URL) {
        return Some(Database::Sqlite(Settings::database_file(&state_dir)));
    }
    match reader.optional(&v::DATABASE_URL, named)? {
        Named::Sqlite(path) => Some(Database::Sqlite(path)),
        Named::Postgres(address) => {
            let mut options = PostgresOptions::new(*address);
            options.pool = Pool {
                max_connections,
                min_connections: min_connections.min(max_connections),
                max_lifetime,
                max_idle,
            };
            options.mirror = mirror;
            options.at_start = if migrate { AtStart::Migrate } else { AtStart::Check };
            Some(Database::Postgres(Box::new(options)))
        }
    }
}

fn named(value: &str) -> Result<Named, Expected> {
    let expected = || {
        Expected::new("postgres://USER:PASSWORD@HOST:PORT/DATABASE, host=… dbname=… user=…, or sqlite://PATH")
    };
    if let Some(path) = value.strip_prefix("sqlite:") {
        return match path.strip_prefix("//") {
            Some(path) if !path.is_empty() && !path.ends_with('/') => Ok(Named::Sqlite(path.into())),
            _ => Err(expected().because("names no file")),
        };
    }
    match Address::parse(value) {
        Ok(address) => Ok(Named::Postgres(Box::new(address))),
        Err(error) => Err(expected().because(format!("cannot be used: {error}"))),
    }
}

fn connections(value: &str) -> Result<u32, Expected> {
    match value.parse() {
        Ok(number @ 1..=1000) => Ok(number),
        _ => Err(Expected::new("a whole number from 1 to 1000")),
    }
}

fn spare_connections(value: &str) -> Result<u32, Expected> {
    match value.parse() {
        Ok(number @ 0..=1000) => Ok(number),
        _ => Err(Expected::new("a whole number from 0 to 1000")),
    }
}

/// A time after which a connection is replaced; 0 is never.
fn age(value: &str) -> Result<Option<Duration>, Expected> {
    Ok(Some(duration(value)?).filter(|age| !age.is_zero()))
}
