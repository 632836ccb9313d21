//! What all topics share: a prepared API server, an operator in this process, and a person with a client.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use asya_operator::control::{self, Parts, Settings};
use asya_operator::desired::{Defaults, Script, SidecarMode};
use asya_operator::queues::{Brokers, KubeSecrets, Owner};
use asya_operator::registry::{self, Registry};
use asya_operator::report::{Nobody, Observer};
use asya_tests::kube::Cluster;
use asya_tests::rabbitmq::Broker;
use asya_tests::{keda, wait_for};
use axum::http::{Method, Request};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

pub(crate) const DEFINITION: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../charts/asya-operator/crds/asya.sh_asyncactors.yaml"
);

/// The shared API server with our definition and KEDA's; `None` after saying that a test is skipped.
pub(crate) fn prepared() -> Option<&'static Cluster> {
    static PREPARED: OnceLock<bool> = OnceLock::new();
    let cluster = Cluster::shared()?;
    PREPARED.get_or_init(|| prepare(cluster)).then_some(cluster)
}

/// Installs the definitions in any cluster; `false` after saying that a test is skipped.
pub(crate) fn prepare(cluster: &Cluster) -> bool {
    define_actors(cluster);
    keda::install(cluster)
}

/// Installs our definition alone.
pub(crate) fn define_actors(cluster: &Cluster) {
    cluster.define(DEFINITION);
}

