//! `/metrics` after traffic that is known exactly.

use asya_tests::plant::{ERROR_END, HAPPY_END, Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;

use crate::setup::{address, get, samples, serving};

/// Does what the payload says.
const OBEY: &str = r#"
def run(payload):
    if payload["do"] == "nothing":
        return None
    if payload["do"] == "fail":
        raise ValueError("as told")
    if payload["do"] == "split":
        return [payload, payload]
    return payload
"#;

fn told(id: &str, what: &str, route: &[&str]) -> String {
    serde_json::json!({"id": id, "route": {"actors": route, "current": 0}, "payload": {"do": what}})
        .to_string()
}

#[test]
fn known_traffic_gives_exact_figures() {
    let mut plant = Plant::new(Broker::shared());
    plant.declare("one");
    plant.declare("next");
    for (id, what, route) in [
        ("a", "pass", &["one", "next"][..]),
        ("b", "pass", &["one"]),
        ("c", "nothing", &["one", "next"]),
        ("d", "fail", &["one", "next"]),
        ("e", "split", &["one", "next"]),
        ("f", "pass", &["other"]),
    ] {
        plant.put("one", id, told(id, what, route));
    }
    plant.put("one", "g", "no JSON");
    let pod = plant.add(&serving(Spec::python("one", OBEY)));
    let at = address(&mut pod.sidecar);
    let figure = |name: &str| samples(&at).get(&format!("asya_actor_{name}")).copied();
    wait_for("all messages to be done", || {
        let in_hand = figure(r#"deliveries_in_hand{stage="settling"}"#)? + figure("active_messages")?;
        let received = figure(r#"messages_received_total{queue="one",transport="rabbitmq"}"#)?;
        let ended = plant.ended()? + plant.depth("next")?;
        (received >= 7.0 && in_hand <= 0.0 && ended == 8).then_some(())
    });
    for (name, value) in [
        (
            r#"messages_received_total{queue="one",transport="rabbitmq"}"#,
            7.0,
        ),
        (r#"messages_processed_total{queue="one",status="success"}"#, 3.0),
        (
            r#"messages_processed_total{queue="one",status="empty_response"}"#,
            1.0,
        ),
        (
            r#"messages_processed_total{queue="one",status="end_consumed"}"#,
            0.0,
        ),
        (r#"messages_failed_total{queue="one",reason="parse_error"}"#, 1.0),
        (
            r#"messages_failed_total{queue="one",reason="route_mismatch"}"#,
            1.0,
        ),
        (
            r#"messages_failed_total{queue="one",reason="runtime_error"}"#,
            1.0,
        ),
        (
            r#"messages_failed_total{queue="one",reason="routing_error"}"#,
            0.0,
        ),
        (
            r#"messages_sent_total{destination_queue="asya-next",message_type="routing"}"#,
            3.0,
        ),
        (
            r#"messages_sent_total{destination_queue="asya-happy-end",message_type="happy_end"}"#,
            1.0,
        ),
        (
            r#"messages_sent_total{destination_queue="happy-end",message_type="happy_end"}"#,
            1.0,
        ),
        (
            r#"messages_sent_total{destination_queue="error-end",message_type="error_end"}"#,
            3.0,
        ),
        (r#"runtime_errors_total{queue="one",error_type="handler"}"#, 1.0),
        (
            r#"runtime_errors_total{queue="one",error_type="execution_error"}"#,
            0.0,
        ),
        (r#"runtime_execution_duration_seconds_count{queue="one"}"#, 5.0),
        (r#"processing_duration_seconds_count{queue="one"}"#, 7.0),
        (
            r#"queue_send_duration_seconds_count{destination_queue="error-end",transport="rabbitmq"}"#,
            3.0,
        ),
        (r#"envelope_size_bytes_count{direction="received"}"#, 7.0),
        (r#"envelope_size_bytes_count{direction="sent"}"#, 8.0),
        (
            r#"envelope_size_bytes_bucket{direction="received",le="100"}"#,
            7.0,
        ),
        ("publish_confirms_total", 8.0),
        ("runtime_ready", 1.0),
        ("runtime_workers", 1.0),
        ("runtime_workers_ready", 1.0),
        ("runtime_calls_in_flight", 0.0),
        ("broker_connected", 1.0),
        ("queue_found", 1.0),
        ("active_messages", 0.0),
    ] {
        assert_eq!(figure(name), Some(value), "{name}\n{}", get(&at, "/metrics").1);
    }
    assert_eq!(
        (plant.depth(HAPPY_END), plant.depth(ERROR_END)),
        (Some(2), Some(3))
    );
}

#[test]
fn an_end_actor_consumes_under_a_namespace_of_ones_own() {
    let mut plant = Plant::new(Broker::shared());
    plant.put("happy-end", "a", told("a", "pass", &["x"]));
    let spec = serving(Spec::native("happy-end"))
        .sidecar_env("ASYA_IS_END_ACTOR", "yes")
        .sidecar_env("ASYA_METRICS_NAMESPACE", "mine");
    let at = address(&mut plant.add(&spec).sidecar);
    wait_for("the message to be consumed", || {
        let name = r#"mine_messages_processed_total{queue="happy-end",status="end_consumed"}"#;
        samples(&at).get(name).copied().filter(|count| *count >= 1.0)
    });
    assert!(samples(&at).keys().all(|name| name.starts_with("mine_")));
}

#[test]
fn a_missing_destination_is_a_routing_error() {
    let mut plant = Plant::new(Broker::shared());
    plant.declare("one");
    plant.put("one", "a", told("a", "pass", &["one", "nowhere"]));
    let spec = serving(Spec::native("one")).sidecar_env("ASYA_UNROUTABLE_TIMEOUT", "0");
    let at = address(&mut plant.add(&spec).sidecar);
    wait_for("the routing error", || {
        let figures = samples(&at);
        let failed =
            figures.get(r#"asya_actor_messages_failed_total{queue="one",reason="routing_error"}"#)?;
        let returns = figures.get("asya_actor_publish_returns_total")?;
        (*failed >= 1.0 && *returns >= 1.0).then_some(())
    });
    assert_eq!(plant.await_messages(ERROR_END, 1).len(), 1);
}
