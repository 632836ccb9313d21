//! `spec.retry` in a local run: real handlers that fail for a while, or for ever.

use asya_tests::{Actor, Pipeline};
use serde_json::{Value, json};

const HANDLERS: &str = r#"
import os, time

class Outage(ConnectionError):
    pass

def count(payload):
    # Runs of one payload, over all processes.
    with open(payload["name"] + ".runs", "a+") as runs:
        runs.write("x")
        runs.seek(0)
        return len(runs.read())

def fails_twice(payload):
    if count(payload) <= 2:
        raise Outage("not yet")
    return payload

def always_fails(payload):
    raise Outage("run %d\nwith a second line" % count(payload))

def dies_once(payload):
    if count(payload) == 1:
        os._exit(5)
    return payload

def hangs_once(payload):
    if count(payload) == 1:
        time.sleep(3600)
    return payload

def finds_nothing(payload):
    count(payload)
    return {}[payload["name"]]
"#;

/// An actor with this handler and retry policy; waits are short.
fn actor(handler: &str, policy: &str) -> Actor {
    let policy = format!("{{{policy}, initialBackoff: 20ms, maxBackoff: 50ms}}");
    Actor::python("work", &format!("steps.{handler}")).retry(&policy)
}

fn pipeline(actor: &Actor) -> Pipeline {
    Pipeline::new().file("steps.py", HANDLERS).actor(actor)
}

fn runs(pipeline: &Pipeline, name: &str) -> usize {
    pipeline.read(&format!("{name}.runs")).len()
}

#[test]
fn a_handler_that_fails_twice_succeeds_in_the_third_run() {
    let pipeline = pipeline(&actor("fails_twice", "maxAttempts: 3"))
        .file("inputs.jsonl", "{\"name\":\"a\"}\n{\"name\":\"b\"}\n");
    let inputs = format!("@{}", pipeline.path("inputs.jsonl").display());
    let ended = pipeline
        .asya("run")
        .args(["--input", &inputs])
        .run()
        .expect_code(0)
        .expect_stderr(&["2 succeeded", "0 failed", "retried"]);
    assert!(!ended.stderr.contains("has no effect"), "{}", ended.stderr);
    assert!(!ended.stdout.contains("asya_retry"), "{}", ended.stdout);
    let mut names: Vec<_> = ended
        .payloads()
        .iter()
        .map(|payload| payload["name"].clone())
        .collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["a", "b"]);
    assert_eq!([runs(&pipeline, "a"), runs(&pipeline, "b")], [3, 3]);
    assert_eq!((pipeline.happy().len(), pipeline.errors().len()), (2, 0));
    pipeline.assert_at_rest();
}

#[test]
fn a_handler_that_never_succeeds_leaves_its_history_with_the_error() {
    let pipeline = pipeline(&actor("always_fails", "maxAttempts: 4"));
    pipeline
        .asya("run")
        .args(["--input", r#"{"name":"a"}"#])
        .run()
        .expect_code(1)
        .expect_stderr(&["1 failed", "run 4"]);
    assert_eq!(runs(&pipeline, "a"), 4);
    let errors = pipeline.errors();
    assert_eq!((errors.len(), pipeline.happy().len()), (1, 0));
    assert!(!errors[0].text().contains("asya_retry"), "{}", errors[0].text());
    let payload = errors[0].payload();
    assert_eq!(payload["error"], "processing_error");
    assert_eq!(
        payload["details"]["mro"],
        json!(["steps.Outage", "ConnectionError", "OSError", "Exception"])
    );
    assert_eq!(payload["attempts"], 4);
    assert_eq!(payload["original_payload"], json!({"name": "a"}));
    let history = payload["history"].as_array().unwrap();
    assert_eq!(history.len(), 4);
    for (run, n) in history.iter().zip(1..) {
        assert_eq!(run["attempt"], n);
        assert_eq!(run["error"], "processing_error");
        assert_eq!(run["type"], "steps.Outage");
        assert_eq!(run["message"], format!("run {n}"));
        assert_eq!(run["after_ms"].is_u64(), n < 4, "{run}");
    }
    assert_eq!(history[3]["gave_up"], "max_attempts");
    pipeline.assert_at_rest();
}

#[test]
fn a_call_whose_process_dies_is_repeated_in_the_next_one() {
    let pipeline = pipeline(&actor("dies_once", "maxAttempts: 2, on: [worker_died]"));
    pipeline
        .asya("run")
        .args(["--input", r#"{"name":"a"}"#])
        .run()
        .expect_code(0)
        .expect_stderr(&["1 succeeded"]);
    assert_eq!(runs(&pipeline, "a"), 2);
    pipeline.assert_at_rest();
}

#[test]
fn a_call_that_hangs_is_repeated_in_a_fresh_process() {
    let hanging = actor("hangs_once", "maxAttempts: 2, on: [timeout]").processing_timeout(1);
    let pipeline = pipeline(&hanging);
    pipeline
        .asya("run")
        .args(["--input", r#"{"name":"a"}"#])
        .run()
        .expect_code(0)
        .expect_stderr(&["1 succeeded"]);
    assert_eq!(runs(&pipeline, "a"), 2);
    pipeline.assert_at_rest();
}

#[test]
fn a_base_class_of_the_exception_excludes_it_from_retries() {
    let pipeline = pipeline(&actor("finds_nothing", "maxAttempts: 5, neverOn: [LookupError]"));
    pipeline
        .asya("run")
        .args(["--input", r#"{"name":"a"}"#])
        .run()
        .expect_code(1);
    assert_eq!(runs(&pipeline, "a"), 1);
    let payload = pipeline.errors()[0].payload();
    assert_eq!(payload["attempts"], 1);
    assert_eq!(payload["history"][0]["gave_up"], "never_on");
}

#[test]
fn a_retry_variable_that_says_nothing_usable_is_refused_with_its_place() {
    let sidecar = "  sidecar: {env: [{name: ASYA_RETRY_JITTER, value: \"7\"}]}\n";
    let pipeline = pipeline(&Actor::python("work", "steps.fails_twice"));
    let manifest = pipeline.read("actors.yaml") + sidecar;
    pipeline.write("actors.yaml", manifest);
    pipeline.asya("run").run().expect_code(2).expect_stderr(&[
        "spec.sidecar.env[0].value",
        "ASYA_RETRY_JITTER must be a number from 0 to 1, not \"7\"",
    ]);
}
