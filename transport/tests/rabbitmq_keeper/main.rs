//! Keeping queues on a real RabbitMQ node: what is made, what is left alone, who may delete, and that nothing is lost.
#![cfg(feature = "rabbitmq")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails, also in what tests share"
)]

use asya_tests::rabbitmq::{Broker, impatient};
use asya_transport::QueueName;
use asya_transport::keeping::{Ensured, QueueOwner};
use asya_transport::rabbitmq::{QueueArguments, RabbitMqKeeper, RabbitMqOptions, Wanted};
use serde_json::Value;

mod ensuring;
mod refusing;
mod releasing;

const QUORUM: &str = r#"{"x-queue-type": "quorum", "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "asya-x-dlq", "x-delivery-limit": 13}"#;
const CLASSIC: &str = "{}";

/// A virtual host of the shared node, and a keeper for it.
struct Place {
    broker: &'static Broker,
    vhost: String,
    options: RabbitMqOptions,
    keeper: RabbitMqKeeper,
}

impl Place {
    async fn new() -> Self {
        let broker = tokio::task::spawn_blocking(Broker::shared).await.unwrap();
        let vhost = broker.vhost();
        let options = impatient(RabbitMqOptions::new(broker.address(&vhost)));
        let keeper = RabbitMqKeeper::new(options.clone()).unwrap();
        Self {
            broker,
            vhost,
            options,
            keeper,
        }
    }

    /// Another process, with connections of its own.
    fn another(&self) -> RabbitMqKeeper {
        RabbitMqKeeper::new(self.options.clone()).unwrap()
    }

    async fn ensure(&self, queue: &QueueName, wanted: &Wanted) -> Ensured {
        self.keeper.ensure(queue, wanted).await.unwrap()
    }

    fn manage(&self, method: &str, path: &str, body: &str) -> Value {
        let (kind, rest) = path.split_once('/').unwrap();
        let text = self
            .broker
            .manage(method, &format!("/api/{kind}/{}/{rest}", self.vhost), body);
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }

    fn shown(&self, queue: &QueueName) -> Value {
        self.manage("GET", &format!("queues/{queue}"), "")
    }

    /// From which exchange, under which key.
    fn bindings(&self, queue: &QueueName) -> Vec<(String, String)> {
        let listed = self.manage("GET", &format!("queues/{queue}/bindings"), "");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut bindings: Vec<_> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|binding| (text(&binding["source"]), text(&binding["routing_key"])))
            .filter(|(exchange, _)| !exchange.is_empty())
            .collect();
        bindings.sort();
        bindings
    }

    fn put(&self, queue: &QueueName, text: &str) {
        let body = format!(
            r#"{{"properties": {{}}, "routing_key": "{queue}", "payload": "{text}", "payload_encoding": "string"}}"#
        );
        let answer = self.manage("POST", "exchanges/amq.default/publish", &body);
        assert_eq!(answer["routed"], true);
    }

    async fn ready(&self, queue: &QueueName) -> Option<u64> {
        self.keeper.ready(queue).await.unwrap()
    }
}

fn owner(cluster: &str) -> QueueOwner {
    QueueOwner {
        cluster: cluster.into(),
        namespace: "team".into(),
    }
}

fn wanted(cluster: &str, arguments: &str) -> Wanted {
    Wanted {
        owner: owner(cluster),
        arguments: read(arguments),
        create: true,
        dead_letter: true,
        recreate: false,
    }
}

fn read(arguments: &str) -> QueueArguments {
    QueueArguments::read(&serde_json::from_str(arguments).unwrap()).unwrap()
}
