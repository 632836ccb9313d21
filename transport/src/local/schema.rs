//! Opening the file: settings, version check, tables.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::error::OpenError;
use super::options::{Durability, LocalOptions};

/// Version of the tables below, kept in `user_version`.
const SCHEMA_VERSION: i64 = 1;
/// Marks the file as ours, kept in `application_id`: "asya" in ASCII.
const APPLICATION_ID: i64 = 0x6173_7961;
const PAGE_SIZE: u64 = 4096;

/// Bodies have a table of their own, because an update rewrites its whole row: a claim or a retry must not write
/// 64 MiB again. A message is *ready* when it has neither lease nor `visible_at`, *delayed* when it has a
/// `visible_at` (Unix time in milliseconds), *unsettled* when it has a lease. The partial indexes follow these three
/// states, so each operation touches only rows of the state it looks for. `messages_ready` names two columns that are
/// always null in it, so that counting needs no look at the table; its entries are in the order of `id`, as every
/// index is within equal columns.
const TABLES: &str = "
    CREATE TABLE queues (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY,
        queue INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        size INTEGER NOT NULL,
        visible_at INTEGER,
        deliveries INTEGER NOT NULL DEFAULT 0,
        lease_owner TEXT,
        lease INTEGER
    ) STRICT;
    CREATE TABLE bodies (
        id INTEGER PRIMARY KEY,
        body BLOB NOT NULL
    ) STRICT;
    CREATE INDEX messages_ready ON messages (queue, lease_owner, visible_at) WHERE lease_owner IS NULL AND visible_at IS NULL;
    CREATE INDEX messages_delayed ON messages (queue, visible_at) WHERE visible_at IS NOT NULL;
    CREATE INDEX messages_leased ON messages (queue, lease_owner) WHERE lease_owner IS NOT NULL;
    CREATE VIEW depths AS
    WITH clock (now) AS MATERIALIZED
        (SELECT CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))
    SELECT q.name AS queue,
        (SELECT count(*) FROM messages WHERE queue = q.id AND lease_owner IS NULL AND visible_at IS NULL)
        + (SELECT count(*) FROM messages WHERE queue = q.id AND visible_at <= clock.now) AS ready,
        (SELECT count(*) FROM messages WHERE queue = q.id AND lease_owner IS NOT NULL) AS unsettled,
        (SELECT count(*) FROM messages WHERE queue = q.id AND visible_at > clock.now) AS delayed
    FROM queues AS q, clock;
    CREATE VIEW contents AS
    SELECT m.id, q.name AS queue, m.message_id,
        CASE WHEN m.lease_owner IS NOT NULL THEN 'unsettled'
             WHEN m.visible_at IS NOT NULL THEN 'delayed' ELSE 'ready' END AS state,
        m.deliveries, m.size, datetime(m.visible_at / 1000, 'unixepoch') AS visible_at, m.lease_owner,
        CAST(b.body AS TEXT) AS body
    FROM messages AS m JOIN queues AS q ON q.id = m.queue JOIN bodies AS b ON b.id = m.id;
";

/// Opens the file for the writer thread, creating or checking the tables.
pub(super) fn open_writer(path: &Path, options: &LocalOptions) -> Result<Connection, OpenError> {
    let mut connection = connect(path).map_err(|error| OpenError::from_sqlite(path, error))?;
    check_version(&connection, path)?;
    set_up(&mut connection, options).map_err(|error| OpenError::from_sqlite(path, error))?;
    // Another process may have created the tables since the first look; a version it does not share is found here.
    check_version(&connection, path)?;
    Ok(connection)
}

/// Opens the file a second time for counting, beside the writer.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = connect(path)?;
        connection.pragma_update(None, "query_only", true)?;
        Ok(connection)
    };
    open().map_err(|error| OpenError::from_sqlite(path, error))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait_for_lock))?;
    connection.set_prepared_statement_cache_capacity(32);
    // Without this, SQLite plans a prepared statement anew when a bound value might change its plan; ours never do.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Waits for the write lock of another process: short naps first, since a transaction takes about a millisecond,
/// and no more after about ten seconds.
fn wait_for_lock(attempt: i32) -> bool {
    let nap = match attempt {
        ..20 => Duration::from_micros(200),
        20..200 => Duration::from_millis(1),
        200..1_200 => Duration::from_millis(10),
        _ => return false,
    };
    thread::sleep(nap);
    true
}

fn check_version(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let read = || -> rusqlite::Result<(i64, i64, i64)> {
        Ok((
            connection.pragma_query_value(None, "application_id", |row| row.get(0))?,
            connection.pragma_query_value(None, "user_version", |row| row.get(0))?,
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
        ))
    };
    match read().map_err(|error| OpenError::from_sqlite(path, error))? {
        (0, 0, 0) => Ok(()),
        (APPLICATION_ID, found, _) if found > SCHEMA_VERSION => Err(OpenError::NewerSchema {
            path: path.to_owned(),
            found,
            supported: SCHEMA_VERSION,
        }),
        (APPLICATION_ID, _, _) => Ok(()),
        _ => Err(OpenError::ForeignDatabase {
            path: path.to_owned(),
        }),
    }
}

fn set_up(connection: &mut Connection, options: &LocalOptions) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_SIZE.cast_signed())?;
    use_write_ahead_log(connection)?;
    let synchronous = match options.durability {
        Durability::Process => "NORMAL",
        Durability::Power => "FULL",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    // Negative means KiB. Holds the pages between publish and ack of what is in flight.
    connection.pragma_update(None, "cache_size", -32_768)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024)?;
    if let Some(bytes) = options.max_file_size {
        let pages = i64::try_from((bytes / PAGE_SIZE).max(1)).unwrap_or(i64::MAX);
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    create_tables(connection)
}

/// Switching the journal mode ignores the busy handler, so that processes that open a new file together need this.
fn use_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

fn create_tables(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    }
    transaction.commit()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An empty queue file in memory, with the real tables.
    pub(in crate::local) fn in_memory() -> Connection {
        let mut connection = Connection::open_in_memory().unwrap();
        set_up(&mut connection, &LocalOptions::default()).unwrap();
        connection
    }

    #[test]
    fn opening_twice_leaves_the_tables_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("queue.db");
        let first = open_writer(&path, &LocalOptions::default()).unwrap();
        first
            .execute("INSERT INTO queues (name) VALUES ('asya-a')", [])
            .unwrap();
        let second = open_writer(&path, &LocalOptions::default()).unwrap();
        let names: i64 = second
            .query_row("SELECT count(*) FROM queues", [], |row| row.get(0))
            .unwrap();
        assert_eq!(names, 1);
        let mode: String = second
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn several_threads_may_create_the_file_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("queue.db");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| open_writer(&path, &LocalOptions::default()).unwrap());
            }
        });
    }

    #[test]
    fn durability_reaches_sqlite() {
        for (durability, expected) in [(Durability::Process, 1), (Durability::Power, 2)] {
            let directory = tempfile::tempdir().unwrap();
            let options = LocalOptions {
                durability,
                ..LocalOptions::default()
            };
            let connection = open_writer(&directory.path().join("queue.db"), &options).unwrap();
            let level: i64 = connection
                .pragma_query_value(None, "synchronous", |row| row.get(0))
                .unwrap();
            assert_eq!(level, expected);
        }
    }
}
