//! Who holds leases: one lock file for each opened transport, and the search for owners that died.
//!
//! The lock is the operating system's (`flock`), so it ends with the process however that dies. A file only gets
//! the name that others look at (`<uuid>.lock`) once it is locked; whoever can lock such a file therefore knows that
//! its owner is gone.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

const LOCKED: &str = "lock";
/// Extension of a file that is created but not locked yet.
const UNLOCKED: &str = "new";
/// After this long a file that never came to be locked belongs to a process that died in between.
const ABANDONED: Duration = Duration::from_mins(1);

/// This transport as an owner of leases.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) id: String,
    directory: PathBuf,
    /// Holds the lock.
    _file: File,
}

impl Owner {
    /// Becomes an owner in `directory`, which is created if missing.
    pub(super) fn register(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let id = Uuid::new_v4().simple().to_string();
        let unlocked = lock_path(directory, &id).with_extension(UNLOCKED);
        let mut file = File::create_new(&unlocked)?;
        file.try_lock()?;
        writeln!(file, "pid {}", std::process::id())?;
        fs::rename(&unlocked, lock_path(directory, &id))?;
        Ok(Self {
            id,
            directory: directory.to_owned(),
            _file: file,
        })
    }

    /// The owners that died, each locked so that nobody else takes care of it at the same time.
    pub(super) fn dead(&self) -> io::Result<Vec<DeadOwner>> {
        let mut dead = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some(LOCKED) => dead.extend(self.dead_owner(path)?),
                Some(UNLOCKED) => remove_abandoned(&path),
                _ => {}
            }
        }
        Ok(dead)
    }

    fn dead_owner(&self, path: PathBuf) -> io::Result<Option<DeadOwner>> {
        let id = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default()
            .to_owned();
        if id == self.id {
            return Ok(None);
        }
        let Some(file) = absent(File::open(&path))? else {
            return Ok(None);
        };
        match file.try_lock() {
            Ok(()) => Ok(Some(DeadOwner {
                id,
                path,
                _file: file,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether `id` has a lock file, locked or not. A live owner always has one.
    pub(super) fn knows(&self, id: &str) -> bool {
        lock_path(&self.directory, id).exists()
    }

    /// Removes the lock file; to be called when no lease is held any more.
    pub(super) fn retire(self) -> io::Result<()> {
        absent(fs::remove_file(lock_path(&self.directory, &self.id))).map(|_| ())
    }
}

/// An owner whose process has ended.
#[derive(Debug)]
pub(super) struct DeadOwner {
    pub(super) id: String,
    path: PathBuf,
    _file: File,
}

impl DeadOwner {
    /// Removes the lock file; to be called when its leases have been given back.
    pub(super) fn bury(self) -> io::Result<()> {
        absent(fs::remove_file(&self.path)).map(|_| ())
    }
}

fn lock_path(directory: &Path, id: &str) -> PathBuf {
    directory.join(format!("{id}.{LOCKED}"))
}

/// A file that somebody else has removed meanwhile is no error.
fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn remove_abandoned(path: &Path) {
    let age = fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    if age.is_some_and(|age| age > ABANDONED) {
        // Litter only: if it cannot be removed now, the next search tries again.
        let _next_time = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_owner_is_left_alone_and_a_dead_one_is_found_once() {
        let directory = tempfile::tempdir().unwrap();
        let us = Owner::register(directory.path()).unwrap();
        let other = Owner::register(directory.path()).unwrap();
        let other_id = other.id.clone();
        assert!(us.dead().unwrap().is_empty());

        drop(other); // the lock ends, the file stays: as after a kill
        let found = us.dead().unwrap();
        assert_eq!(found.iter().map(|dead| &dead.id).collect::<Vec<_>>(), [&other_id]);
        assert!(
            us.dead().unwrap().is_empty(),
            "a second search finds it locked by the first"
        );
        for dead in found {
            dead.bury().unwrap();
        }
        assert!(!us.knows(&other_id));
        assert!(us.knows(&us.id));
    }

    #[test]
    fn a_retired_owner_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        Owner::register(directory.path()).unwrap().retire().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_about_to_be_locked_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let us = Owner::register(directory.path()).unwrap();
        let fresh = directory.path().join("a.new");
        let old = directory.path().join("b.new");
        File::create(&fresh).unwrap();
        let long_ago = SystemTime::now() - 2 * ABANDONED;
        File::create(&old).unwrap().set_modified(long_ago).unwrap();
        assert!(us.dead().unwrap().is_empty());
        assert!(fresh.exists() && !old.exists());
    }
}
