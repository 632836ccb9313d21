//! What the tests share: a directory with a store and queues, gateways over them, and words for what happens.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_gateway::auth::Caller;
use asya_gateway::core::{
    Gateway, GatewayOptions, LookupError, Patience, ReportSource, SubmitError, Submitted, ToolBook, ToolCall,
    Watch,
};
use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_gateway_store::{
    Applied, Created, Final, FinalSuccess, NewEnvelope, Phase, Progress, Record, Report, ReportEvent, Status,
    Store, Update, View,
};
use asya_manifest::Tools;
use asya_runtime_protocol::RawJson;
use asya_tests::postgres::Cluster;
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{ConsumeError, Delivery, QueueName, Settlement, Transport};
use chrono::Utc;
use tempfile::TempDir;

/// How long a test waits for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The tools of every test.
const TOOLS: &str = "
tools:
- {name: echo, route: [first, second, third], timeout: 0, progress: true,
   parameters: {text: {type: string, required: true}, count: {type: integer, default: 3}}}
- {name: free, route: [first], timeout: 300}
- {name: short, route: [first], timeout: 1}
- {name: lost, route: [nowhere], timeout: 300}
";

/// A directory with a store and queues.
pub(crate) struct World {
    directory: TempDir,
    pub(crate) transport: Arc<LocalTransport>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let transport =
            LocalTransport::open(&directory.path().join("queues"), &LocalOptions::default()).unwrap();
        let world = Self {
            directory,
            transport: Arc::new(transport),
        };
        world.declare("first").await;
        world
    }

    /// Opens the store's file; again and again, as further processes would.
    pub(crate) async fn store(&self) -> Arc<dyn Store> {
        sqlite(&self.directory.path().join("gateway.db")).await
    }

    /// A gateway over a store of its own.
    pub(crate) async fn gateway(&self) -> Gateway {
        let store = self.store().await;
        self.gateway_over(&store).await
    }

    pub(crate) async fn gateway_over(&self, store: &Arc<dyn Store>) -> Gateway {
        Gateway::start(self.options(store)).await
    }

    pub(crate) fn options(&self, store: &Arc<dyn Store>) -> GatewayOptions {
        options(store, Arc::clone(&self.transport) as Arc<dyn Transport>)
    }

    pub(crate) async fn declare(&self, actor: &str) {
        let queue = QueueName::for_actor(actor);
        self.transport.administration().declare(&queue).await.unwrap();
    }

    /// How many messages wait for an actor.
    pub(crate) async fn waiting(&self, actor: &str) -> u64 {
        let queue = QueueName::for_actor(actor);
        self.transport
            .administration()
            .depth(&queue)
            .await
            .unwrap()
            .total()
    }

    /// The next message for an actor.
    pub(crate) async fn message(&self, actor: &str) -> Delivery {
        take(&*self.transport, actor).await
    }
}

/// Options with short waits.
pub(crate) fn options(store: &Arc<dyn Store>, transport: Arc<dyn Transport>) -> GatewayOptions {
    GatewayOptions {
        patience: Patience {
            lease: Duration::from_secs(2),
            publish: Duration::from_secs(1),
            outbox: Duration::from_millis(50),
            backoff: Duration::from_millis(500),
            sweep: Duration::from_millis(20),
            late: Duration::from_secs(1),
            ..Patience::default()
        },
        ..GatewayOptions::new(Arc::clone(store), transport, ToolBook::fixed(tools()))
    }
}

pub(crate) fn tools() -> Tools {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tools.yaml");
    std::fs::write(&file, TOOLS).unwrap();
    Tools::load(&file).unwrap()
}

pub(crate) async fn sqlite(file: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(file, SqliteOptions::default()).await.unwrap())
}

/// Two replicas' stores over one new database of PostgreSQL.
pub(crate) async fn postgres_pair() -> [Arc<dyn Store>; 2] {
    let url = tokio::task::spawn_blocking(|| Cluster::shared().database())
        .await
        .unwrap();
    let connect = async || {
        let options = PostgresOptions::new(Address::parse(&url).unwrap());
        Arc::new(PostgresStore::connect(options).await.unwrap()) as Arc<dyn Store>
    };
    [connect().await, connect().await]
}

