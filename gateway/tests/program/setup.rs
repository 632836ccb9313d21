//! What the tests share: running the program, to its end or beside the test, and asking it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use asya_tests::rabbitmq::Broker;
use asya_transport::rabbitmq::RabbitMqTransport;
use asya_transport::{Administration as _, QueueName, Transport as _};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// After so long nothing will come any more. Far above what is needed, since machines may be busy.
const LIMIT: Duration = Duration::from_secs(90);

/// The tools of most tests: `slow` leads to the actor `first`, and has time; `short` has two seconds.
pub(crate) const TOOLS: &str = "tools:\n\
    - {name: slow, description: To the first actor., route: [first, second], progress: true, timeout: 600}\n\
    - {name: short, route: [first], timeout: 2}\n";

/// A program that has ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
}

impl Ended {
    /// The texts of JSON log lines of a level.
    pub(crate) fn lines(&self, level: &str) -> Vec<String> {
        texts(&self.output, level)
    }
}

/// The texts of JSON log lines of a level.
pub(crate) fn texts(log: &str, level: &str) -> Vec<String> {
    records(log)
        .filter(|line| line["level"] == level)
        .map(|line| line["msg"].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn records(log: &str) -> impl Iterator<Item = Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
}

fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    // Whatever happens to the test, the program ends.
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", "300"])
        .arg(env!("CARGO_BIN_EXE_asya-gateway"))
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
    let mut child = command(arguments, variables)
        .spawn()
        .expect("timeout comes with coreutils");
    let (mut output, mut errors) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    Ended {
        code: child.wait().unwrap().code(),
        output: output + &errors,
    }
}

/// A directory for one test, with [`TOOLS`] in `tools.yaml`.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(
            tempfile::Builder::new()
                .prefix("asya-gateway-")
                .tempdir()
                .unwrap(),
        );
        place.write("tools.yaml", TOOLS);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Variables for a gateway on a free port, with the tools and state of this place, and these besides.
    pub(crate) fn variables(&self, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut variables: Vec<(String, String)> = vec![
            ("ASYA_GATEWAY_PORT".into(), "0".into()),
            ("ASYA_STATE_DIR".into(), self.text("state")),
            ("ASYA_CONFIG_PATH".into(), self.text("tools.yaml")),
        ];
        for (name, value) in more {
            variables.retain(|(other, _)| other != name);
            variables.push(((*name).into(), (*value).into()));
        }
        variables
    }

    /// Starts a gateway of this place.
    pub(crate) fn start(&self, more: &[(&str, &str)]) -> Program {
        let variables = self.variables(more);
        let variables: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        Program::start(&variables)
    }

    /// Makes the local queue of an actor.
    pub(crate) async fn declare_local(&self, actor: &str) {
        let transport = local(&self.path("state/queue"));
        transport.declare(&QueueName::for_actor(actor)).await.unwrap();
    }
}

fn local(directory: &Path) -> impl asya_transport::Administration + use<> {
    use asya_transport::local::{LocalOptions, LocalTransport};
    LocalTransport::open(directory, &LocalOptions::default()).unwrap()
}

/// A gateway that runs beside the test; it is killed when dropped.
pub(crate) struct Program {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Program {
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let mut child = command(&[], variables)
            .spawn()
            .expect("timeout comes with coreutils");
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
        Self { child, log }
    }

    /// All that it has written.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Its base URL, once it serves.
    pub(crate) async fn url(&self) -> String {
        self.field("serving", "url").await
    }

    /// A field of the log line with this message, once it is there.
    pub(crate) async fn field(&self, message: &str, field: &str) -> String {
        eventually(&format!("the log line {message:?}"), || async {
            let log = self.log();
            let line = records(&log).find(|line| line["msg"] == message)?;
            line[field].as_str().map(str::to_owned)
        })
        .await
    }

