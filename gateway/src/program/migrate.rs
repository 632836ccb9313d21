//! `asya-gateway migrate`: the tables of the database.

use std::fmt::Write as _;

use asya_gateway_store::postgres::{Address, PostgresStore};
use asya_program::{Environment, Exit, logging, print};
use chrono::SecondsFormat;

use super::environment;
use crate::settings::Database;

/// Migrates, or shows how far that is. The rest of the configuration may be absent or wrong.
pub(super) fn run(environment: &Environment<'_>, status: bool) -> Exit {
    let reading = environment::read_database(environment);
    let _writing = logging::start(reading.log, None);
    let Some(database) = reading.settings() else {
        return Exit::CannotGoOn;
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("failed to start the async runtime: {error}");
            return Exit::CannotGoOn;
        }
    };
    runtime.block_on(async {
        match database {
            Database::Sqlite(path) => {
                tracing::info!(path = %path.display(), "SQLite is brought up to date whenever a gateway opens it");
                Exit::Success
            }
            Database::Postgres(options) if status => show(&options.address).await,
            Database::Postgres(options) => migrate(&options.address).await,
        }
    })
}

async fn migrate(address: &Address) -> Exit {
    match PostgresStore::migrate(address).await {
        Ok((before, after)) if before == after => {
            tracing::info!(database = %address, version = after, "the tables were up to date");
            Exit::Success
        }
        Ok((before, after)) => {
            tracing::info!(database = %address, before, after, "the tables are up to date");
            Exit::Success
        }
        Err(error) => {
            tracing::error!("cannot migrate {address}: {error}");
            Exit::CannotGoOn
        }
    }
}

/// One line for each step; fails when one is missing.
async fn show(address: &Address) -> Exit {
    let migrations = match PostgresStore::status(address).await {
        Ok(migrations) => migrations,
        Err(error) => {
            tracing::error!("cannot look into {address}: {error}");
            return Exit::CannotGoOn;
        }
    };
    let mut lines = String::new();
    for migration in &migrations {
        let state = match migration.applied_at {
            Some(at) => at.to_rfc3339_opts(SecondsFormat::Secs, true),
            None => "not yet".to_owned(),
        };
        // Writing to a text cannot fail.
        let _ = writeln!(lines, "{} {} {state}", migration.version, migration.name);
    }
    let printed = print(&lines);
    if migrations.iter().any(|migration| migration.applied_at.is_none()) {
        return Exit::CannotGoOn;
    }
    printed
}
