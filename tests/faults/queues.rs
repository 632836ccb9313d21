//! Queues that are missing, deleted, made again or full.

use asya_tests::plant::{ERROR_END, HAPPY_END, Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;

use crate::setup::{COUNT, FAIL, GATE, PREFETCH};

/// Waits until the handler of pod `pod` has been called `count` times.
fn await_calls(plant: &Plant, pod: usize, count: usize) {
    wait_for(&format!("{count} calls"), || {
        (plant.pods[pod].lines("calls").len() >= count).then_some(())
    });
}

/// The original ran the handler again and again (D-01): here only the publish is repeated.
#[test]
fn a_next_queue_that_appears_late_gets_every_result_of_one_call_each() {
    let mut plant = Plant::new(Broker::shared());
    plant.set_env("ASYA_RABBITMQ_PREFETCH", &PREFETCH.to_string());
    plant.send(50, &["one", "late"]);
    plant.add(&Spec::python("one", COUNT));
    // All that it may hold is called, and waits for a queue.
    await_calls(&plant, 0, PREFETCH);
    assert_eq!(plant.ended(), Some(0));
    plant.add(&Spec::native("late"));
    plant.finish().assert_all_done(0);
    assert_eq!(plant.pods[0].lines("calls").len(), 50, "each was called once");
}

/// Also with credit that tunes itself: what only waits for a queue leaves its place to others.
#[test]
fn a_message_that_waits_for_its_queue_holds_up_no_other() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(3, &["one", "late"]);
    plant.send(20, &["one"]);
    plant.add(&Spec::native("one"));
    wait_for("the others", || {
        plant.depth(HAPPY_END).filter(|depth| *depth == 20)
    });
    plant.add(&Spec::native("late"));
    plant.finish().assert_all_done(0);
}

#[test]
fn a_next_queue_that_never_appears_is_an_error_after_one_call() {
    let mut plant = Plant::new(Broker::shared());
    plant.set_env("ASYA_UNROUTABLE_TIMEOUT", "2s");
    plant.send(3, &["one", "nowhere"]);
    plant.add(&Spec::python("one", COUNT));
    let errors = plant.await_messages(ERROR_END, 3);
    for error in &errors {
        assert!(error.error().starts_with("unroutable"), "{}", error.error());
        assert!(error.error().contains("asya-nowhere"), "{}", error.error());
        let payload = &error.envelope()["payload"]["original_payload"];
        assert!(payload["number"].is_u64(), "{payload}");
    }
    assert_eq!(plant.pods[0].lines("calls").len(), 3, "each was called once");
    plant.stop();
    assert_eq!(plant.depth("one"), Some(0));
}

/// The original acknowledged what error-end did not take (D-29).
#[test]
fn errors_are_held_until_error_end_exists() {
    let mut plant = Plant::new(Broker::shared());
    plant.delete(ERROR_END);
    plant.send(5, &["one"]);
    plant.put("one", "poison", "no envelope");
    plant.add(&Spec::python("one", FAIL));
    await_calls(&plant, 0, 5);
    wait_for("all to be taken", || {
        plant.depth("one").filter(|depth| *depth == 0)
    });
    plant.declare(ERROR_END);
    let errors = plant.await_messages(ERROR_END, 6);
    assert_eq!(errors.len(), 6);
    assert_eq!(plant.pods[0].lines("calls").len(), 5, "each was called once");
    plant.stop();
    assert_eq!((plant.depth("one"), plant.depth(ERROR_END)), (Some(0), Some(0)));
}

#[test]
fn a_queue_that_is_deleted_while_it_is_consumed_is_consumed_again() {
    for auto_create in ["true", "false"] {
        let mut plant = Plant::new(Broker::shared());
        plant.set_env("ASYA_QUEUE_AUTO_CREATE", auto_create);
        plant.declare("two");
        plant.send(100, &["one", "two"]);
        plant.add(&Spec::native("one"));
        plant.add(&Spec::native("two"));
        for round in 1..=2 {
            wait_for("everything to be done", || {
                plant.ended().filter(|ended| *ended >= round * 100)
            });
            // Empty now, and nobody publishes, so that nothing is deleted with them.
            plant.delete("one");
            plant.delete("two");
            if auto_create == "true" {
                wait_for("the queues to be made again", || {
                    plant.depth("one").and(plant.depth("two"))
                });
            } else {
                plant.declare("two");
            }
            plant.send(100, &["one", "two"]);
        }
        plant.finish().assert_all_done(0);
    }
}

#[test]
fn a_call_survives_that_its_queue_is_deleted() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(1, &["one"]);
    plant.add(&Spec::python("one", GATE));
    await_calls(&plant, 0, 1);
    plant.delete("one");
    std::fs::write(plant.pods[0].path("open"), "").unwrap();
    let results = plant.await_messages(HAPPY_END, 1);
    assert_eq!(results[0].id(), "e-0");
    plant.stop();
    assert_eq!((plant.depth("one"), plant.depth(HAPPY_END)), (Some(0), Some(0)));
    assert_eq!(plant.pods[0].lines("calls").len(), 1);
}

#[test]
fn a_full_queue_delays_and_loses_nothing() {
    let broker = Broker::shared();
    let mut plant = Plant::new(broker);
    plant.set_env("ASYA_RABBITMQ_PREFETCH", &PREFETCH.to_string());
    let path = format!("/api/queues/{}/asya-two", plant.vhost);
    let arguments = r#"{"durable": true, "arguments": {"x-max-length": 5, "x-overflow": "reject-publish"}}"#;
    broker.manage("PUT", &path, arguments);
    plant.send(60, &["one", "two"]);
    plant.add(&Spec::python("one", COUNT));
    wait_for("the queue to be full", || {
        plant.depth("two").filter(|depth| *depth >= 5)
    });
    await_calls(&plant, 0, 5 + PREFETCH);
    plant.add(&Spec::native("two"));
    plant.finish().assert_all_done(0);
    assert_eq!(plant.pods[0].lines("calls").len(), 60, "each was called once");
}
