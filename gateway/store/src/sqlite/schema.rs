//! Opening the file: settings, version check, migrations.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Row};

use super::error::{Failure, not_made};
use super::options::SqliteOptions;
use crate::store::StoreError;

/// The steps to the present tables; the number of steps that a file has taken is its `user_version`. Steps are only
/// ever added.
const MIGRATIONS: [&str; 2] = [
    include_str!("../../migrations/sqlite/0001_tables.sql"),
    include_str!("../../migrations/sqlite/0002_lists.sql"),
];
/// Marks the file as ours, kept in `application_id`: "asyg" in ASCII.
const APPLICATION_ID: i64 = 0x6173_7967;

/// What all connections to the file share.
pub(super) fn connect_options(path: &Path, options: &SqliteOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(options.busy_timeout)
        .statement_cache_capacity(128)
        .pragma("temp_store", "MEMORY")
        .pragma("cache_size", "-16384")
        .disable_statement_logging()
}

/// Makes the directory and the file, readable by its owner alone: payloads are customers' data. SQLite gives the files
/// beside it the same mode.
pub(super) fn make_file(path: &Path) -> Result<(), StoreError> {
    if let Some(directory) = path
        .parent()
        .filter(|directory| !directory.as_os_str().is_empty())
    {
        fs::create_dir_all(directory).map_err(|error| not_made(directory, "the directory", &error))?;
    }
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_empty) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(not_made(path, "the file", &error)),
    }
}

/// Opens the connection that writes, and brings the tables to the present version.
pub(super) async fn open_writer(
    path: &Arc<Path>,
    options: &SqliteOptions,
) -> Result<SqliteConnection, StoreError> {
    let told = |error: sqlx::Error| Failure::from(error).told(path);
    let mut connection = connect_options(path, options)
        // A second one would wait for the first at every transaction.
        .pragma("wal_autocheckpoint", "1000")
        .connect()
        .await
        .map_err(told)?;
    check_is_ours(&mut connection, path).await?;
    migrate(&mut connection, path).await?;
    if let Some(most) = options.max_size {
        limit(&mut connection, most).await.map_err(told)?;
    }
    Ok(connection)
}

async fn number(connection: &mut SqliteConnection, sql: &'static str) -> Result<i64, sqlx::Error> {
    sqlx::query(sql).fetch_one(connection).await?.try_get(0)
}

/// Whose it is, its version, and how many tables and indexes there are: all three at one moment, since another process
/// may be making them.
async fn marks(connection: &mut SqliteConnection) -> Result<(i64, i64, i64), sqlx::Error> {
    let mut moment = connection.begin().await?;
    // The moment begins with the first read of a page.
    let tables = number(&mut moment, "SELECT count(*) FROM sqlite_schema").await?;
    let mark = number(&mut moment, "PRAGMA application_id").await?;
    let version = number(&mut moment, "PRAGMA user_version").await?;
    moment.commit().await?;
    Ok((mark, version, tables))
}

/// Refuses a database of another program, and one of a later version of this one.
async fn check_is_ours(connection: &mut SqliteConnection, path: &Arc<Path>) -> Result<(), StoreError> {
    let told = |error: sqlx::Error| Failure::from(error).told(path);
    let (mark, version, tables) = marks(connection).await.map_err(told)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match (mark, version, tables) {
        (0, 0, 0) => Ok(()),
        (APPLICATION_ID, version, _) if (0..=known).contains(&version) => Ok(()),
        (APPLICATION_ID, version, _) => Err(StoreError::Schema(format!(
            "{} has tables of version {version}, and this program knows versions up to {known}: it was used by a newer \
             gateway; run that one, or give another path",
            path.display()
        ))),
        _ => Err(StoreError::Schema(format!(
            "{} is a database of another program; give another path",
            path.display()
        ))),
    }
}

/// Takes the steps that are missing, each in a transaction of its own. Of two processes at once, one waits and then
/// finds nothing to do.
async fn migrate(connection: &mut SqliteConnection, path: &Arc<Path>) -> Result<(), StoreError> {
    let told = |error: sqlx::Error| Failure::from(error).told(path);
    loop {
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(told)?;
        let version = number(&mut transaction, "PRAGMA user_version")
            .await
            .map_err(told)?;
        let Some(step) = usize::try_from(version)
            .ok()
            .and_then(|version| MIGRATIONS.get(version))
        else {
            transaction.rollback().await.map_err(told)?;
            // A newer gateway may have been faster.
            return check_is_ours(connection, path).await;
        };
        sqlx::raw_sql(*step)
            .execute(&mut *transaction)
            .await
            .map_err(told)?;
        let marks = format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {}",
            version + 1
        );
        sqlx::raw_sql(AssertSqlSafe(marks))
            .execute(&mut *transaction)
            .await
            .map_err(told)?;
        transaction.commit().await.map_err(told)?;
    }
}

async fn limit(connection: &mut SqliteConnection, most: u64) -> Result<(), sqlx::Error> {
    let page = number(connection, "PRAGMA page_size").await?;
    let page = u64::try_from(page).unwrap_or(4096).max(1);
    let pages = format!("PRAGMA max_page_count = {}", (most / page).max(1));
    sqlx::raw_sql(AssertSqlSafe(pages)).execute(connection).await?;
    Ok(())
}
