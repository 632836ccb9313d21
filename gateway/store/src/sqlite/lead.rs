//! The right to do the housekeeping: a lock on a file beside the database. The system gives it back when the guard or
//! the process ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use futures::FutureExt;
use futures::future::BoxFuture;

use super::error::not_made;
use crate::store::{Lead, StoreError};

/// The lock, while we have it.
struct Locked {
    _file: File,
}

impl Lead for Locked {
    /// Nobody can take a lock of the system away from us.
    fn holds(&self) -> BoxFuture<'_, bool> {
        async { true }.boxed()
    }
}

/// Tries to take the lock for the database at `path`.
pub(super) fn take(path: &Path) -> Result<Option<Box<dyn Lead>>, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lead");
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name);
    let failed = |error| not_made(Path::new(&name), "the lock file", &error);
    let file = opened.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Box::new(Locked { _file: file }))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
