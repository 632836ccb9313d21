//! `/health`, `/livez` and `/readyz` while what the sidecar needs comes and goes.

use asya_tests::plant::{Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;

use crate::setup::{address, get, serving, texts, wait_unready};

#[test]
fn ready_means_that_runtime_and_queue_are_there() {
    let mut plant = Plant::new(Broker::shared());
    let spec = serving(Spec::native("one")).sidecar_env("ASYA_QUEUE_AUTO_CREATE", "false");
    let pod = plant.add(&spec);
    let at = address(&mut pod.sidecar);
    wait_unready(&mut pod.sidecar, &at, "queue asya-one does not exist");
    assert_eq!(get(&at, "/health"), (200, "OK".into()));
    plant.declare("one");
    wait_unready(&mut plant.pods[0].sidecar, &at, "");
    let warnings = texts(&plant.pods[0].sidecar.log(), "WARN");
    let about_queue = warnings
        .iter()
        .filter(|line| line.contains("ASYA_QUEUE_AUTO_CREATE"));
    assert_eq!(about_queue.count(), 1, "{warnings:?}");
    plant.pods[0].runtime.kill();
    plant.send(1, &["one"]);
    wait_unready(&mut plant.pods[0].sidecar, &at, "the runtime does not take calls");
    plant.pods[0].runtime.start_again();
    wait_unready(&mut plant.pods[0].sidecar, &at, "");
    plant.finish().assert_all_done(0);
}

#[test]
fn an_end_actor_makes_its_dead_letter_queue_as_well() {
    let mut plant = Plant::new(Broker::shared());
    let spec = serving(Spec::native("error-end"))
        .sidecar_env("ASYA_IS_END_ACTOR", "true")
        .sidecar_env("ASYA_QUEUE_AUTO_CREATE", "true");
    let pod = plant.add(&spec);
    let at = address(&mut pod.sidecar);
    wait_unready(&mut pod.sidecar, &at, "");
    assert_eq!(plant.depth("error-end-dlq"), Some(0));
}

#[test]
fn a_broker_that_comes_late_or_is_lost_is_waited_for() {
    let (mut plant, proxy) = Plant::behind_proxy(Broker::shared());
    proxy.swallow();
    let pod = plant.add(&serving(Spec::native("one")));
    let at = address(&mut pod.sidecar);
    wait_unready(&mut pod.sidecar, &at, "no connection to RabbitMQ");
    proxy.heal();
    wait_unready(&mut pod.sidecar, &at, "");
    proxy.swallow();
    proxy.cut();
    wait_unready(&mut pod.sidecar, &at, "the connection to RabbitMQ is lost");
    proxy.heal();
    wait_unready(&mut pod.sidecar, &at, "");
    plant.send(3, &["one"]);
    plant.finish().assert_all_done(0);
}

/// The operator may have made it with other arguments than those that are given here.
#[test]
fn a_queue_with_other_arguments_is_used_as_it_is() {
    let broker = Broker::shared();
    let mut plant = Plant::new(broker);
    let path = format!("/api/queues/{}/asya-one", plant.vhost);
    broker.manage(
        "PUT",
        &path,
        r#"{"durable": true, "arguments": {"x-max-length": 50}}"#,
    );
    let spec =
        serving(Spec::native("one")).sidecar_env("ASYA_QUEUE_ARGUMENTS", r#"{"x-queue-type": "quorum"}"#);
    let pod = plant.add(&spec);
    let at = address(&mut pod.sidecar);
    wait_unready(&mut pod.sidecar, &at, "");
    plant.send(2, &["one"]);
    plant.finish().assert_all_done(0);
}

#[test]
fn an_address_that_is_taken_is_no_reason_to_end() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut plant = Plant::new(Broker::shared());
    let spec = Spec::native("one")
        .sidecar_env("ASYA_METRICS_ENABLED", "true")
        .sidecar_env("ASYA_METRICS_ADDR", &format!("127.0.0.1:{port}"));
    plant.send(1, &["one"]);
    plant.add(&spec);
    let log = || texts(&plant.pods[0].sidecar.log(), "ERROR");
    wait_for("the line about it", || log().pop());
    assert!(log()[0].contains("ASYA_METRICS_ADDR"), "{:?}", log());
    plant.finish().assert_all_done(0);
}
