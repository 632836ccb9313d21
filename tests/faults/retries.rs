//! Retries on real delay queues, and what kills do to messages that wait in them.

use std::collections::BTreeMap;

use asya_tests::plant::{ERROR_END, HAPPY_END, Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;
use serde_json::Value;

use crate::setup::PREFETCH;

/// Fails the first two runs of each payload; all runs are written to the file `calls`.
const FAIL_TWICE: &str = r#"
class Outage(ConnectionError):
    pass

def run(payload):
    line = "%s\n" % payload["number"]
    with open("calls", "a+") as file:
        file.write(line)
        file.seek(0)
        runs = file.readlines().count(line)
    if runs <= 2:
        raise Outage("run %d" % runs)
    return payload
"#;

fn retrying(attempts: &str, backoff: &str) -> Spec {
    Spec::python("one", FAIL_TWICE)
        .sidecar_env("ASYA_RETRY_MAX_ATTEMPTS", attempts)
        .sidecar_env("ASYA_RETRY_INITIAL_BACKOFF", backoff)
        .sidecar_env("ASYA_RETRY_ON", "OSError")
}

/// Runs of each payload.
fn runs(plant: &Plant<'_>) -> BTreeMap<String, usize> {
    let mut runs = BTreeMap::new();
    for line in plant.pods[0].lines("calls") {
        *runs.entry(line).or_default() += 1;
    }
    runs
}

#[test]
fn failed_runs_are_repeated_through_the_delay_queues_and_leave_no_trace_on_results() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(30, &["one"]);
    plant.add(&retrying("3", "150ms"));
    let results = plant.await_messages(HAPPY_END, 30);
    for result in &results {
        let envelope = result.envelope();
        assert_eq!(
            result.message_id.as_deref(),
            Some(&*format!("{}/1/1/0", result.id()))
        );
        let headers = envelope["headers"].as_object().unwrap();
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["trace"]);
    }
    let runs = runs(&plant);
    assert_eq!(
        (runs.len(), runs.values().min(), runs.values().max()),
        (30, Some(&3), Some(&3))
    );
    plant.stop();
    assert_eq!((plant.depth("one"), plant.depth(ERROR_END)), (Some(0), Some(0)));
}

#[test]
fn the_last_failure_brings_its_history_to_error_end() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(5, &["one"]);
    plant.add(&retrying("2", "100ms"));
    for error in plant.await_messages(ERROR_END, 5) {
        let payload = error.envelope()["payload"].clone();
        assert_eq!(
            (&payload["error"], &payload["attempts"]),
            (&"processing_error".into(), &2.into())
        );
        let history = payload["history"].as_array().unwrap();
        let told: Vec<_> = history.iter().map(|run| run["message"].clone()).collect();
        assert_eq!(told, ["run 1", "run 2"].map(Value::from));
        assert_eq!(history[1]["gave_up"], "max_attempts");
    }
    plant.stop();
    assert_eq!((plant.depth("one"), plant.depth(HAPPY_END)), (Some(0), Some(0)));
}

/// With a prefetch of one, a message that waited unacked would stop all others.
#[test]
fn a_waiting_retry_holds_no_place_in_the_prefetch_window() {
    let mut plant = Plant::new(Broker::shared());
    plant.set_env("ASYA_RABBITMQ_PREFETCH", "1");
    plant.send(10, &["one"]);
    plant.add(&retrying("3", "1h").sidecar_env("ASYA_RETRY_MAX_BACKOFF", "1h"));
    wait_for("a first run of each", || (runs(&plant).len() == 10).then_some(()));
    wait_for("all to be put back", || {
        plant.depth("one").filter(|depth| *depth == 0)
    });
    plant.stop();
    assert!(runs(&plant).values().all(|&runs| runs == 1), "{:?}", runs(&plant));
    assert_eq!((plant.ended(), plant.depth("one")), (Some(0), Some(0)));
}

#[test]
fn kills_while_retries_wait_lose_and_condemn_nothing() {
    const KILLS: [usize; 2] = [20, 80];
    let mut plant = Plant::new(Broker::shared());
    plant.set_env("ASYA_RABBITMQ_PREFETCH", &PREFETCH.to_string());
    plant.send(60, &["one"]);
    plant.add(&retrying("20", "100ms").sidecar_env("ASYA_RETRY_MAX_BACKOFF", "400ms"));
    for calls in KILLS {
        wait_for("runs", || {
            (plant.pods[0].lines("calls").len() >= calls).then_some(())
        });
        plant.pods[0].sidecar.crash();
    }
    let tally = plant.finish();
    tally.assert_all_done(KILLS.len() * PREFETCH);
}
