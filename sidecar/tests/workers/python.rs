//! A Python runtime as a process, and a bench with a sidecar in front of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use asya_sidecar::{Config, Protocol, Reporter, Role, Sidecar};

use crate::common::{House, Message, PATIENCE, envelope, wait_for};

/// A runtime; killed with the value, and its workers with it.
pub(crate) struct Python {
    child: Child,
    directory: PathBuf,
    environment: Vec<(String, String)>,
}

impl Python {
    /// Starts the runtime in `directory` with the function `run` of this module as its handler, which works there.
    pub(crate) fn start(directory: &Path, module: &str, environment: &[(&str, &str)]) -> Self {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("handler.py"), module).unwrap();
        fs::write(
            directory.join("asya_runtime.py"),
            asya_runtime_protocol::PYTHON_RUNTIME,
        )
        .unwrap();
        let environment: Vec<_> = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self {
            child: spawn(directory, &environment),
            directory: directory.to_owned(),
            environment,
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([format!("-{name}"), pid]).status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end and tells the exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        let mut status = None;
        wait_for("the runtime to end", async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap().code()
    }

    /// Starts another one after the end of this.
    pub(crate) async fn start_again(&mut self) {
        self.ended().await;
        self.child = spawn(&self.directory, &self.environment);
    }
}

fn spawn(directory: &Path, environment: &[(String, String)]) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(directory.join("runtime.log"))
        .unwrap();
    Command::new("python3")
        .arg("asya_runtime.py")
        .current_dir(directory)
        .env("ASYA_SOCKET_DIR", directory)
        .env("ASYA_HANDLER", "handler.run")
        .env("PYTHONPATH", directory)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An actor `work` whose outputs go to `sink`.
pub(crate) struct Bench {
    pub(crate) house: House,
    pub(crate) python: Python,
    pub(crate) config: Config,
}

impl Bench {
    pub(crate) async fn new(module: &str, environment: &[(&str, &str)]) -> Self {
        Self::with(Protocol::Auto, module, environment).await
    }

    pub(crate) async fn with(protocol: Protocol, module: &str, environment: &[(&str, &str)]) -> Self {
        let house = House::with(protocol);
        house.declare(&["work", "sink"]).await;
        let config = house.config("work", Role::Step);
        let python = Python::start(&config.socket_dir, module, environment);
        Self {
            house,
            python,
            config,
        }
    }

    pub(crate) async fn sidecar(&self) -> Sidecar {
        crate::common::start(&self.house, self.config.clone()).await
    }

    pub(crate) async fn reporting(&self, reporter: Arc<dyn Reporter>) -> Sidecar {
        Sidecar::builder(self.config.clone(), Arc::clone(&self.house.transport))
            .reporter(reporter)
            .start()
            .await
            .unwrap()
    }

    pub(crate) async fn send(&self, id: &str, payload: &str) {
        self.house
            .publish("work", envelope(id, &["work", "sink"], payload))
            .await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.config.socket_dir.join(name)
    }

    /// Lines of a file that the handler writes; none if there is no such file.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Kills the process that is named last in a file, if it is there and is one of this bench.
    pub(crate) fn kill_last_worker(&self, name: &str) {
        let Some(pid) = self.lines(name).pop() else {
            return;
        };
        let works_in = fs::read_link(format!("/proc/{pid}/cwd"));
        if works_in.is_ok_and(|directory| directory == self.config.socket_dir) {
            // It may have ended since.
            let _killed = Command::new("kill")
                .args(["-KILL", &pid])
                .stderr(Stdio::null())
                .status();
        }
    }

    pub(crate) async fn wait_for_line(&self, name: &str, line: &str) {
        wait_for(&format!("{line} in {name}"), async || {
            self.lines(name).iter().any(|there| there == line)
        })
        .await;
    }

    /// Everything in the sink once the queue is empty.
    pub(crate) async fn results(&self) -> Vec<Message> {
        self.house.wait_empty("work").await;
        self.house.take_all("sink").await
    }

    /// The errors, as `(id, error, details)`.
    pub(crate) async fn errors(&self, count: usize) -> Vec<(String, String, serde_json::Value)> {
        let errors = self.house.take("error-end", count).await;
        let read = |error: &Message| {
            let payload: serde_json::Value = serde_json::from_slice(&error.body).unwrap();
            let text = payload["payload"]["error"].as_str().unwrap().to_owned();
            (error.envelope().id, text, payload["payload"]["details"].clone())
        };
        errors.iter().map(read).collect()
    }

    pub(crate) async fn done(self, sidecar: Sidecar) {
        self.house.wait_empty("work").await;
        wait_for("all credits back", async || sidecar.snapshot().credits_taken == 0).await;
        assert_eq!(sidecar.drain(PATIENCE).await.returned, 0);
        assert_eq!(
            self.house.depth("error-end").await,
            0,
            "an error that nobody expects"
        );
    }
}

pub(crate) fn ids(messages: &[Message]) -> BTreeSet<String> {
    messages.iter().map(|message| message.envelope().id).collect()
}
