//! Python children: the runtime with handlers of the measurements, and what it is measured against.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use asya_runtime_protocol::{SOCKET_NAME, wait_ready};

/// Longest wait for a child to listen.
const START: Duration = Duration::from_secs(30);

/// The interpreter behind `command`: a version manager's shim would be started, and measured, each time.
pub fn resolve(command: &str) -> Result<PathBuf> {
    let asked = Command::new(command)
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let output = asked.with_context(|| format!("cannot start {command}"))?;
    ensure!(
        output.status.success(),
        "{command} cannot say where it is: {}",
        output.status
    );
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

/// What a child serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// `asya_runtime.py` with a handler of `python/` in payload mode.
    Runtime {
        /// As in `ASYA_HANDLER`.
        handler: &'static str,
        /// Further variables.
        settings: &'static [(&'static str, &'static str)],
    },
    /// `bare_echo.py`: one connection for each call.
    BareEcho,
    /// `bare_loop.py`: one connection for all.
    BareLoop,
}

impl Script {
    /// The runtime with the echo as handler.
    pub const ECHO: Self = Self::Runtime {
        handler: "echo_handler.echo",
        settings: &[],
    };

    /// The command that serves it in `socket_dir`, pinned to `core` if one is given.
    #[must_use]
    pub fn command(self, python: &Path, socket_dir: &Path, core: Option<usize>) -> Command {
        let mut command = match core {
            Some(core) => {
                let mut pinned = Command::new("taskset");
                pinned.arg("-c").arg(core.to_string()).arg(python);
                pinned
            }
            None => Command::new(python),
        };
        let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
        match self {
            Self::Runtime { handler, settings } => command
                .arg(ours.join("../runtime-protocol/python/asya_runtime.py"))
                .env("ASYA_HANDLER", handler)
                .env("ASYA_HANDLER_MODE", "payload")
                .env("ASYA_SOCKET_DIR", socket_dir)
                .env("ASYA_LOG_LEVEL", "WARNING")
                .env("PYTHONPATH", ours.join("python"))
                .envs(settings.iter().copied()),
            Self::BareEcho => command.arg(ours.join("python/bare_echo.py")).arg(socket_dir),
            Self::BareLoop => command.arg(ours.join("python/bare_loop.py")).arg(socket_dir),
        };
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }
}

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    socket_dir: PathBuf,
}

impl Server {
    /// Starts `script` in the new directory `socket_dir` and waits until it listens.
    pub async fn start(
        script: Script,
        python: &Path,
        socket_dir: &Path,
        core: Option<usize>,
    ) -> Result<Self> {
        fs::create_dir_all(socket_dir)?;
        let child = script.command(python, socket_dir, core).spawn();
        let child = child.with_context(|| format!("cannot start {script:?} with {}", python.display()))?;
        let server = Self {
            child,
            socket_dir: socket_dir.to_owned(),
        };
        wait_ready(socket_dir, &server.socket(), START)
            .await
            .with_context(|| format!("{script:?} does not listen"))?;
        Ok(server)
    }

    /// The directory of its socket.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.socket_dir
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket_dir.join(SOCKET_NAME)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Errors mean that it has ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
