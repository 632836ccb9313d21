//! Queues and bindings as others make them, and publishers that are not ours (contract data-plane §4.2, §4.3).

use asya_tests::plant::{Plant, Spec, envelope};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;
use serde_json::json;

/// Publishes envelope `number` as another program would.
fn publish(
    broker: &Broker,
    vhost: &str,
    exchange: &str,
    key: &str,
    number: usize,
    properties: &serde_json::Value,
) {
    let body = envelope(number, &["one", "two"]);
    let message = json!({
        "properties": properties,
        "routing_key": key,
        "payload": String::from_utf8_lossy(&body),
        "payload_encoding": "string",
    });
    let path = format!("/api/exchanges/{vhost}/{exchange}/publish");
    let answer = broker.manage("POST", &path, &message.to_string());
    assert!(answer.contains(r#""routed":true"#), "{answer}");
}

fn bindings(broker: &Broker, vhost: &str, queue: &str) -> String {
    broker.manage("GET", &format!("/api/queues/{vhost}/{queue}/bindings"), "")
}

/// With the operator's own topology the original lost every message on its way to the next actor (D-02).
#[test]
fn every_topology_and_every_publisher_works() {
    let broker = Broker::shared();
    let mut plant = Plant::new(broker);
    plant.set_env("ASYA_QUEUE_AUTO_CREATE", "false");
    let vhost = plant.vhost.clone();
    let queue = |name: &str, arguments: &str| {
        let body = format!(r#"{{"durable": true, "arguments": {arguments}}}"#);
        broker.manage("PUT", &format!("/api/queues/{vhost}/{name}"), &body);
    };
    // One is a quorum queue bound to nothing; two is what the operator makes.
    queue("asya-one", r#"{"x-queue-type": "quorum"}"#);
    queue(
        "asya-two",
        r#"{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "asya-two-dlq"}"#,
    );
    let operator = format!("/api/bindings/{vhost}/e/asya/q/asya-two");
    broker.manage("POST", &operator, r#"{"routing_key": "asya-two"}"#);
    // Two is not running yet, so that only the operator's binding leads there.
    plant.expect(40);
    plant.add(&Spec::native("one"));
    for number in 0..10 {
        publish(broker, &vhost, "amq.default", "asya-one", number, &json!({}));
    }
    wait_for("results through the default exchange", || {
        plant.depth("two").filter(|depth| *depth >= 10)
    });
    assert!(bindings(broker, &vhost, "asya-one").contains(r#""routing_key":"one""#));
    let properties = [
        json!({"delivery_mode": 1}),
        json!({"delivery_mode": 2, "content_type": "application/json", "timestamp": 1_700_000_000}),
        json!({"content_type": "text/plain", "headers": {"x-any": [1, {"deep": true}]}, "priority": 3}),
    ];
    for (number, properties) in (10..40).zip(properties.iter().cycle()) {
        publish(broker, &vhost, "asya", "one", number, properties);
    }
    plant.add(&Spec::native("two"));
    plant.finish().assert_all_done(0);
    let bound = bindings(broker, &vhost, "asya-two");
    assert!(bound.contains(r#""routing_key":"two""#), "{bound}");
    assert!(
        bound.contains(r#""routing_key":"asya-two""#),
        "what others have bound stays: {bound}"
    );
}
