//! What the tests share: running the program, to its end or beside the test, and asking it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use asya_tests::kube::Cluster;
use asya_tests::{Process, Signal, keda, wait_for};
use serde_json::Value;

/// Our definition, as it is shipped.
pub(crate) const DEFINITION: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../charts/asya-operator/crds/asya.sh_asyncactors.yaml"
);

/// A registry with one broker at which nobody listens.
pub(crate) const REGISTRY: &str = r#"{"transports": {"rabbitmq": {"type": "rabbitmq", "enabled": true,
    "config": {"host": "127.0.0.1", "port": 1, "passwordSecretRef": {"name": "rabbitmq", "key": "password"}}}}}"#;

/// The least that is an actor.
pub(crate) const ACTOR: &str = "apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata: {name: hello}
spec:
  transport: rabbitmq
  workload:
    template:
      spec:
        containers:
        - {name: asya-runtime, image: python, env: [{name: ASYA_HANDLER, value: hello.handle}]}
";

/// The shared API server with our definition and KEDA's; `None` after saying that a test is skipped.
pub(crate) fn prepared() -> Option<&'static Cluster> {
    static PREPARED: OnceLock<bool> = OnceLock::new();
    let cluster = Cluster::shared()?;
    PREPARED
        .get_or_init(|| define(cluster) && keda::install(cluster))
        .then_some(cluster)
}

/// Installs our definition.
pub(crate) fn define(cluster: &Cluster) -> bool {
    cluster.kubectl(&["apply", "--server-side", "--filename", DEFINITION]);
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "--filename",
        DEFINITION,
    ]);
    true
}

/// A program that has ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Ended {
    /// Both outputs.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.output, self.errors)
    }
}

fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asya-operator"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the program with these variables alone, until it ends.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut child = command(arguments, variables).spawn().unwrap();
    let mut errors = child.stderr.take().unwrap();
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        errors.read_to_string(&mut text).map(|_| text)
    });
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    let errors = reading.join().unwrap().unwrap();
    Ended {
        code: child.wait().unwrap().code(),
        output,
        errors,
    }
}

/// An operator that runs beside the test; it is killed when dropped.
pub(crate) struct Operator {
    child: Mutex<Child>,
    log: Arc<Mutex<String>>,
}

impl Operator {
    /// Starts it on free ports for one namespace of a cluster, as an administrator.
    pub(crate) fn start(cluster: &Cluster, namespace: &str, arguments: &[&str]) -> Self {
        Self::start_with(cluster, namespace, arguments, &[])
    }

    /// The same with more variables, which win.
    pub(crate) fn start_with(
        cluster: &Cluster,
        namespace: &str,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Self {
        let kubeconfig = cluster.kubeconfig();
        let mut all = vec![
            ("KUBECONFIG", kubeconfig.to_str().unwrap()),
            ("ASYA_TRANSPORT_CONFIG", REGISTRY),
            ("ASYA_WATCH_NAMESPACES", namespace),
            ("ASYA_RUNTIME_NAMESPACE", namespace),
            ("POD_NAMESPACE", namespace),
            ("ASYA_LOG_FORMAT", "json"),
        ];
        all.retain(|(name, _)| !variables.iter().any(|(other, _)| other == name));
        all.extend(variables);
        let mut given = vec![
            "--metrics-bind-address=127.0.0.1:0",
            "--health-probe-bind-address=127.0.0.1:0",
        ];
        given.extend(arguments);
        Self::spawn(&given, &all)
    }

    /// Starts it with these variables alone.
    pub(crate) fn spawn(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = command(arguments, variables).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let readers: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(child.stdout.take().unwrap()),
            Box::new(child.stderr.take().unwrap()),
        ];
        for reader in readers {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            });
        }
        Self {
            child: Mutex::new(child),
            log,
        }
    }

    /// All that it has written.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A field of the first log line with this message, once it is there.
    pub(crate) fn field(&self, message: &str, field: &str) -> String {
        self.wait(&format!("the log line {message:?}"), || {
            let log = self.log();
            let line = records(&log).find(|line| line["msg"] == message)?;
            line[field].as_str().map(str::to_owned)
        })
    }

    /// Waits for a log line that holds a text.
    pub(crate) fn says(&self, text: &str) {
        self.wait(&format!("the log to say {text:?}"), || {
            self.log().contains(text).then_some(())
        });
    }

    /// Waits until it is working.
    pub(crate) fn works(&self) {
        self.field("working", "cluster");
    }

    /// What `/metrics` says.
    pub(crate) fn metrics(&self) -> String {
        get(&self.field("listening", "metrics"), "/metrics").1
    }

    /// What the health endpoint says.
    pub(crate) fn health(&self, path: &str) -> (u16, String) {
        get(&self.field("listening", "health"), path)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.lock().unwrap().id()).unwrap();
        Process {
            pid,
            command: String::new(),
        }
        .signal(signal);
    }

    /// Waits for its end; gives the exit code, or the negative number of the signal that ended it.
    pub(crate) fn ended(&self) -> i32 {
        self.wait("the operator to end", || {
            let status = self.child.lock().unwrap().try_wait().unwrap()?;
            status.code().or(status.signal().map(|signal| -signal))
        })
    }

    /// Waits, and tells the log if that is in vain.
    pub(crate) fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        let look = std::panic::AssertUnwindSafe(|| wait_for(what, look));
        std::panic::catch_unwind(look).unwrap_or_else(|_| panic!("waited in vain for {what}: {}", self.log()))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let mut child = self.child.lock().unwrap();
        if let Ok(None) = child.try_wait() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The log lines as JSON.
pub(crate) fn records(log: &str) -> impl Iterator<Item = Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
}

/// Status and body of a GET.
pub(crate) fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .expect("a status");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
    (status, body.to_owned())
}

/// The value of a series in the text of Prometheus; its labels may stand in any order.
pub(crate) fn series(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    metrics.lines().find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let is_it =
            series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label));
        is_it.then(|| value.parse().ok()).flatten()
    })
}
