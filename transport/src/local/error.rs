//! What can go wrong with the queue file, in words for the person who has to mend it.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;

/// Why a queue directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory, or a file in it, cannot be created or written.
    #[error(
        "cannot write the queue directory {}: {source}; give this user write permission or choose another directory",
        path.display()
    )]
    NotWritable {
        /// The directory or file concerned.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: super::BoxError,
    },
    /// The file is there, but it is not a database, or it is damaged.
    #[error(
        "{} is not a usable queue file: {source}; move it and its -wal and -shm files away to start with empty \
         queues, or restore a copy",
        path.display()
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is a sound SQLite database that some other program made.
    #[error(
        "{} is an SQLite database of another program; nothing in it was changed, choose another directory",
        path.display()
    )]
    ForeignDatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file was made by a newer version of this program.
    #[error(
        "{} has schema version {found}, but this program knows versions up to {supported}; use the newer program, \
         or choose another directory",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: i64,
        /// The version of this program.
        supported: i64,
    },
    /// The configured message size is more than SQLite stores in one value.
    #[error("a message size limit of {asked} bytes is not possible, the largest is {largest} bytes")]
    MessageSize {
        /// The configured limit in bytes.
        asked: usize,
        /// The largest limit in bytes.
        largest: usize,
    },
    /// Anything else that SQLite reports.
    #[error("cannot open the queue file {}: {source}", path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The system gave no thread.
    #[error("cannot start the writer thread of the queue: {0}")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    /// Sorts what SQLite said while opening `path`.
    pub(super) fn from_sqlite(path: &std::path::Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Self::NotADatabase { path, source },
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Self::NotWritable {
                    path,
                    source: Box::new(source),
                }
            }
            _ => Self::Sqlite { path, source },
        }
    }
}

/// Why the opened queue could not do its work; the cause inside the `Unavailable` errors of the local transport.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk, or [`max_file_size`](super::LocalOptions::max_file_size), is used up. Mends itself once there is
    /// space again.
    #[error("no space for messages in {}: free disk space or raise the file size limit", path.display())]
    Full {
        /// The queue file.
        path: Arc<PathBuf>,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Another process held the write lock for too long.
    #[error("another process keeps {} locked", path.display())]
    Busy {
        /// The queue file.
        path: Arc<PathBuf>,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Anything else that SQLite reports.
    #[error("queue file {}: {source}", path.display())]
    Failed {
        /// The queue file.
        path: Arc<PathBuf>,
        /// What SQLite said.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The last clone of the transport was dropped.
    #[error("the queue was closed")]
    Closed,
    /// The thread that writes the file ended by a panic, which is a defect of this program.
    #[error("the writer thread of the queue ended unexpectedly: {0}")]
    WriterEnded(Arc<str>),
}

impl StoreError {
    pub(super) fn from_sqlite(path: &Arc<PathBuf>, source: rusqlite::Error) -> Self {
        let path = Arc::clone(path);
        let code = source.sqlite_error_code();
        let source = Arc::new(source);
        match code {
            Some(ErrorCode::DiskFull) => Self::Full { path, source },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, source },
            _ => Self::Failed { path, source },
        }
    }

    /// Boxed, as the `Unavailable` variants of the transport errors want it.
    pub(super) fn boxed(&self) -> super::BoxError {
        Box::new(self.clone())
    }
}
