//! The state directory of a local pipeline, and the short-lived directory of its sockets.
//!
//! ```text
//! .asya/
//!   lock                 held by the process that runs the actors
//!   queue/               the embedded queue
//!   gateway.db           the gateway's envelopes
//!   results/             happy-asya/… and error-asya/…
//!   logs/<actor>.log     what runtime and handler print
//!   runtime/             the Python runtime file
//!   sockets              path of the socket directory of the last run
//! ```

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use asya_transport::QueueName;
use asya_transport::Transport as _;
use asya_transport::local::{LocalOptions, LocalTransport};

use super::{ERROR_END, HAPPY_END, PYTHON_RUNTIME};

/// Largest message in the embedded queue: above the limit for inputs, so that an error envelope can carry a whole
/// input of 64 MiB, in base64 if need be.
const QUEUE_MESSAGE_LIMIT: usize = 192 * 1024 * 1024;

/// A state directory.
#[derive(Debug, Clone)]
pub(crate) struct State {
    directory: PathBuf,
}

/// Somebody else runs the actors of this state directory.
#[derive(Debug, thiserror::Error)]
#[error("{} is in use by another asya{by}; stop it, use 'asya send' to give it work, or choose another --state-dir", directory.display())]
pub(crate) struct InUse {
    directory: PathBuf,
    by: String,
}

impl State {
    /// The state directory `given`, or `.asya` in `project`; it is made if missing.
    pub(crate) fn open(project: &Path, given: Option<&Path>) -> anyhow::Result<Self> {
        let directory = given.map_or_else(|| project.join(".asya"), Path::to_path_buf);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("failed to make the state directory {}", directory.display()))?;
        let directory = std::path::absolute(&directory)?;
        Ok(Self { directory })
    }

    /// Removes the directory again if nothing but the runtime file is in it, as after a refused manifest.
    pub(crate) fn forget_if_unused(&self) {
        let runtime = self.directory.join("runtime");
        let only_runtime = std::fs::read_dir(&self.directory)
            .is_ok_and(|entries| entries.flatten().all(|entry| entry.path() == runtime));
        if only_runtime {
            // What cannot be removed does no harm and is used by the next run.
            let _removed =
                std::fs::remove_dir_all(&runtime).and_then(|()| std::fs::remove_dir(&self.directory));
        }
    }

    /// Takes the right to run the actors; it ends with the value, or with the process.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let path = self.directory.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)?;
        match file.try_lock() {
            Ok(()) => {
                std::fs::write(&path, std::process::id().to_string())?;
                Ok(Lock { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let by = std::fs::read_to_string(&path)
                    .map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
                Err(InUse {
                    directory: self.directory.clone(),
                    by,
                }
                .into())
            }
            Err(TryLockError::Error(error)) => {
                Err(anyhow::Error::new(error).context(format!("failed to lock {}", path.display())))
            }
        }
    }

    /// Opens the embedded queue with the queues of `actors` and of both ends.
    pub(crate) async fn open_queue(
        &self,
        actors: impl Iterator<Item = &str>,
    ) -> anyhow::Result<Arc<LocalTransport>> {
        let directory = self.directory.join("queue");
        let options = LocalOptions {
            max_message_size: QUEUE_MESSAGE_LIMIT,
            ..LocalOptions::default()
        };
        let opened = tokio::task::spawn_blocking(move || LocalTransport::open(&directory, &options)).await?;
        let transport = Arc::new(opened.context("failed to open the embedded queue")?);
        for actor in actors.chain([HAPPY_END, ERROR_END]) {
            transport
                .administration()
                .declare(&QueueName::for_actor(actor))
                .await?;
        }
        for end in [HAPPY_END, ERROR_END] {
            transport
                .administration()
                .declare(&QueueName::for_actor(end).dead_letter())
                .await?;
        }
        Ok(transport)
    }

    /// Where results are stored.
    pub(crate) fn results(&self) -> PathBuf {
        self.directory.join("results")
    }

    /// The log file of one actor.
    pub(crate) fn log(&self, actor: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{actor}.log"))
    }

    /// Writes the Python runtime file and returns its path.
    pub(crate) fn python_runtime(&self) -> anyhow::Result<PathBuf> {
        let directory = self.directory.join("runtime");
        let path = directory.join("asya_runtime.py");
        let present = std::fs::read_to_string(&path).is_ok_and(|present| present == PYTHON_RUNTIME);
        if !present {
            std::fs::create_dir_all(&directory)?;
            // By a rename, so that nobody ever starts half a file.
            let mut file = tempfile::NamedTempFile::new_in(&directory)?;
            std::io::Write::write_all(&mut file, PYTHON_RUNTIME.as_bytes())?;
            file.persist(&path)?;
        }
        Ok(path)
    }

    /// A fresh directory for sockets, whose paths stay short wherever the state directory lies.
    ///
    /// What a killed run has left behind is removed first.
    pub(crate) fn sockets(&self) -> anyhow::Result<tempfile::TempDir> {
        let note = self.directory.join("sockets");
        if let Ok(left) = std::fs::read_to_string(&note)
            && Path::new(&left)
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(SOCKETS_PREFIX))
        {
            // Gone already after a clean end.
            let _gone = std::fs::remove_dir_all(&left);
        }
        let temporary = std::env::temp_dir();
        // A socket path has at most 107 bytes; what we add to the directory stays below 50.
        let parent = if temporary.as_os_str().len() <= 50 {
            temporary.as_path()
        } else {
            Path::new("/tmp")
        };
        let sockets = tempfile::Builder::new()
            .prefix(SOCKETS_PREFIX)
            .tempdir_in(parent)
            .with_context(|| format!("failed to make a directory for sockets in {}", parent.display()))?;
        std::fs::write(&note, sockets.path().as_os_str().as_encoded_bytes())?;
        Ok(sockets)
    }

    /// The directory itself.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

const SOCKETS_PREFIX: &str = "asya-run-";

/// The right to run the actors of a state directory.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}
