//! An API server, a RabbitMQ node and an operator between them.

use std::path::{Path, PathBuf};
use std::process::Command as BlockingCommand;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use asya_tests::kube::{Cluster, Tools};
use asya_tests::rabbitmq::Broker;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::broker::Child;

/// The namespace of all actors.
pub const NAMESPACE: &str = "default";
/// Actors that the API server is asked to create side by side.
const CREATING: usize = 8;

/// The three of them, and the way to the API server.
pub struct Site {
    pub(super) cluster: Arc<Cluster>,
    pub(super) client: reqwest::Client,
    broker: Broker,
    directory: TempDir,
    program: PathBuf,
}

/// Why there can be none on this machine.
pub fn missing() -> Option<String> {
    let tools = Tools::get();
    for name in ["etcd", "kube-apiserver", "kubectl"] {
        if tools.find(name).is_none() {
            return Some(format!("{name} is missing: tests/kube/tools.sh says why"));
        }
    }
    if asya_tests::keda::definitions().is_none() {
        return Some("KEDA's definitions are missing: tests/kube/keda/crds.sh says why".into());
    }
    (!Broker::is_installed()).then(|| "RabbitMQ is not installed: `make deps-test` does that".into())
}

impl Site {
    /// Starts API server and broker, and builds the operator unless it is given.
    pub async fn start(program: Option<PathBuf>, say: &dyn Fn(&str)) -> Result<Self> {
        let program = if let Some(program) = program {
            program
        } else {
            say("operator: building asya-operator");
            tokio::task::spawn_blocking(|| asya_tests::operator().to_owned()).await?
        };
        say("operator: starting an API server and a RabbitMQ node");
        let (cluster, broker) = tokio::try_join!(
            tokio::task::spawn_blocking(Cluster::start),
            tokio::task::spawn_blocking(|| Broker::start(None)),
        )?;
        let site = Self {
            cluster: Arc::new(cluster),
            client: reqwest::Client::builder()
                .danger_accept_invalid_certs(true)
                .build()?,
            broker,
            directory: tempfile::tempdir()?,
            program,
        };
        site.prepare().await?;
        Ok(site)
    }

    async fn prepare(&self) -> Result<()> {
        let cluster = Arc::clone(&self.cluster);
        tokio::task::spawn_blocking(move || {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let apply = |path: &Path| {
                let path = path.to_string_lossy();
                cluster.kubectl(&["apply", "--server-side", "-f", &path]);
            };
            apply(&root.join("charts/asya-operator/crds/asya.sh_asyncactors.yaml"));
            asya_tests::keda::install(&cluster);
            cluster.kubectl(&[
                "wait",
                "--for=condition=Established",
                "crd",
                "--all",
                "--timeout=60s",
            ]);
            let secret = ["create", "secret", "generic", "rabbitmq-secret"];
            let values = ["--from-literal=username=guest", "--from-literal=password=guest"];
            cluster.kubectl(&[&secret[..], &values[..]].concat());
        })
        .await?;
        Ok(())
    }

    /// The URL of a path of the API server.
    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.cluster.port)
    }

    /// Creates actors that scale by queue length, named `actor-0` and so on.
    pub async fn create_actors(&self, count: usize) -> Result<()> {
        let url = self.url(&format!(
            "/apis/asya.sh/v1alpha1/namespaces/{NAMESPACE}/asyncactors"
        ));
        let creating = (0..CREATING).map(|lane| {
            let url = &url;
            async move {
                for number in (lane..count).step_by(CREATING) {
                    let created = self.client.post(url).bearer_auth("admin-token");
                    let created = created.body(actor(number).to_string());
                    let answer = created.header("content-type", "application/json").send().await?;
                    ensure!(answer.status().is_success(), "{}", answer.text().await?);
                }
                anyhow::Ok(())
            }
        });
        futures::future::try_join_all(creating).await?;
        Ok(())
    }

    /// Starts the operator; the port of its metrics.
    pub fn operator(&self, rounds: &str) -> Result<(Child, u16)> {
        let (metrics, health) = (free_port()?, free_port()?);
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("ASYA_TRANSPORT_CONFIG", self.registry().to_string())
            .env("ASYA_RUNTIME_NAMESPACE", NAMESPACE)
            .env("ASYA_MAX_CONCURRENT_RECONCILES", "50")
            .arg(format!("--metrics-bind-address=127.0.0.1:{metrics}"))
            .arg(format!("--health-probe-bind-address=127.0.0.1:{health}"));
        let directory = self.directory.path().join(rounds);
        std::fs::create_dir_all(&directory)?;
        let child = Child::start("asya-operator", &mut command, &directory)?;
        Ok((child, metrics))
    }

    fn registry(&self) -> Value {
        json!({"transports": {"rabbitmq": {"type": "rabbitmq", "enabled": true, "config": {
            "host": "127.0.0.1", "port": self.broker.port, "username": "guest",
            "passwordSecretRef": {"name": "rabbitmq-secret", "key": "password"},
            "queues": {"dlq": {"enabled": true}},
        }}}})
    }

    /// What the operator's metrics say.
    pub async fn metrics(&self, port: u16) -> Result<String> {
        let answer = self
            .client
            .get(format!("http://127.0.0.1:{port}/metrics"))
            .send()
            .await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// How many objects there are, by the API server's own count.
    pub async fn count(&self, path: &str) -> Result<usize> {
        let list = self.get(path).await?;
        let items = list["items"].as_array().context("no list")?;
        Ok(items.len())
    }

    /// An object or a list.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self
            .client
            .get(self.url(path))
            .bearer_auth("admin-token")
            .send()
            .await?;
        let answer = answer.error_for_status()?.bytes().await?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

fn actor(number: usize) -> Value {
    json!({
        "apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor",
        "metadata": {"name": format!("actor-{number}"), "namespace": NAMESPACE},
        "spec": {
            "transport": "rabbitmq",
            "scaling": {"enabled": true, "minReplicas": 0, "maxReplicas": 10},
            "workload": {"kind": "Deployment", "template": {"spec": {"containers": [{
                "name": "asya-runtime", "image": "registry.example/handler:1",
                "env": [
                    {"name": "ASYA_HANDLER", "value": "handler.process"},
                    {"name": "MODEL", "value": "small"},
                ],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
            }]}}},
        },
    })
}

/// Waits until `look` is content; an error after `limit`.
pub async fn until<F>(what: &str, limit: Duration, pause: Duration, look: impl Fn() -> F) -> Result<Duration>
where
    F: Future<Output = Result<bool>>,
{
    let started = Instant::now();
    while !look().await? {
        ensure!(started.elapsed() < limit, "waited in vain for {what}");
        tokio::time::sleep(pause).await;
    }
    Ok(started.elapsed())
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Version of the API server, for the notes of a row.
pub fn version() -> Option<String> {
    let output = BlockingCommand::new(Tools::get().find("kube-apiserver")?)
        .arg("--version")
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
