//! What went wrong at the file, in words that say what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::store::StoreError;

/// The low byte of an extended result code is the primary one: <https://www.sqlite.org/rescode.html>.
const PRIMARY: i32 = 0xff;

/// What can be done about a result code of SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Busy,
    Full,
    ReadOnly,
    Corrupt,
    NoDatabase,
    CannotOpen,
    InputOutput,
    Refused,
}

impl Class {
    const fn of(code: i32) -> Self {
        match code & PRIMARY {
            5 | 6 => Self::Busy,
            8 => Self::ReadOnly,
            10 => Self::InputOutput,
            11 => Self::Corrupt,
            13 => Self::Full,
            14 => Self::CannotOpen,
            26 => Self::NoDatabase,
            _ => Self::Refused,
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Busy => {
                "another process has kept it locked; is a second gateway, a backup or a shell at work on it?"
            }
            Self::Full => "the disk is full, or the file has reached its limit; make room",
            Self::ReadOnly => {
                "it cannot be written; check the permissions of the file, its -wal and its directory"
            }
            Self::Corrupt => {
                "it is damaged; restore it from a backup, or recover it with `sqlite3 FILE .recover`"
            }
            Self::NoDatabase => "it is no SQLite database; give another path",
            Self::CannotOpen => "it cannot be opened; check the path and its permissions",
            Self::InputOutput => "reading or writing failed; check the disk",
            Self::Refused => "the database refused it",
        }
    }
}

/// An error of the database, with the file it is about. Cheap to clone, so that all who waited for one transaction are
/// told.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {advice} ({source})", path.display())]
struct FileError {
    path: Arc<Path>,
    advice: &'static str,
    source: Arc<sqlx::Error>,
}

/// Why an operation failed, before it is told.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Of SQLite or of sqlx.
    Database(Arc<sqlx::Error>),
    /// A row holds what cannot be there.
    Row(Arc<str>),
    /// A version has moved although nobody else can write: the transaction is begun anew.
    Moved,
    /// The store is closed, or its writer has ended.
    Closed,
    /// What was to be stored cannot be stored.
    Refused(Arc<str>),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl Failure {
    /// A row that was not written by this program.
    pub(super) fn row(what: impl std::fmt::Display) -> Self {
        Self::Row(what.to_string().into())
    }

    /// Whether the same may work in another transaction at once.
    pub(super) fn is_worth_a_retry(&self) -> bool {
        matches!(self, Self::Moved)
    }

    /// The error that callers see.
    pub(super) fn told(self, path: &Arc<Path>) -> StoreError {
        match self {
            Self::Database(source) => of_database(path, source),
            Self::Row(what) => StoreError::Broken(format!("{}: {what}", path.display()).into()),
            Self::Moved => {
                StoreError::Unavailable(format!("{}: a row changes all the time", path.display()).into())
            }
            Self::Closed => StoreError::Unavailable("it is closed".into()),
            Self::Refused(why) => StoreError::Broken((*why).into()),
        }
    }
}

fn of_database(path: &Arc<Path>, source: Arc<sqlx::Error>) -> StoreError {
    let class = match source.as_ref() {
        sqlx::Error::Database(error) => {
            let code = error.code().and_then(|code| code.parse().ok());
            Class::of(code.unwrap_or_default())
        }
        sqlx::Error::PoolTimedOut => Class::Busy,
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => return Failure::Closed.told(path),
        sqlx::Error::Io(_) => Class::InputOutput,
        _ => Class::Refused,
    };
    let error = Box::new(FileError {
        path: Arc::clone(path),
        advice: class.advice(),
        source,
    });
    match class {
        Class::Corrupt | Class::NoDatabase | Class::Refused => StoreError::Broken(error),
        Class::Busy | Class::Full | Class::ReadOnly | Class::CannotOpen | Class::InputOutput => {
            StoreError::Unavailable(error)
        }
    }
}

/// The file or its directory could not be made.
pub(super) fn not_made(path: &Path, what: &str, error: &std::io::Error) -> StoreError {
    let path: PathBuf = path.to_owned();
    StoreError::Unavailable(
        format!(
            "{what} {} cannot be made: {error}; check the path and its permissions",
            path.display()
        )
        .into(),
    )
}
