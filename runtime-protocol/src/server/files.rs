//! The sockets and the ready file, which exist exactly as long as the server takes connections.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;
use uuid::Uuid;

use super::{Protocols, ServeError, ServerOptions};
use crate::name::check_socket_path;
use crate::ready::{Advert, READY_FILE_NAME};

/// What the socket of protocol v2 has behind the name of the first.
const V2_SUFFIX: &str = ".v2";

/// The sockets of a server, and their files.
pub(super) struct Listening {
    pub(super) v1: UnixListener,
    pub(super) v2: Option<(UnixListener, Advert)>,
    pub(super) files: SocketFiles,
}

/// Removes the files when dropped.
#[derive(Default)]
pub(super) struct SocketFiles(Vec<PathBuf>);

impl Listening {
    /// Removes what a dead server left, listens, and only then says so in the ready file (contract §6.8).
    pub(super) fn start(options: &ServerOptions) -> Result<Self, ServeError> {
        let (dir, socket) = (&options.socket_dir, options.socket());
        check_socket_path(&socket)?;
        fs::create_dir_all(dir).map_err(failed("create directory", dir))?;
        let mut files = SocketFiles::default();
        let v1 = files.bind(socket, options.chmod)?;
        let name = format!("{}{V2_SUFFIX}", options.socket_name);
        let socket = dir.join(&name);
        // A name with a space in it would be two words of the ready file.
        let is_word = !name.contains(char::is_whitespace);
        let (v2, ready) = match options.protocols {
            Protocols::V1AndV2 if is_word && check_socket_path(&socket).is_ok() => {
                let nonce = Uuid::new_v4().simple().to_string();
                let ready = format!("ready\nv2 {name} {nonce}\n");
                let listener = files.bind(socket.clone(), options.chmod)?;
                (Some((listener, Advert { socket, nonce })), ready)
            }
            _ => (None, "ready".to_owned()),
        };
        files.write_ready(dir, &ready)?;
        Ok(Self { v1, v2, files })
    }
}

impl SocketFiles {
    fn bind(&mut self, socket: PathBuf, chmod: Option<u32>) -> Result<UnixListener, ServeError> {
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove the stale socket", &socket)(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(failed("bind", &socket))?;
        if let Some(mode) = chmod {
            fs::set_permissions(&socket, fs::Permissions::from_mode(mode))
                .map_err(failed("set the mode of", &socket))?;
        }
        self.0.push(socket);
        Ok(listener)
    }

    /// In one step: a reader sees all of it or what was there before.
    fn write_ready(&mut self, dir: &Path, text: &str) -> Result<(), ServeError> {
        let ready = dir.join(READY_FILE_NAME);
        let new = dir.join(format!(".{READY_FILE_NAME}.{}", std::process::id()));
        fs::write(&new, text).map_err(failed("write", &new))?;
        fs::rename(&new, &ready).map_err(failed("write", &ready))?;
        // First to go, as it was the last to come.
        self.0.insert(0, ready);
        Ok(())
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for file in &self.0 {
            // Nothing depends on them being gone: a reader of the ready file also tries to connect.
            let _ = fs::remove_file(file);
        }
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ServeError {
    let path = path.to_owned();
    move |source| ServeError::Files { action, path, source }
}
