//! What the sidecar tests share: a real embedded queue, a real socket with a handler behind it, and a way to wait for
//! conditions.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unused_async,
    reason = "each test file uses a part of this"
)]
#![expect(clippy::expect_used, reason = "a test fails where it stands")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_runtime_protocol::{
    Envelope, Handler, HandlerError, HandlerItem, RequestEnvelope, ServerOptions, serve,
};
use asya_sidecar::{Config, Protocol, Role, Sidecar};
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Outgoing, QueueName, Settlement, Transport};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// Longest wait for any condition: generous, since it only matters when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One directory with a queue in it.
pub struct House {
    pub directory: tempfile::TempDir,
    pub transport: Arc<dyn Transport>,
    /// What sidecars here speak with their runtimes.
    pub protocol: Protocol,
}

impl House {
    pub fn new() -> Self {
        Self::with(Protocol::Auto)
    }

    pub fn with(protocol: Protocol) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let transport = LocalTransport::open(&directory.path().join("queue"), &LocalOptions::default())
            .expect("the embedded queue opens");
        Self {
            directory,
            transport: Arc::new(transport),
            protocol,
        }
    }

    /// Declares the queues of these actors and of both ends.
    pub async fn declare(&self, actors: &[&str]) {
        for actor in actors.iter().chain(&["happy-end", "error-end"]) {
            self.transport
                .administration()
                .declare(&QueueName::for_actor(actor))
                .await
                .expect("declares");
        }
    }

    /// A configuration for `actor` with its own socket directory and test-sized time limits.
    pub fn config(&self, actor: &str, role: Role) -> Config {
        let mut config = Config::new(actor, role);
        config.socket_dir = self.directory.path().join(actor);
        config.protocol = self.protocol;
        config.unroutable_patience = Duration::from_millis(200);
        config.runtime_ready_timeout = Duration::from_secs(20);
        config
    }

    pub async fn publish(&self, actor: &str, body: impl Into<Bytes>) {
        let message = Outgoing {
            queue: QueueName::for_actor(actor),
            message_id: String::from("test"),
            body: body.into(),
            delay: Duration::ZERO,
        };
        self.transport.publish(message).await.expect("publishes");
    }

    /// Takes exactly `count` messages from the queue of `actor`, then checks that there is no other.
    pub async fn take(&self, actor: &str, count: usize) -> Vec<Message> {
        let messages = self.take_at_least(actor, count).await;
        assert_eq!(messages.len(), count, "more messages than expected in {actor}");
        assert_eq!(self.depth(actor).await, 0, "messages are left in {actor}");
        messages
    }

    /// Takes every message that is in the queue of `actor` now.
    pub async fn take_all(&self, actor: &str) -> Vec<Message> {
        let there = usize::try_from(self.depth(actor).await).expect("a count");
        self.take(actor, there).await
    }

    async fn take_at_least(&self, actor: &str, count: usize) -> Vec<Message> {
        let queue = QueueName::for_actor(actor);
        let mut consumer = self.transport.consume(&queue).await.expect("opens a consumer");
        let mut messages = Vec::new();
        while messages.len() < count {
            let received = tokio::time::timeout(PATIENCE, consumer.receive(100)).await;
            let received = received
                .unwrap_or_else(|_| panic!("{} of {count} messages came to {actor}", messages.len()))
                .expect("receives");
            for delivery in received {
                messages.push(Message {
                    id: delivery.message_id.clone().unwrap_or_default(),
                    body: delivery.body.clone(),
                });
                delivery.receipt.settle(Settlement::Ack).await.expect("settles");
            }
        }
        messages
    }

    /// All messages that the queue is responsible for, in whatever state.
    pub async fn depth(&self, actor: &str) -> u64 {
        self.transport
            .administration()
            .depth(&QueueName::for_actor(actor))
            .await
            .expect("counts")
            .total()
    }

    pub async fn wait_empty(&self, actor: &str) {
        wait_for(&format!("{actor} to be empty"), async || {
            self.depth(actor).await == 0
        })
        .await;
    }
}

#[derive(Debug, Clone)]
pub struct Message {
    pub id: String,
    pub body: Bytes,
}

impl Message {
    pub fn envelope(&self) -> Envelope {
        Envelope::parse(&self.body).expect("an envelope").envelope
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("UTF-8")
    }
}

/// A handler behind a real socket; ends with the value.
pub struct Runtime {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Runtime {
    pub fn start(socket_dir: &Path, handler: impl Handler) -> Self {
        let stop = CancellationToken::new();
        let options = ServerOptions {
            validation: false,
            ..ServerOptions::new(socket_dir)
        };
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move { serve(options, handler, stopped).await.expect("serves") });
        Self { stop, task }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the server ends");
    }
}

/// Answers with the payload as it came.
pub async fn echo(request: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    Ok(vec![HandlerItem::Payload(request.payload())])
}

pub async fn start(house: &House, config: Config) -> Sidecar {
    Sidecar::builder(config, Arc::clone(&house.transport))
        .start()
        .await
        .expect("the sidecar starts")
}

/// Waits until `condition` holds; panics with what it waited for.
pub async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An envelope on its way along `actors`.
pub fn envelope(id: &str, actors: &[&str], payload: &str) -> String {
    let actors = serde_json::to_string(actors).expect("JSON");
    format!(r#"{{"id":"{id}","route":{{"actors":{actors},"current":0}},"payload":{payload}}}"#)
}