/// The next message of an actor, taken out of its queue. A broker that has just come back is waited for: consuming has
/// a connection of its own, which may be later than that of publishing.
pub(crate) async fn take(transport: &dyn Transport, actor: &str) -> Delivery {
    let queue = QueueName::for_actor(actor);
    let receiving = async {
        loop {
            let mut consumer = transport.consume(&queue).await.unwrap();
            match consumer.receive(1).await {
                Ok(mut deliveries) => return deliveries.remove(0),
                Err(ConsumeError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let receiving = tokio::time::timeout(PATIENCE, receiving);
    let delivery = receiving.await.expect("no message came");
    delivery.receipt.settle(Settlement::Ack).await.unwrap();
    delivery
}

pub(crate) fn anybody() -> Caller {
    Caller::anonymous()
}

pub(crate) fn of(tenant: &str) -> Caller {
    Caller {
        tenant: Some(tenant.to_owned()),
        ..Caller::anonymous()
    }
}

pub(crate) fn raw(text: &str) -> RawJson {
    RawJson::parse(text.as_bytes().to_vec()).unwrap()
}

pub(crate) fn call(tool: &str, arguments: &str) -> ToolCall {
    ToolCall {
        tool: tool.to_owned(),
        arguments: Some(raw(arguments)),
        ..ToolCall::default()
    }
}

pub(crate) fn keyed(tool: &str, arguments: &str, key: &str) -> ToolCall {
    ToolCall {
        idempotency_key: Some(key.to_owned()),
        ..call(tool, arguments)
    }
}

pub(crate) async fn submit(gateway: &Gateway, call: ToolCall) -> Result<Submitted, SubmitError> {
    let caller = anybody();
    let submitting = tokio::time::timeout(PATIENCE, gateway.submit(&caller, call));
    submitting.await.expect("the call hangs")
}

/// An envelope that runs.
pub(crate) async fn running(gateway: &Gateway) -> String {
    let id = submit(gateway, call("free", "{}")).await.unwrap().record.id;
    until(gateway, &id, |record| record.status == Status::Running).await;
    id
}

/// Waits until the record of an envelope is as it should be.
pub(crate) async fn until(gateway: &Gateway, id: &str, condition: impl Fn(&Record) -> bool) -> Record {
    let start = Instant::now();
    loop {
        let record = gateway.get(&anybody(), id, View::Full).await.unwrap();
        if condition(&record) {
            return record;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain; it is {record:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn report(id: &str, event: ReportEvent) -> Report {
    Report {
        envelope_id: id.to_owned(),
        attempt: 1,
        at: Utc::now(),
        event,
    }
}

pub(crate) fn progress(id: &str, index: i64, phase: Phase) -> Report {
    let said = Progress {
        phase: Some(phase),
        actor_index: index,
        exact: true,
        ..Progress::default()
    };
    report(id, ReportEvent::Progress(said))
}

/// One of many updates, each different.
pub(crate) fn item(id: &str, index: u32) -> Report {
    let said = asya_gateway_store::Partial {
        actor_index: 0,
        index,
        value: raw(&format!("[{index}]")),
    };
    report(id, ReportEvent::Partial(said))
}

pub(crate) fn success(id: &str, result: &str) -> Report {
    let said = FinalSuccess {
        result: Some(raw(result)),
        ..FinalSuccess::default()
    };
    report(id, ReportEvent::Final(Final::Succeeded(said)))
}

pub(crate) async fn say(gateway: &Gateway, reports: Vec<Report>) -> Vec<Applied> {
    gateway.report(ReportSource::Http, reports).await.unwrap()
}

pub(crate) fn child(id: &str, parent: &str) -> NewEnvelope {
    NewEnvelope {
        id: id.to_owned(),
        parent_id: Some(parent.to_owned()),
        tenant: None,
        tool: None,
        status: Status::Running,
        actors: vec!["first".to_owned(), "second".to_owned()],
        route_current: 1,
        route_metadata: None,
        headers: None,
        payload: None,
        timeout: None,
        deadline: None,
        created_at: Utc::now(),
        idempotency: None,
        outbox: None,
    }
}

pub(crate) async fn register(gateway: &Gateway, child: NewEnvelope) -> Created {
    gateway.register_child(ReportSource::Http, child).await.unwrap()
}

/// Everything that a watch has to tell.
pub(crate) async fn all(mut watch: Watch) -> Vec<Arc<Update>> {
    let mut updates = Vec::new();
    let reading = async {
        while let Some(update) = watch.next().await.unwrap() {
            updates.push(update);
        }
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the watch does not end");
    updates
}

pub(crate) fn ids(updates: &[Arc<Update>]) -> Vec<i64> {
    updates.iter().map(|update| update.id).collect()
}

/// The history as the store has it.
pub(crate) async fn history(store: &Arc<dyn Store>, id: &str) -> Vec<i64> {
    let updates = store.updates(id, 0, 1_000_000).await.unwrap();
    updates.iter().map(|update| update.id).collect()
}

pub(crate) fn is_unknown<T>(answer: &Result<T, LookupError>) -> bool {
    matches!(answer, Err(LookupError::Unknown))
}
