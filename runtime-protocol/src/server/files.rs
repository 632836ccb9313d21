//! The socket and the ready file, which exist exactly as long as the server takes connections.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::{ServeError, ServerOptions};
use crate::name::check_socket_path;
use crate::ready::READY_FILE_NAME;

/// Removes both files when dropped.
pub(super) struct SocketFiles {
    socket: PathBuf,
    ready: PathBuf,
}

impl SocketFiles {
    /// Removes what a dead server left, listens, and only then says so in the ready file (contract §6.8).
    pub(super) fn create(options: &ServerOptions) -> Result<(UnixListener, Self), ServeError> {
        let (dir, socket) = (&options.socket_dir, options.socket());
        check_socket_path(&socket)?;
        fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the stale socket", &socket)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(failed("bind", &socket))?;
        let files = Self {
            ready: dir.join(READY_FILE_NAME),
            socket,
        };
        if let Some(mode) = options.chmod {
            fs::set_permissions(&files.socket, fs::Permissions::from_mode(mode))
                .map_err(failed("set the mode of", &files.socket))?;
        }
        fs::write(&files.ready, "ready").map_err(failed("write", &files.ready))?;
        Ok((listener, files))
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        // Nothing depends on them being gone: a reader of the ready file also tries to connect.
        let _ = fs::remove_file(&self.ready);
        let _ = fs::remove_file(&self.socket);
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServeError {
    let path = path.to_owned();
    move |source| ServeError::Files { action, path, source }
}
