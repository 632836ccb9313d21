//! Files beside the socket, by which the runtime of a pod learns how far the sidecar is.
//!
//! Both are asked to end at the same time. A runtime with `ASYA_SHUTDOWN_GRACE` serves on until it sees
//! [`DRAINED`] (rulings 19); its preStop hook waits for that only if it sees [`DRAINING`]. A runtime with `ASYA_RUN_UNTIL=done` ends when it sees [`DONE`].

use std::io::ErrorKind;
use std::path::Path;

pub(crate) use asya_runtime_protocol::{
    DONE_FILE_NAME as DONE, DRAINED_FILE_NAME as DRAINED, DRAINING_FILE_NAME as DRAINING,
};

/// Whether the mark is there.
pub(crate) fn is_there(socket_dir: &Path, name: &str) -> bool {
    socket_dir.join(name).exists()
}

/// Removes what a sidecar before this one has left: this one is at work.
pub(crate) fn remove(socket_dir: &Path, name: &str) {
    let path = socket_dir.join(name);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the mark of an earlier life");
        }
    }
}

/// Leaves the mark.
pub(crate) fn leave(socket_dir: &Path, name: &str) {
    let path = socket_dir.join(name);
    match std::fs::write(&path, "") {
        Ok(()) => {}
        // Without the directory there has been no runtime either.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(
            path = %path.display(), %error,
            "cannot tell the runtime how far the sidecar is; it may serve on until its own grace ends"
        ),
    }
}
