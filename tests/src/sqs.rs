//! Stand-ins for Amazon SQS: fauxqs (fast) and moto (a second opinion), started on demand.
//!
//! [`Server::shared`] starts one for the whole test binary. `tests/sqs/servers.sh` installs the programs once; where it
//! cannot, each test that asked is counted as skipped on standard error, and with `ASYA_SQS_REQUIRED=1` it fails
//! instead. Neither is AWS: they keep no counts approximate, let a queue be made again at once (moto, fauxqs), and check
//! no permissions. Nothing outlives the tests, however they end.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::waiting::wait_for;

/// Which stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of Node; thousands of messages.
    Fauxqs,
    /// Of Python; few messages.
    Moto,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Fauxqs, Self::Moto];

    fn name(self) -> &'static str {
        match self {
            Self::Fauxqs => "fauxqs",
            Self::Moto => "moto",
        }
    }
}

/// A stand-in that listens on loopback, stopped when dropped.
#[derive(Debug)]
pub struct Server {
    /// Which one it is.
    pub kind: Kind,
    /// Its port on 127.0.0.1.
    pub port: u16,
    shell: Child,
    /// The shell ends the server when this closes.
    input: Option<ChildStdin>,
}

impl Server {
    /// The one of this test binary, or `None` after saying on standard error that a test is skipped.
    ///
    /// # Panics
    /// If there is none and `ASYA_SQS_REQUIRED` is `1`.
    pub fn shared(kind: Kind) -> Option<&'static Self> {
        static SHARED: [OnceLock<Option<Server>>; 2] = [OnceLock::new(), OnceLock::new()];
        static SKIPPED: AtomicU32 = AtomicU32::new(0);
        let server = SHARED[kind as usize].get_or_init(|| Self::start(kind)).as_ref();
        if server.is_none() {
            let reason = &programs().missing;
            let required = std::env::var("ASYA_SQS_REQUIRED").is_ok_and(|value| value == "1");
            assert!(!required, "{} is needed and missing: {reason}", kind.name());
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            // Not by a macro: what those write in a test that passes is shown to nobody.
            let name = kind.name();
            let said = format!("SKIPPED (test {count} of this binary): {name} is missing: {reason}\n");
            std::io::stderr()
                .write_all(said.as_bytes())
                .expect("standard error takes a line");
        }
        server
    }

    /// Starts one of one's own and waits until it listens.
    pub fn start(kind: Kind) -> Option<Self> {
        let program = programs().commands.get(kind.name())?;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let arguments = match kind {
            Kind::Fauxqs => String::new(),
            Kind::Moto => format!(" -H 127.0.0.1 -p {port}"),
        };
        // Reading ends when our end of the pipe closes because this process has ended, in whatever way.
        let script = format!(
            "set -m; {program}{arguments} </dev/null & server=$!; read -r _; kill -KILL -- -$server; wait"
        );
        let mut shell = Command::new("bash")
            .arg("-c")
            .arg(script)
            .env("FAUXQS_PORT", port.to_string())
            .env("FAUXQS_HOST", "127.0.0.1")
            .env("FAUXQS_LOGGER", "false")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = shell.stdin.take();
        wait_for(kind.name(), || TcpStream::connect(("127.0.0.1", port)).ok());
        Some(Self {
            kind,
            port,
            shell,
            input,
        })
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A prefix for names of queues that no other test uses.
    pub fn prefix(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("asya-t{}", COUNT.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.input.take());
        // It was running when it was started, and nobody else waits for it.
        let _ended = self.shell.wait();
    }
}

/// What the script has found.
#[derive(Debug)]
struct Programs {
    commands: BTreeMap<String, String>,
    missing: String,
}

fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sqs/servers.sh");
        let output = Command::new(script)
            .stderr(Stdio::inherit())
            .output()
            .expect("tests/sqs/servers.sh can be run");
        let mut commands = BTreeMap::new();
        let mut missing = String::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            match line.split_once(' ') {
                Some(("missing", reason)) => reason.clone_into(&mut missing),
                Some((name, command)) => drop(commands.insert(name.to_owned(), command.to_owned())),
                None => {}
            }
        }
        Programs { commands, missing }
    })
}
