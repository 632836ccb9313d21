//! A throwaway Kubernetes control plane for tests: a real kube-apiserver with its own etcd, no nodes.
//!
//! [`Cluster::shared`] starts one for the whole test binary, and [`Cluster::namespace`] gives each test a namespace of
//! its own; tests that stop or restart the API server start a cluster of their own. `tests/kube/tools.sh` finds or
//! builds the programs. Where it cannot, [`Cluster::shared`] is `None`, each test that asked is counted as skipped on
//! standard error, and with `ASYA_KUBE_REQUIRED=1` it fails instead. Nothing outlives the tests, however they end: the
//! servers run under a shell that ends them as soon as its standard input closes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub use crate::keda::definitions as keda_definitions;

/// How long the servers may take to start.
const STARTING: Duration = Duration::from_mins(2);

/// The programs that `tests/kube/tools.sh` has found or built.
#[derive(Debug, Clone)]
pub struct Tools {
    paths: BTreeMap<String, PathBuf>,
    missing: String,
}

impl Tools {
    /// All of them, looked for once.
    pub fn get() -> &'static Self {
        static TOOLS: OnceLock<Tools> = OnceLock::new();
        TOOLS.get_or_init(|| {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube/tools.sh");
            let output = Command::new(script)
                .stderr(Stdio::inherit())
                .output()
                .expect("tests/kube/tools.sh can be run");
            let mut paths = BTreeMap::new();
            let mut missing = String::new();
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                match line.split_once(' ') {
                    Some(("missing", reason)) => reason.clone_into(&mut missing),
                    Some((name, path)) => drop(paths.insert(name.to_owned(), path.into())),
                    None => {}
                }
            }
            Self { paths, missing }
        })
    }

    /// Where a program is: `kube-apiserver`, `etcd`, `kubectl` or `helm`.
    pub fn find(&self, name: &str) -> Option<&Path> {
        self.paths.get(name).map(PathBuf::as_path)
    }

    /// The program, or `None` after saying on standard error that a test is skipped.
    ///
    /// # Panics
    /// If the program is missing and `ASYA_KUBE_REQUIRED` is `1`.
    pub fn need(&self, name: &str) -> Option<&Path> {
        static SKIPPED: AtomicU32 = AtomicU32::new(0);
        let found = self.find(name);
        if found.is_none() {
            let reason = &self.missing;
            let required = std::env::var("ASYA_KUBE_REQUIRED").is_ok_and(|value| value == "1");
            assert!(!required, "{name} is needed and missing: {reason}");
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            // Not by a macro: what those write in a test that passes is shown to nobody.
            let said = format!("SKIPPED (test {count} of this binary): {name} is missing: {reason}\n");
            std::io::stderr()
                .write_all(said.as_bytes())
                .expect("standard error takes a line");
        }
        found
    }
}

/// An API server with its etcd, stopped and removed when dropped.
pub struct Cluster {
    directory: TempDir,
    /// The API server listens on this port of 127.0.0.1, with TLS.
    pub port: u16,
    etcd_ports: [u16; 2],
    etcd: Mutex<Option<Child>>,
    server: Mutex<Option<Child>>,
}

