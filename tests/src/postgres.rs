//! A throwaway PostgreSQL cluster for tests: own directory, port and socket; never one that is there already.
//!
//! [`Cluster::shared`] starts one cluster for the whole test binary, and [`Cluster::database`] gives each test a
//! database of its own. Tests of faults start a cluster of their own and stop, kill and run it. Nothing outlives the
//! tests, however they end: the server runs under a shell that ends it and removes its directory as soon as its
//! standard input closes.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to start, after a crash too.
const STARTING: Duration = Duration::from_mins(1);

/// Who may log in without a password, and who may not: members of [`GUARDED`].
const ADMISSION: &str = "local all all trust\nhost all +guarded 127.0.0.1/32 scram-sha-256\n\
                         host all all 127.0.0.1/32 trust\n";

/// Members of this role need their password.
const GUARDED: &str = "guarded";

/// A cluster, stopped and removed when dropped.
pub struct Cluster {
    directory: TempDir,
    programs: PathBuf,
    durability: Durability,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    process: Mutex<Option<Child>>,
}

/// What a commit promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing after a crash of the server, and speed.
    None,
    /// What PostgreSQL promises: for tests that kill the server.
    Crash,
}

impl Cluster {
    /// The cluster of this test binary, without durability, started by the first test that asks.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Durability::None))
    }

    /// Whether clusters can be started here.
    pub fn is_installed() -> bool {
        programs().is_some()
    }

    /// Starts a cluster of one's own and waits until it works.
    pub fn start(durability: Durability) -> Self {
        let programs = programs().expect(
            "PostgreSQL's server is not installed: `make deps-test` installs it (or: apt-get install postgresql)",
        );
        // Sockets have short paths, and the server's user must be able to reach them.
        let directory = tempfile::Builder::new()
            .prefix("asya-postgres-")
            .tempdir_in("/tmp")
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let cluster = Self {
            directory,
            programs,
            durability,
            port,
            process: Mutex::new(None),
        };
        cluster.initialise();
        cluster.run();
        cluster.psql("postgres", "CREATE ROLE guarded NOLOGIN");
        cluster
    }

    fn initialise(&self) {
        if is_root() {
            let mut chown = Command::new("chown");
            succeed(chown.arg("postgres:postgres").arg(self.directory.path()));
        }
        let mut initdb = as_server(&self.programs.join("initdb"));
        initdb.arg("-D").arg(self.data()).args([
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]);
        succeed(initdb.current_dir(self.directory.path()));
        std::fs::write(self.data().join("pg_hba.conf"), ADMISSION).unwrap();
    }

    /// Starts the server, again if it was stopped or killed, and waits until it works.
    pub fn run(&self) {
        let mut server = as_server(&self.programs.join("postgres"));
        server
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.directory.path());
        server.args(["-p", &self.port.to_string()]);
        let mut settings = vec![
            "listen_addresses=127.0.0.1",
            "max_connections=200",
            "shared_buffers=64MB",
        ];
        if self.durability == Durability::None {
            settings.extend(["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
        }
        for setting in settings {
            server.args(["-c", setting]);
        }
        *self.process.lock().unwrap() = Some(self.guarded(&server));
        let started = Instant::now();
        while !self.works() {
            assert!(
                started.elapsed() < STARTING,
                "PostgreSQL did not start: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs the server under a shell that waits for a word on its standard input: `stop` ends the server as an
    /// operator does, `kill` without any warning, and the end of the input means that nobody needs it any more.
    fn guarded(&self, server: &Command) -> Child {
        // The processes of the server are in sessions of their own, so that a signal to the group misses them.
        const SCRIPT: &str = r#"
            directory=$1; shift
            "$@" </dev/null & server=$!
            read -r word
            case $word in
                stop) kill -INT $server ;;
                kill) children=$(cat /proc/$server/task/$server/children); kill -KILL $server $children ;;
                *) kill -QUIT $server ;;
            esac 2>/dev/null
            wait
            # The next server refuses to start while one of them still holds the shared memory.
            for child in $children; do
                while readlink /proc/$child/exe >/dev/null; do sleep 0.02; done
            done
            [ -n "$word" ] || rm -rf "$directory"
        "#;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("output"))
            .unwrap();
        let mut shell = Command::new("bash");
        shell.args(["-c", SCRIPT, "bash"]).arg(self.directory.path());
        shell.arg(server.get_program()).args(server.get_args());
        // A group of its own: an interrupt on a terminal reaches the tests alone.
        shell.process_group(0).current_dir("/").stdin(Stdio::piped());
        shell
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    /// Stops the server as an operator does: it ends all sessions, and nothing that was committed is lost.
    pub fn stop(&self) {
        self.end("stop\n");
    }

    /// Kills the server without warning (SIGKILL), to be run again.
    pub fn kill(&self) {
        self.end("kill\n");
    }

    /// Stops the server and runs it again.
    pub fn restart(&self) {
        self.stop();
        self.run();
    }

    fn end(&self, word: &str) {
        if let Some(mut child) = self.process.lock().unwrap().take() {
            let mut shell = child.stdin.take().unwrap();
            shell.write_all(word.as_bytes()).unwrap();
            drop(shell);
            child.wait().unwrap();
        }
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }

    /// The address of a new, empty database that no other test uses.
    pub fn database(&self) -> String {
        self.database_like("template0")
    }

    /// The address of a new database with all that is in another one, to which nobody may be connected.
    pub fn database_like(&self, template: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        self.url(&name)
    }

    /// The address of a database, for the superuser, who needs no password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a user who needs a password, and may do everything.
    pub fn user(&self, name: &str, password: &str) {
        self.psql(
            "postgres",
            &format!("CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{password}' IN ROLE {GUARDED}"),
        );
    }

    /// Ends all sessions of a database from the server's side.
    pub fn disconnect(&self, database: &str) {
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname =";
        self.psql("postgres", &format!("{ended} '{database}'"));
    }

    /// Runs statements with `psql`, which must agree; returns its bare output, columns separated by `|`. A database
    /// may be named or given by its address.
    pub fn psql(&self, database: &str, statements: &str) -> String {
        let output = self.try_psql(database, statements);
        assert!(
            output.status.success(),
            "{statements}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn try_psql(&self, database: &str, statements: &str) -> Output {
        let name = database.rsplit('/').next().unwrap();
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]);
        psql.arg("-h")
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string()]);
        psql.args(["-d", name, "-c", statements]).stdin(Stdio::null());
        psql.output().unwrap()
    }

    fn works(&self) -> bool {
        self.try_psql("postgres", "SELECT 1").status.success()
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // An empty line stands for the end of the input: the shell removes the directory.
        self.end("\n");
    }
}

/// Where the server's programs are: those on `PATH`, else the newest that Debian's packages have installed.
fn programs() -> Option<PathBuf> {
    let named = Command::new("pg_config").arg("--bindir").output().ok();
    let named = named.and_then(|output| String::from_utf8(output.stdout).ok());
    let named = named.map(|text| PathBuf::from(text.trim()));
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort_unstable();
    let packaged = versions.into_iter().rev().map(|(_, path)| path);
    named.into_iter().chain(packaged).find(|path| {
        ["initdb", "postgres", "psql"]
            .iter()
            .all(|name| path.join(name).exists())
    })
}

/// The server refuses to run as root; its package has made a user for it.
fn as_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "--"]);
    command.arg(program);
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
