//! A gateway that can be stopped and started again at the same place, reporters, and actors to report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use asya_gateway::auth::{self, Auth};
use asya_gateway::core::{Gateway, GatewayOptions, ToolBook};
use asya_gateway::grpc::{GrpcOptions, routes};
use asya_gateway::server::{self, ServerOptions};
use asya_gateway_store::Store;
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_operator::report::{GatewayAddress, Observer as _, Options, Reporter};
use asya_operator::resource::AsyncActor;
use asya_operator::status::{Condition, Status};
use asya_proto::status::v1::actor_status_client::ActorStatusClient;
use asya_proto::status::v1::{Actor, ListActorsRequest};
use asya_transport::local::{LocalOptions, LocalTransport};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// Nothing here takes so long unless it hangs.
const LONG: Duration = Duration::from_mins(1);

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, work)
        .await
        .unwrap_or_else(|_| panic!("{what}: it did not come"))
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(what, looking).await;
}

/// A gateway at a fixed place. What it has stored outlives its stops.
pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    store: Arc<dyn Store>,
    auth: Arc<Auth>,
    running: Option<Running>,
    directory: TempDir,
}

struct Running {
    gateway: Gateway,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::with(Auth::default()).await
    }

    pub(crate) async fn with(auth: Auth) -> Self {
        let mut hub = Self::absent(auth).await;
        hub.appear().await;
        hub
    }

    /// A place where nobody listens, yet.
    pub(crate) async fn absent(auth: Auth) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gateway.db");
        let store = SqliteStore::open(path, SqliteOptions::default()).await.unwrap();
        let listener = server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            store: Arc::new(store),
            auth: Arc::new(auth),
            running: None,
            directory,
        }
    }

    pub(crate) async fn appear(&mut self) {
        let queues = self.directory.path().join("queues");
        let transport = LocalTransport::open(&queues, &LocalOptions::default()).unwrap();
        let options = GatewayOptions::new(Arc::clone(&self.store), Arc::new(transport), ToolBook::empty());
        let gateway = Gateway::start(options).await;
        let router = auth::guard(
            routes(gateway.clone(), GrpcOptions::default()),
            Arc::clone(&self.auth),
        );
        let listener = server::bind(self.address).await.unwrap();
        let stop = CancellationToken::new();
        let serving = ServerOptions {
            draining: stop.clone(),
            ..ServerOptions::default()
        };
        self.running = Some(Running {
            gateway,
            stop,
            serving: tokio::spawn(server::serve(listener, router, serving)),
        });
    }

    /// Goes away as a gateway does that is told to stop.
    pub(crate) async fn disappear(&mut self) {
        let running = self.running.take().unwrap();
        running.gateway.drain();
        running.stop.cancel();
        soon("the end of the gateway", running.serving).await.unwrap();
    }

    pub(crate) async fn client(&self) -> ActorStatusClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        ActorStatusClient::new(soon("a connection", endpoint.connect()).await.unwrap())
    }

    /// All actors, in order.
    pub(crate) async fn actors(&self) -> Vec<Actor> {
        let request = ListActorsRequest {
            page_size: 1000,
            ..ListActorsRequest::default()
        };
        let answer = self.client().await.list(request).await.unwrap();
        answer.into_inner().actors
    }

    /// Names and messages of all actors.
    pub(crate) async fn told(&self) -> Vec<(String, String)> {
        let told = |actor: Actor| (actor.key.unwrap().name, actor.message);
        self.actors().await.into_iter().map(told).collect()
    }

    pub(crate) fn options(&self) -> Options {
        options(self.address.port())
    }
}

/// Of a reporter in a hurry.
pub(crate) fn options(port: u16) -> Options {
    let address = GatewayAddress::parse(&format!("http://127.0.0.1:{port}/")).unwrap();
    Options {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(50),
        refused_pause: Duration::from_millis(5),
        ..Options::new(address, "here")
    }
}

/// A reporter that stops when it is dropped.
pub(crate) struct Operator {
    pub(crate) reporter: Arc<Reporter>,
    stop: CancellationToken,
}

impl Operator {
    pub(crate) fn start(options: Options) -> Self {
        let stop = CancellationToken::new();
        Self {
            reporter: Reporter::start(options, stop.clone()),
            stop,
        }
    }

    pub(crate) fn sees(&self, name: &str, message: &str) {
        self.sees_in("Running", name, message);
    }

    pub(crate) fn sees_in(&self, state: &str, name: &str, message: &str) {
        self.reporter.observed(&actor(name), &status(state, message));
    }

    pub(crate) fn deletes(&self, name: &str) {
        self.reporter.deleted("models", name);
    }

    pub(crate) fn synced(&self) {
        self.reporter.synced();
    }

    /// Everything was taken.
    pub(crate) async fn done(&self) {
        soon("the last acknowledgement", self.reporter.completed()).await;
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn actor(name: &str) -> AsyncActor {
    let mut actor = AsyncActor {
        spec: json!({"transport": "rabbitmq", "scaling": {"enabled": true, "maxReplicas": 9}}),
        ..AsyncActor::default()
    };
    actor.metadata.name = Some(name.to_owned());
    actor.metadata.namespace = Some("models".to_owned());
    actor.metadata.uid = Some(format!("uid-{name}"));
    actor.metadata.generation = Some(3);
    actor
}

fn status(state: &str, message: &str) -> Status {
    Status {
        status: Some(state.to_owned()),
        conditions: vec![Condition {
            kind: "Ready".to_owned(),
            status: "True".to_owned(),
            reason: state.to_owned(),
            message: message.to_owned(),
            last_transition_time: "2026-03-01T12:00:00Z".to_owned(),
            observed_generation: Some(3),
        }],
        observed_generation: Some(3),
        ready_replicas: Some(2),
        total_replicas: Some(2),
        desired_replicas: Some(2),
        queued_messages: Some(5),
        ..Status::default()
    }
}

/// Names with the same message.
pub(crate) fn all(names: &[&str], message: &str) -> Vec<(String, String)> {
    let pair = |name: &&str| ((*name).to_owned(), message.to_owned());
    names.iter().map(pair).collect()
}