impl Cluster {
    /// The cluster of this test binary, started by the first test that asks; `None` if there can be none here.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        let tools = Tools::get();
        for name in ["etcd", "kube-apiserver", "kubectl"] {
            tools.need(name)?;
        }
        Some(SHARED.get_or_init(Self::start))
    }

    /// Starts a cluster of one's own and waits until it works. Ask [`Cluster::shared`] or [`Tools::need`] first.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("asya-kube-").tempdir().unwrap();
        let cluster = Self {
            port: free_port(),
            etcd_ports: [free_port(), free_port()],
            directory,
            etcd: Mutex::new(None),
            server: Mutex::new(None),
        };
        cluster.write_files();
        let [client, peer] = cluster.etcd_ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut etcd = Command::new(Tools::get().find("etcd").expect("etcd was found"));
        etcd.args(["--data-dir", &cluster.path("etcd")])
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--unsafe-no-fsync", "--log-level", "error"]);
        *cluster.etcd.lock().unwrap() = Some(cluster.guarded(&etcd, "etcd.log"));
        cluster.run();
        cluster
    }

    fn write_files(&self) {
        let key = Command::new("openssl")
            .args(["genrsa", "-out", &self.path("sa.key"), "2048"])
            .output()
            .expect("openssl is installed: `make deps-test`");
        assert!(key.status.success(), "{}", String::from_utf8_lossy(&key.stderr));
        std::fs::write(
            self.path("tokens.csv"),
            "admin-token,admin,admin,system:masters\n",
        )
        .unwrap();
        std::fs::write(self.kubeconfig(), self.kubeconfig_for("admin-token", self.port)).unwrap();
    }

    /// A kubeconfig for whoever has `token`, through `port` of 127.0.0.1 (the server's own, or a proxy's that speaks TLS
    /// with any certificate). Tokens: `admin-token`, or one of [`Cluster::token`].
    pub fn kubeconfig_for(&self, token: &str, port: u16) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  cluster:\n    server: https://127.0.0.1:{port}\n    insecure-skip-tls-verify: true\n\
             users:\n- name: test\n  user:\n    token: {token}\n\
             contexts:\n- name: test\n  context:\n    cluster: test\n    user: test\n"
        )
    }

    /// Starts the API server, again if it was stopped or killed, and waits until it is ready.
    pub fn run(&self) {
        let mut server = Command::new(
            Tools::get()
                .find("kube-apiserver")
                .expect("kube-apiserver was found"),
        );
        server
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_ports[0]))
            .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--cert-dir={}", self.path("certs")))
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-account-key-file={}", self.path("sa.key")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                self.path("sa.key")
            ))
            .arg(format!("--token-auth-file={}", self.path("tokens.csv")))
            .args([
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.0.0.0/24",
            ])
            .args([
                "--disable-admission-plugins=ServiceAccount",
                "--allow-privileged=true",
            ])
            .args([
                "--etcd-prefix=/registry",
                "--max-requests-inflight=2000",
                "--watch-cache=true",
            ]);
        *self.server.lock().unwrap() = Some(self.guarded(&server, "server.log"));
        let started = Instant::now();
        while !self.is_ready() {
            let log = || std::fs::read_to_string(self.path("server.log")).unwrap_or_default();
            assert!(
                started.elapsed() < STARTING,
                "the API server did not start: {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn is_ready(&self) -> bool {
        let output = self.try_kubectl(&["get", "--raw", "/readyz", "--request-timeout=2s"], "");
        output.status.success()
            && self
                .try_kubectl(&["get", "namespace", "default"], "")
                .status
                .success()
    }

    /// Kills the API server without warning; [`Cluster::run`] starts it again on the same port, with all it knew.
    pub fn kill(&self) {
        if let Some(mut guard) = self.server.lock().unwrap().take() {
            let mut input = guard.stdin.take().expect("a guard has a standard input");
            let _ = input.write_all(b"kill\n");
            drop(input);
            guard.wait().expect("the guard can be waited for");
        }
    }

    /// Runs a server under a shell that waits for a word on its standard input; its end means that nobody needs the
    /// server and its files any more.
    fn guarded(&self, server: &Command, log: &str) -> Child {
        const SCRIPT: &str = r#"
            directory=$1; shift
            "$@" </dev/null & server=$!
            read -r word
            kill -KILL $server 2>/dev/null
            wait $server 2>/dev/null
            [ -n "$word" ] || rm -rf "$directory"
        "#;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.path(log))
            .unwrap();
        Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(self.directory.path())
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_string_lossy().into_owned()
    }

    /// The kubeconfig file of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// A new namespace.
    pub fn namespace(&self) -> String {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}", COUNTER.fetch_add(1, Ordering::Relaxed));
        self.kubectl(&["create", "namespace", &name]);
        name
    }

    /// A token of a service account, as a pod of it would have; the account must exist.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        let token = self.kubectl(&["create", "token", account, "--namespace", namespace]);
        token.trim().to_owned()
    }

    /// Runs kubectl as the administrator; fails the test unless it succeeds, and gives what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl_with(arguments, "")
    }

    /// The same with text on its standard input, for `apply -f -`.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> String {
        let output = self.try_kubectl(arguments, input);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Applies custom resource definitions, a file or a folder of them, and waits until they are served.
    ///
    /// By the server, because the largest is too large for an annotation of the client.
    pub fn define(&self, path: &str) {
        self.kubectl(&["apply", "--server-side", "--filename", path]);
        // A definition without any condition yet is an error to `kubectl wait`, so it is asked again.
        let wait = [
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "--filename",
            path,
        ];
        crate::wait_for(&format!("the definitions in {path}"), || {
            self.try_kubectl(&wait, "").status.success().then_some(())
        });
    }

    /// Runs kubectl, whatever comes of it.
    pub fn try_kubectl(&self, arguments: &[&str], input: &str) -> Output {
        self.run_tool("kubectl", arguments, input)
    }

    /// Runs `kubectl` or `helm` as the administrator, whatever comes of it.
    pub fn run_tool(&self, tool: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(Tools::get().find(tool).expect("the tool was found"))
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().expect("it was piped");
        let input = input.to_owned();
        let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        // A tool that has failed reads no more.
        let _ = writing.join();
        output
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut guard) = self.etcd.lock().unwrap().take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