    /// Waits for a log line that holds a text.
    pub(crate) async fn says(&self, text: &str) {
        eventually(&format!("the log to say {text:?}"), || async {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// The gateway itself, which `timeout` has started.
    fn pid(&self) -> Pid {
        let own = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap();
        let pid = children
            .split_whitespace()
            .next()
            .expect("the gateway runs")
            .parse()
            .unwrap();
        Pid::from_raw(pid).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Ends it as a lost machine does.
    pub(crate) async fn kill(mut self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Waits for its end; returns the exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(started.elapsed() < LIMIT, "it does not end: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(self.pid(), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// Waits until `look` gives something.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Status and body of a GET.
pub(crate) async fn get(url: &str, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("{url}{path}")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Status and body of a POST.
pub(crate) async fn post(url: &str, path: &str, body: &str) -> (u16, String) {
    let request = reqwest::Client::new()
        .post(format!("{url}{path}"))
        .body(body.to_owned());
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Calls a tool, and returns the id of the envelope that is stored when it answers.
pub(crate) async fn call(url: &str, tool: &str) -> String {
    let (status, body) = post(
        url,
        "/tools/call",
        &format!(r#"{{"name":"{tool}","arguments":{{"n":1}}}}"#),
    )
    .await;
    assert_eq!(status, 200, "{body}");
    let result: Value = serde_json::from_str(&body).unwrap();
    assert!(result.get("isError").is_none(), "{body}");
    let handle: Value = serde_json::from_str(result["content"][0]["text"].as_str().unwrap()).unwrap();
    handle["envelope_id"].as_str().unwrap().to_owned()
}

/// An envelope as it stands.
pub(crate) async fn envelope(url: &str, id: &str) -> Value {
    let (status, body) = get(url, &format!("/envelopes/{id}?outcome=1")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Waits until it is ready for calls, broker included.
pub(crate) async fn ready(url: &str) {
    eventually("the gateway to be ready", || async {
        (get(url, "/readyz").await.0 == 200).then_some(())
    })
    .await;
}

/// A virtual host with the queues of the actors `first` and `second`, and a connection to it.
pub(crate) struct Queues {
    pub(crate) vhost: String,
    pub(crate) transport: RabbitMqTransport,
}

impl Queues {
    pub(crate) async fn new() -> Self {
        let options = Broker::shared().options();
        let vhost = options.address.vhost.clone();
        let transport = RabbitMqTransport::connect(options).await.unwrap();
        for actor in ["first", "second"] {
            transport
                .administration()
                .declare(&QueueName::for_actor(actor))
                .await
                .unwrap();
        }
        Self { vhost, transport }
    }

    /// The address for a gateway, through a port of this machine.
    pub(crate) fn url(&self, port: u16) -> String {
        format!("amqp://guest:guest@127.0.0.1:{port}/{}", self.vhost)
    }

    /// Messages of an actor's queue, with their ids, until there are `count`; acknowledged.
    pub(crate) async fn take(&self, actor: &str, count: usize) -> Vec<(String, Value)> {
        let queue = QueueName::for_actor(actor);
        let mut consumer = self.transport.consume(&queue).await.unwrap();
        let mut taken = Vec::new();
        while taken.len() < count {
            let deliveries = tokio::time::timeout(LIMIT, consumer.receive(count - taken.len())).await;
            for delivery in deliveries.expect("messages to come").unwrap() {
                let body = serde_json::from_slice(&delivery.body).unwrap();
                taken.push((delivery.message_id.clone().unwrap_or_default(), body));
                delivery
                    .receipt
                    .settle(asya_transport::Settlement::Ack)
                    .await
                    .unwrap();
            }
        }
        taken
    }
}

/// A stream of events of an envelope, read line by line.
pub(crate) struct Stream {
    answer: reqwest::Response,
    text: String,
}

impl Stream {
    pub(crate) async fn open(url: &str, id: &str) -> Self {
        let answer = reqwest::get(format!("{url}/envelopes/{id}/stream"))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        Self {
            answer,
            text: String::new(),
        }
    }

    /// Reads until the text holds `what`; fails if the stream ends before.
    pub(crate) async fn until(&mut self, what: &str) {
        while !self.text.contains(what) {
            let chunk = tokio::time::timeout(LIMIT, self.answer.chunk())
                .await
                .expect("something to come");
            let chunk = chunk
                .unwrap()
                .unwrap_or_else(|| panic!("{what:?} in {}", self.text));
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Reads to the end; returns all of it.
    pub(crate) async fn rest(mut self) -> String {
        while let Some(chunk) = tokio::time::timeout(LIMIT, self.answer.chunk())
            .await
            .expect("the stream to end")
            .unwrap()
        {
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        self.text
    }
}