/// A client for a kubeconfig.
pub(crate) async fn client(kubeconfig: &str) -> Client {
    // Whoever comes second finds it installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

/// Somebody who reads and writes objects by path, as the administrator.
pub(crate) struct Person {
    runtime: Runtime,
    client: Client,
    /// The namespace of the test.
    pub(crate) namespace: String,
}

impl Person {
    /// In a new namespace of `cluster`.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = runtime.block_on(client(&cluster.kubeconfig_for("admin-token", cluster.port)));
        let namespace = cluster.namespace();
        Self {
            runtime,
            client,
            namespace,
        }
    }

    /// The path of objects of a kind, or of one: `path("apps/v1", "deployments", "a")`.
    pub(crate) fn path(&self, api_version: &str, plural: &str, name: &str) -> String {
        let root = if api_version == "v1" { "api" } else { "apis" };
        let mut path = format!("/{root}/{api_version}/namespaces/{}/{plural}", self.namespace);
        if !name.is_empty() {
            write!(path, "/{name}").unwrap();
        }
        path
    }

    /// The path of an actor.
    pub(crate) fn actor_path(&self, name: &str) -> String {
        self.path("asya.sh/v1alpha1", "asyncactors", name)
    }

    /// Sends a request; the answer, or the code and what the API server says.
    pub(crate) fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Result<Value, (u16, String)> {
        let body = body
            .map(|body| serde_json::to_vec(body).unwrap())
            .unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", kind)
            .body(body)
            .unwrap();
        match self.runtime.block_on(self.client.request::<Value>(request)) {
            Ok(value) => Ok(value),
            Err(kube::Error::Api(status)) => Err((status.code, status.message.clone())),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// One object, if it exists.
    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        match self.send(Method::GET, path, "application/json", None) {
            Ok(value) => Some(value),
            Err((404, _)) => None,
            Err(error) => panic!("{path}: {error:?}"),
        }
    }

    /// The objects of a list.
    pub(crate) fn list(&self, path: &str) -> Vec<Value> {
        self.get(path)
            .and_then(|list| list["items"].as_array().cloned())
            .unwrap_or_default()
    }

    /// Makes an object in the list at `path`.
    pub(crate) fn create(&self, path: &str, object: &Value) -> Value {
        self.send(Method::POST, path, "application/json", Some(object))
            .unwrap()
    }

    /// Merges `change` into an object.
    pub(crate) fn merge(&self, path: &str, change: &Value) -> Value {
        self.send(Method::PATCH, path, "application/merge-patch+json", Some(change))
            .unwrap()
    }

    /// Deletes an object; its dependants stay, since nobody collects garbage here.
    pub(crate) fn delete(&self, path: &str) {
        self.send(Method::DELETE, path, "application/json", None).unwrap();
    }

    /// Waits until `look` finds something in the object at `path`; what was there last is told if it never does.
    pub(crate) fn wait<T>(&self, what: &str, path: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        let last = std::cell::RefCell::new(None);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(what, || {
                let object = self.get(path);
                let found = object.as_ref().and_then(&look);
                *last.borrow_mut() = object;
                found
            })
        }));
        found.unwrap_or_else(|_| {
            panic!(
                "waited in vain for {what}; {path} is {:#}",
                last.take().unwrap_or_default()
            )
        })
    }

    /// Waits until there is no object at `path`.
    pub(crate) fn wait_gone(&self, path: &str) {
        wait_for(&format!("the end of {path}"), || {
            self.get(path).is_none().then_some(())
        });
    }

    /// Creates an actor with our example container and these fields of `spec` beside it.
    pub(crate) fn create_actor(&self, name: &str, transport: &str, fields: &Value) -> Value {
        self.create(&self.actor_path(""), &actor(name, transport, fields))
    }

    /// Waits for a condition of an actor to have this status and reason.
    pub(crate) fn wait_condition(&self, actor: &str, kind: &str, status: &str, reason: &str) -> Value {
        let what = format!("{actor}: {kind}={status} {reason}");
        self.wait(&what, &self.actor_path(actor), |object| {
            condition(object, kind)
                .filter(|condition| condition["status"] == status && condition["reason"] == reason)
                .cloned()
        })
    }

    /// Reasons of the events about an actor.
    pub(crate) fn event_reasons(&self, actor: &str) -> Vec<String> {
        let events = self.list(&self.path("events.k8s.io/v1", "events", ""));
        let about = events.iter().filter(|event| event["regarding"]["name"] == actor);
        about
            .map(|event| event["reason"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Waits for an event about an actor.
    pub(crate) fn wait_event(&self, actor: &str, reason: &str) {
        wait_for(&format!("event {reason} of {actor}"), || {
            self.event_reasons(actor)
                .iter()
                .any(|known| known == reason)
                .then_some(())
        });
    }
}

/// A condition of an actor.
pub(crate) fn condition<'a>(actor: &'a Value, kind: &str) -> Option<&'a Value> {
    actor["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// An actor with our example container; `fields` are merged into its `spec`.
pub(crate) fn actor(name: &str, transport: &str, fields: &Value) -> Value {
    let container = json!({
        "name": "asya-runtime",
        "image": "example/worker:1",
        "env": [{"name": "ASYA_HANDLER", "value": "worker.run"}],
    });
    let mut spec =
        json!({"transport": transport, "workload": {"template": {"spec": {"containers": [container]}}}});
    merge(&mut spec, fields);
    json!({
        "apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor",
        "metadata": {"name": name, "labels": {"team": "tests"}},
        "spec": spec,
    })
}

fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

/// A registry with the transport `rabbitmq` on a virtual host of its own, and that virtual host.
pub(crate) fn rabbitmq(extra: &Value) -> (Arc<Registry>, String) {
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let mut config = json!({
        "host": "127.0.0.1", "port": broker.port, "vhost": vhost, "managementPort": broker.management,
    });
    merge(&mut config, extra);
    let entry = json!({"type": "rabbitmq", "enabled": true, "config": config});
    (read_registry(&json!({"transports": {"rabbitmq": entry}})), vhost)
}

/// A registry from its JSON.
pub(crate) fn read_registry(document: &Value) -> Arc<Registry> {
    Arc::new(registry::read(&document.to_string()).unwrap().0)
}

/// The script and defaults of tests.
pub(crate) fn defaults() -> Defaults {
    Defaults {
        sidecar_image: "example/sidecar:1".into(),
        sidecar_resources: None,
        sidecar_security: json!({"runAsNonRoot": true, "allowPrivilegeEscalation": false}),
        sidecar_mode: SidecarMode::Container,
        gateway_url: String::new(),
        script: Script {
            text: "print('runtime')\n".into(),
            hash: "0123456789abcdef".into(),
        },
        disruption_budgets: true,
        manages_queues: true,
    }
}

/// Settings of an operator for one namespace.
pub(crate) fn settings(namespace: &str, registry: Arc<Registry>) -> Settings {
    Settings {
        namespaces: vec![namespace.to_owned()],
        runtime_namespace: None,
        concurrency: 4,
        queue_check_interval: None,
        status_refresh: Duration::from_mins(1),
        deletion_patience: control::DELETION_PATIENCE,
        registry,
        defaults: Arc::new(defaults()),
        rollouts: 5,
    }
}

/// The operator in this process, on a thread of its own; it ends when dropped.
pub(crate) struct Operator {
    shutdown: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Operator {
    /// As the administrator, straight to the API server, with real brokers and without a gateway.
    pub(crate) fn start(cluster: &Cluster, settings: Settings) -> Self {
        let kubeconfig = cluster.kubeconfig_for("admin-token", cluster.port);
        Self::start_with(kubeconfig, settings, Arc::new(Nobody))
    }

    /// With another way to the API server, or another observer.
    pub(crate) fn start_with(kubeconfig: String, settings: Settings, observer: Arc<dyn Observer>) -> Self {
        Self::of_cluster(kubeconfig, settings, observer, "test")
    }

    /// The same for a cluster of this name, where several share a broker.
    pub(crate) fn of_cluster(
        kubeconfig: String,
        settings: Settings,
        observer: Arc<dyn Observer>,
        cluster: &str,
    ) -> Self {
        let owner = Owner {
            cluster: cluster.to_owned(),
        };
        let shutdown = CancellationToken::new();
        let told = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let client = client(&kubeconfig).await;
                let secrets = Arc::new(KubeSecrets {
                    client: client.clone(),
                });
                let queues = Arc::new(Brokers::new(secrets, owner));
                control::run(client, settings, Parts { queues, observer }, told)
                    .await
                    .unwrap();
            });
        });
        Self {
            shutdown,
            thread: Some(thread),
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the operator panicked");
        }
    }
}

#[test]
fn the_api_server_answers() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = cluster.namespace();
    assert!(
        cluster
            .kubectl(&["get", "namespace", &namespace])
            .contains("Active")
    );
}
