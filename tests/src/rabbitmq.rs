//! A throwaway RabbitMQ node for tests: own directory, ports, cookie and port mapper; never one that is there already.
//!
//! [`Broker::shared`] starts one node for the whole test binary, and [`Broker::vhost`] gives each test a virtual host
//! of its own. Nothing outlives the tests, however they end: the node runs under a shell that kills it and removes its
//! directory as soon as its standard input closes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use asya_transport::rabbitmq::{Address, RabbitMqOptions};
use tempfile::TempDir;

/// Where Debian puts the real programs; those on `PATH` insist on the system's directories and cookie.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// How long a node may take to start.
const STARTING: Duration = Duration::from_secs(90);

/// A node, stopped when dropped.
pub struct Broker {
    directory: TempDir,
    /// Port of AMQP.
    pub port: u16,
    /// Port of AMQP over TLS, when certificates were given.
    pub tls_port: u16,
    /// Port of the management API, for user and password `guest`.
    pub management: u16,
    mapper: u16,
    distribution: u16,
    process: Mutex<Option<Child>>,
}

/// Certificates for a node that speaks TLS.
pub struct Certificates {
    /// The authority that signed the others.
    pub ca: PathBuf,
    /// Shown by the node.
    pub server: PathBuf,
    /// Its private key.
    pub server_key: PathBuf,
    /// To be shown by a client.
    pub client: PathBuf,
    /// Its private key.
    pub client_key: PathBuf,
    /// Whether the node lets nobody in without a certificate. Default: yes.
    pub is_client_required: bool,
}

