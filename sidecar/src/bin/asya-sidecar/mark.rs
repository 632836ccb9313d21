//! The file by which the runtime of a pod learns that the sidecar has drained (rulings 19).
//!
//! Both are asked to end at the same time. A runtime with `ASYA_SHUTDOWN_GRACE` serves on until it sees this file.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Beside the socket.
fn path(socket_dir: &Path) -> PathBuf {
    socket_dir.join("sidecar-drained")
}

/// Removes what a sidecar before this one has left: this one is at work.
pub(crate) fn remove(socket_dir: &Path) {
    let path = path(socket_dir);
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot remove the mark of an earlier drain");
        }
    }
}

/// Nothing will be handed to the runtime any more.
pub(crate) fn leave(socket_dir: &Path) {
    let path = path(socket_dir);
    match std::fs::write(&path, "") {
        Ok(()) => {}
        // Without the directory there has been no runtime either.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(
            path = %path.display(), %error,
            "cannot tell the runtime that all is drained; it may serve on until its own grace ends"
        ),
    }
}
