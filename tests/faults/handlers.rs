//! Handlers that fail, hang or split, and runtimes that come late.

use std::collections::BTreeSet;

use asya_tests::plant::{ERROR_END, HAPPY_END, Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;

use crate::setup::{AUTO, FAIL, Protocol, plant};

#[test]
fn a_handler_that_always_fails_is_called_once_for_each_message() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(20, &["one"]);
    plant.add(&Spec::python("one", FAIL));
    let errors = plant.await_messages(ERROR_END, 20);
    for error in &errors {
        assert_eq!(
            (error.error().as_str(), error.error_message().as_str()),
            ("processing_error", "never")
        );
        assert!(
            error.envelope()["headers"]["trace"].is_string(),
            "headers are kept"
        );
    }
    let ids: BTreeSet<_> = errors.iter().map(asya_tests::plant::Arrived::id).collect();
    assert_eq!(ids.len(), 20);
    assert_eq!(plant.pods[0].lines("calls").len(), 20);
    plant.stop();
    assert_eq!(plant.depth("one"), Some(0));
}

/// The original ended without settling, and its runtime made the next, innocent message wait until it failed too (D-08).
#[test]
fn a_call_that_takes_too_long_is_one_error_and_harms_no_other_message() {
    call_for_too_long(AUTO);
}

pub(crate) fn call_for_too_long(protocol: Protocol) {
    const SLOW_FIRST: &str = r#"
import time
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload["number"])
    time.sleep(3 if payload["number"] == 0 else 0)
    return payload
"#;
    let mut plant = plant(protocol);
    plant.send(20, &["one"]);
    plant.add(&Spec::python("one", SLOW_FIRST).sidecar_env("ASYA_RUNTIME_TIMEOUT", "1s"));
    let errors = plant.await_messages(ERROR_END, 1);
    assert_eq!((errors.len(), errors[0].id().as_str()), (1, "e-0"));
    assert_eq!(errors[0].error(), "Runtime timeout exceeded after 1s");
    wait_for("the others", || {
        plant.depth(HAPPY_END).filter(|depth| *depth == 19)
    });
    plant.stop();
    assert_eq!((plant.depth("one"), plant.depth(ERROR_END)), (Some(0), Some(0)));
    assert_eq!(plant.pods[0].lines("calls").len(), 20, "each was called once");
}

/// The original repeated ids (D-09) and lost headers and parents (D-05).
#[test]
fn a_split_of_a_split_has_ids_of_its_own_and_keeps_headers_and_parents() {
    const SPLIT: &str = "def run(payload):\n    return [payload, payload, payload]\n";
    let mut plant = Plant::new(Broker::shared());
    plant.send(1, &["one", "two", "three"]);
    plant.add(&Spec::python("one", SPLIT));
    plant.add(&Spec::python("two", SPLIT));
    plant.add(&Spec::native("three"));
    let results = plant.await_messages(HAPPY_END, 9);
    assert_eq!(results.len(), 9);
    let ids: BTreeSet<_> = results.iter().map(asya_tests::plant::Arrived::id).collect();
    assert_eq!(ids.len(), 9, "{ids:?}");
    let message_ids: BTreeSet<_> = results.iter().map(|result| result.message_id.clone()).collect();
    assert_eq!(message_ids.len(), 9, "{message_ids:?}");
    for result in &results {
        let (id, envelope) = (result.id(), result.envelope());
        assert!(id.starts_with("e-0"), "{id}");
        assert_eq!(envelope["headers"]["trace"], "t-0");
        let parent = envelope["parent_id"].as_str();
        assert!(
            id == "e-0" || parent.is_some_and(|parent| id.starts_with(parent)),
            "{id}: {parent:?}"
        );
    }
    plant.stop();
}

/// The original turned all messages of that time into errors (D-34).
#[test]
fn messages_wait_for_a_runtime_that_is_not_there() {
    do_without_a_runtime(AUTO);
}

pub(crate) fn do_without_a_runtime(protocol: Protocol) {
    let mut plant = plant(protocol);
    plant.send(50, &["one"]);
    plant.add(&Spec::native("one"));
    for round in 1..=2 {
        wait_for("all messages", || {
            plant.depth(HAPPY_END).filter(|depth| *depth == round * 50)
        });
        // An idle sidecar may notice at once, and says it once.
        let before = plant.pods[0].sidecar.log().len();
        plant.pods[0].runtime.kill();
        plant.send(50, &["one"]);
        wait_for("the runtime to be missed", || {
            let log = &plant.pods[0].sidecar.log()[before..];
            let missed = ["not reachable", "the session with the runtime is over"];
            missed.iter().any(|text| log.contains(text)).then_some(())
        });
        plant.pods[0].runtime.start_again();
    }
    plant.finish().assert_all_done(0);
}