impl Broker {
    /// The node of this test binary, started by the first test that asks.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(None))
    }

    /// Whether nodes can be started here.
    pub fn is_installed() -> bool {
        Path::new(PROGRAMS).join("rabbitmq-server").exists()
    }

    /// Starts a node of one's own and waits until it works.
    pub fn start(certificates: Option<&Certificates>) -> Self {
        assert!(
            Self::is_installed(),
            "RabbitMQ is not installed: `make deps-test` installs it (or: apt-get install rabbitmq-server)"
        );
        let directory = tempfile::Builder::new()
            .prefix("asya-rabbitmq-")
            .tempdir()
            .unwrap();
        let [port, tls_port, management, mapper, distribution] = free_ports();
        let broker = Self {
            directory,
            port,
            tls_port,
            management,
            mapper,
            distribution,
            process: Mutex::new(None),
        };
        broker.configure(certificates);
        broker.run();
        broker
    }

    fn configure(&self, certificates: Option<&Certificates>) {
        let mut configuration = format!(
            "listeners.tcp.default = 127.0.0.1:{}\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {}\n\
             loopback_users = none\nlog.console = true\nlog.console.level = warning\nlog.file = false\n\
             vm_memory_high_watermark.absolute = 1GB\ndisk_free_limit.absolute = 50MB\n\
             collect_statistics_interval = 1000\n",
            self.port, self.management
        );
        if let Some(certificates) = certificates {
            let tls = format!(
                "listeners.ssl.default = 127.0.0.1:{}\nssl_options.cacertfile = {}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = {}\n",
                self.tls_port,
                certificates.ca.display(),
                certificates.server.display(),
                certificates.server_key.display(),
                certificates.is_client_required
            );
            configuration += &tls;
        }
        let write = |name: &str, text: &str| std::fs::write(self.path(name), text).unwrap();
        write("rabbitmq.conf", &configuration);
        write("enabled_plugins", "[rabbitmq_management].");
        write("env.conf", "");
        for name in ["home", "mnesia", "log"] {
            std::fs::create_dir(self.path(name)).unwrap();
        }
    }

    /// Starts the node, again if it was killed, and waits until it works.
    pub fn run(&self) {
        // Each job of this shell has a process group (`set -m`). Reading ends when we say that we need the directory
        // again, or when our end of the pipe closes because this process has ended, in whatever way.
        let script = format!(
            "set -m; epmd -port {} </dev/null & mapper=$!; {PROGRAMS}/rabbitmq-server </dev/null & node=$!; \
             read -r word; kill -KILL -- -$node -$mapper; wait; [ \"$word\" = again ] || rm -rf {}",
            self.mapper,
            self.directory.path().display()
        );
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("output"))
            .unwrap();
        let mut command = Command::new("bash");
        command
            .arg("-c")
            .arg(script)
            .process_group(0)
            .stdin(Stdio::piped());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = self.environment(&mut command).spawn().unwrap();
        *self.process.lock().unwrap() = Some(child);
        let started = Instant::now();
        while !self.works() {
            assert!(
                started.elapsed() < STARTING,
                "RabbitMQ did not start: {}",
                std::fs::read_to_string(self.path("output")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Kills the node without warning (SIGKILL), to be run again.
    pub fn kill(&self) {
        if let Some(mut child) = self.process.lock().unwrap().take() {
            let mut shell = child.stdin.take().unwrap();
            shell.write_all(b"again\n").unwrap();
            child.wait().unwrap();
            // The port is free once the node is really gone.
            let started = Instant::now();
            while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                assert!(started.elapsed() < STARTING, "the node survives SIGKILL");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Runs `rabbitmqctl` against the node.
    pub fn control(&self, arguments: &[&str]) {
        let mut command = Command::new(format!("{PROGRAMS}/rabbitmqctl"));
        command.args(["-n", &self.node()]).args(arguments);
        let output = self.environment(&mut command).output().unwrap();
        assert!(
            output.status.success(),
            "rabbitmqctl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn environment<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("HOME", self.path("home"))
            .env("ERL_EPMD_PORT", self.mapper.to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_CONF_ENV_FILE", self.path("env.conf"))
            .env("RABBITMQ_NODENAME", self.node())
            .env("RABBITMQ_NODE_PORT", self.port.to_string())
            .env("RABBITMQ_DIST_PORT", self.distribution.to_string())
            .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"))
            .env("RABBITMQ_MNESIA_BASE", self.path("mnesia"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("enabled_plugins"))
            .env("RABBITMQ_PID_FILE", self.path("pid"))
            .env("RABBITMQ_GENERATED_CONFIG_DIR", self.path("config"))
            .env(
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none",
            )
    }

    fn node(&self) -> String {
        format!("t{}@localhost", self.port)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn works(&self) -> bool {
        self.try_manage("GET", "/api/health/checks/local-alarms", "")
            .is_some_and(|(status, _)| status == 200)
            && TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    /// A virtual host that no other test uses.
    pub fn vhost(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.manage("PUT", &format!("/api/vhosts/{name}"), "{}");
        name
    }

    /// Where the broker is, for user `guest` in `vhost`.
    pub fn address(&self, vhost: &str) -> Address {
        Address {
            vhost: vhost.into(),
            ..Address::new("127.0.0.1", self.port, "guest", "guest")
        }
    }

    /// Options with short waits, in a virtual host of their own.
    pub fn options(&self) -> RabbitMqOptions {
        impatient(RabbitMqOptions::new(self.address(&self.vhost())))
    }

    /// Asks the management API, which must agree.
    pub fn manage(&self, method: &str, path: &str, body: &str) -> String {
        let answer = self.try_manage(method, path, body);
        let (status, text) = answer.unwrap_or_else(|| panic!("{method} {path}: no answer"));
        assert!((200..300).contains(&status), "{method} {path}: {status} {text}");
        text
    }

    fn try_manage(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.management)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        // "Z3Vlc3Q6Z3Vlc3Q=" is guest:guest.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    /// Closes all connections of a virtual host from the broker's side; returns how many there were.
    pub fn close_connections(&self, vhost: &str) -> usize {
        let listed = self.manage("GET", &format!("/api/vhosts/{vhost}/connections"), "");
        let connections: Vec<serde_json::Value> = serde_json::from_str(&listed).unwrap();
        for connection in &connections {
            let name = connection["name"].as_str().unwrap();
            let encoded = name.replace(' ', "%20").replace('>', "%3E").replace(':', "%3A");
            self.manage("DELETE", &format!("/api/connections/{encoded}"), "");
        }
        connections.len()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The same options with waits that suit tests.
pub fn impatient(mut options: RabbitMqOptions) -> RabbitMqOptions {
    options.backoff.initial = Duration::from_millis(20);
    options.backoff.max = Duration::from_millis(300);
    options.connect_patience = Some(Duration::from_secs(20));
    // Longer than a busy machine keeps a process waiting.
    options.heartbeat = Duration::from_secs(4);
    options.connect_timeout = Duration::from_secs(5);
    options
}

fn free_ports<const N: usize>() -> [u16; N] {
    // All held at once, so that they differ.
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Makes a certificate authority, and certificates for `127.0.0.1` and for a client, with `openssl`.
pub fn certificates(directory: &Path) -> Certificates {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(directory)
            .output()
            .expect("openssl is installed with RabbitMQ");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
    write(
        "server.ext",
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n",
    );
    write("client.ext", "extendedKeyUsage=clientAuth\n");
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem");
    for name in ["server", "client"] {
        openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"
        ));
        openssl(&format!(
            "x509 -req -days 2 -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile {name}.ext \
             -out {name}.pem"
        ));
    }
    let path = |name: &str| directory.join(name);
    Certificates {
        ca: path("ca.pem"),
        server: path("server.pem"),
        server_key: path("server.key"),
        client: path("client.pem"),
        client_key: path("client.key"),
        is_client_required: true,
    }
}
