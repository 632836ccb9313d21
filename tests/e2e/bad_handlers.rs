//! Handlers that misbehave: each such call ends in exactly one stored outcome, and the messages before and after it
//! are worked on as usual.

use asya_tests::{Actor, Finished, Pipeline, Stored, processes_under};
use serde_json::{Value, json};

const HANDLER: &str = r#"
import os, signal, subprocess, sys, time

def handle(payload):
    if isinstance(payload, dict):
        globals()[payload["do"]]()
    return os.getpid()

def raises():
    raise ValueError("no good")

def raises_with_a_strange_message():
    raise ValueError("two\nlines \u00e9 \x00")

def raises_with_half_a_character():
    raise ValueError("\ud800")

def never_returns():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(3600)

def calls_sys_exit():
    sys.exit(5)

def calls_os_exit():
    os._exit(5)

def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def is_terminated():
    os.kill(os.getpid(), signal.SIGSEGV)

def recurses():
    recurses()

def closes_everything():
    os.closerange(0, 1024)

def forks_and_both_return():
    os.fork()

def leaves_children_behind():
    for _ in range(2):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.setsid()
            while True:
                time.sleep(3600)
    subprocess.Popen(["sleep", "3600"])

def leaves_a_child_behind_and_is_killed():
    leaves_children_behind()
    is_killed()

def prints():
    print('{"id": "not", "a": "result"}')
    os.write(1, b"x" * 200000)
    os.write(2, b"\xff\xfe no text \n")
"#;

struct Outcome {
    pipeline: Pipeline,
    ended: Finished,
    /// What the good calls before and after returned: the process that each ran in.
    processes: Vec<u64>,
}

impl Outcome {
    /// The one stored error.
    fn error(&self) -> Stored {
        let mut errors = self.pipeline.errors();
        assert_eq!(errors.len(), 1, "one error is stored");
        errors.remove(0)
    }

    /// What the error says: its code, and the details of the runtime if there are any.
    fn said(&self) -> String {
        let payload = self.error().payload();
        format!("{} {}", payload["error"], payload["details"])
    }
}

/// Runs two good calls with `"do"` between them.
fn run(what: &str) -> (Pipeline, Finished) {
    let pipeline = Pipeline::new()
        .file("handler.py", HANDLER)
        .file("in.jsonl", &format!("1\n{}\n2\n", json!({"do": what})))
        .actor(&Actor::python("step", "handler.handle").processing_timeout(3));
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let ended = pipeline.asya("run").args(["--input", &input]).run();
    (pipeline, ended)
}

/// The call fails: exit code 1, one stored error with the original payload, two good results.
fn fails(what: &str) -> Outcome {
    let (pipeline, ended) = run(what);
    let ended = ended.expect_code(1);
    pipeline.assert_at_rest();
    let payloads = ended.payloads();
    assert_eq!(payloads.len(), 3);
    let processes: Vec<_> = payloads.iter().filter_map(Value::as_u64).collect();
    assert_eq!(processes.len(), 2, "the others are worked on");
    assert_eq!(pipeline.happy().len(), 2);
    let outcome = Outcome {
        pipeline,
        ended,
        processes,
    };
    let error = outcome.error().compact();
    let original = format!(r#""original_payload":{{"do":"{what}"}}"#);
    assert!(error.contains(&original), "the original is kept: {error}");
    outcome
}

/// The call succeeds as if nothing had been.
fn succeeds(what: &str) -> Outcome {
    let (pipeline, ended) = run(what);
    let ended = ended.expect_code(0);
    pipeline.assert_at_rest();
    let processes: Vec<_> = ended.payloads().iter().filter_map(Value::as_u64).collect();
    assert_eq!((processes.len(), pipeline.happy().len()), (3, 3));
    assert_eq!(pipeline.errors().len(), 0);
    Outcome {
        pipeline,
        ended,
        processes,
    }
}

/// All calls that ended well ran in one process: the worker was not lost.
fn assert_same_worker(outcome: &Outcome) {
    let first = outcome.processes[0];
    assert!(outcome.processes.iter().all(|process| *process == first));
}

/// The worker was replaced between the good calls.
fn assert_new_worker(outcome: &Outcome) {
    assert_ne!(outcome.processes[0], outcome.processes[1]);
}

/// The call takes its worker with it, and the error says how.
fn dies(what: &str, how: &str) {
    let outcome = fails(what);
    assert_new_worker(&outcome);
    let said = outcome.said();
    assert!(said.contains("worker_died") && said.contains(how), "{said}");
}

#[test]
fn a_handler_that_raises() {
    let outcome = fails("raises");
    let details = &outcome.error().payload()["details"];
    assert_eq!(details["type"], "ValueError");
    assert_eq!(details["message"], "no good");
    assert!(details["traceback"].as_str().unwrap().contains("handler.py"));
    assert!(
        outcome
            .ended
            .stderr
            .contains("at step: processing_error: no good")
    );
    assert_same_worker(&outcome);
}

#[test]
fn a_handler_that_raises_with_a_strange_message() {
    assert_same_worker(&fails("raises_with_a_strange_message"));
}

#[test]
fn a_handler_that_raises_with_text_that_is_no_unicode() {
    // Valid JSON all the same, although not every reader takes it: serde_json does not.
    let (pipeline, ended) = run("raises_with_half_a_character");
    let ended = ended.expect_code(1);
    assert_eq!(ended.stdout.lines().count(), 3);
    let errors = pipeline.errors();
    assert_eq!((pipeline.happy().len(), errors.len()), (2, 1));
    assert!(errors[0].compact().contains(r#""message":"\ud800""#));
    pipeline.assert_at_rest();
}

#[test]
fn a_handler_that_recurses_without_end() {
    let outcome = fails("recurses");
    assert_eq!(outcome.error().payload()["details"]["type"], "RecursionError");
    assert_same_worker(&outcome);
}

#[test]
fn a_handler_that_never_returns_is_replaced_after_its_timeout() {
    let outcome = fails("never_returns");
    assert!(
        outcome.said().contains("Runtime timeout exceeded after 3s"),
        "{}",
        outcome.said()
    );
    assert_new_worker(&outcome);
}

#[test]
fn a_handler_that_calls_sys_exit() {
    let outcome = fails("calls_sys_exit");
    assert!(outcome.said().contains("sys.exit"), "{}", outcome.said());
    assert_same_worker(&outcome);
}

#[test]
fn a_handler_that_calls_os_exit() {
    dies("calls_os_exit", "\"exit_code\":5");
}

#[test]
fn a_handler_that_is_killed() {
    dies("is_killed", "SIGKILL");
}

#[test]
fn a_handler_that_crashes() {
    dies("is_terminated", "SIGSEGV");
}

#[test]
fn a_handler_that_closes_all_descriptors() {
    dies("closes_everything", "worker_died");
}

#[test]
fn a_handler_that_forks_and_returns_in_both_processes() {
    assert_same_worker(&succeeds("forks_and_both_return"));
}

#[test]
fn a_handler_that_leaves_children_behind() {
    let outcome = succeeds("leaves_children_behind");
    assert_same_worker(&outcome);
    assert_eq!(processes_under(outcome.pipeline.mark()), []);
}

#[test]
fn a_handler_that_leaves_children_behind_and_is_killed() {
    let outcome = fails("leaves_a_child_behind_and_is_killed");
    assert_new_worker(&outcome);
    assert_eq!(processes_under(outcome.pipeline.mark()), []);
}

#[test]
fn a_handler_that_prints_results_of_its_own() {
    let outcome = succeeds("prints");
    assert!(outcome.ended.envelopes().iter().all(|one| one["id"] != "not"));
    assert_same_worker(&outcome);
}

/// Runs one actor whose handler is this Python expression, with `input`.
fn returns(expression: &str, mode: &str, input: &str) -> (Pipeline, Finished) {
    let code = format!(
        "def handle(payload):\n    if payload == 'fine':\n        return payload\n    return {expression}\n"
    );
    let actor = Actor::python("step", "handler.handle").variable("ASYA_HANDLER_MODE", mode);
    let pipeline = Pipeline::new()
        .file("handler.py", &code)
        .file("in.jsonl", input)
        .actor(&actor);
    let lines = format!("@{}", pipeline.path("in.jsonl").display());
    let ended = pipeline.asya("run").args(["--input", &lines]).run();
    pipeline.assert_at_rest();
    (pipeline, ended)
}

/// What this expression returns cannot be sent: one stored error, and the other messages are worked on.
fn unsendable(expression: &str, texts: &[&str]) {
    let (pipeline, ended) = returns(expression, "payload", "\"fine\"\n[1e5]\n\"fine\"\n");
    let ended = ended.expect_code(1);
    assert_eq!(ended.envelopes().len(), 3);
    assert_eq!(pipeline.happy().len(), 2, "the others are worked on");
    let errors = pipeline.errors();
    assert_eq!(errors.len(), 1);
    let error = errors[0].compact();
    assert!(error.contains(r#""original_payload":[1e5]"#), "{error}");
    for text in texts {
        assert!(error.contains(text), "{text:?} in {error}");
    }
}

#[test]
fn a_handler_that_returns_a_set() {
    unsendable("{'x', 'y'}", &["set", "list(...)"]);
}

#[test]
fn a_handler_that_returns_nan() {
    unsendable("{'score': float('nan')}", &["nan", "score"]);
}

#[test]
fn a_handler_that_returns_an_object_or_bytes() {
    unsendable("object()", &["object"]);
    unsendable("{'data': b'x'}", &["bytes", "base64"]);
}

#[test]
fn a_handler_that_returns_10_mb() {
    let (pipeline, ended) = returns("'x' * 10_000_000", "payload", "1\n");
    let ended = ended.expect_code(0);
    assert_eq!(ended.payloads()[0].as_str().unwrap().len(), 10_000_000);
    assert_eq!(pipeline.happy()[0].payload().as_str().unwrap().len(), 10_000_000);
}

#[test]
fn a_handler_that_returns_more_than_a_message_may_hold() {
    unsendable("'x' * (70 * 1024 * 1024)", &["ASYA_MAX_MESSAGE_SIZE"]);
}

/// This envelope handler fails: one stored error that says `text` and keeps `original`.
fn misrouted(expression: &str, text: &str, original: &str) {
    let (pipeline, ended) = returns(expression, "envelope", "[1e400]\n");
    let ended = ended.expect_code(1);
    assert_eq!(ended.stdout.lines().count(), 1);
    assert_eq!(pipeline.happy().len(), 0, "of {expression}");
    let errors = pipeline.errors();
    assert_eq!(errors.len(), 1, "of {expression}");
    let error = errors[0].compact();
    assert!(error.contains(text), "{text:?} in {error}");
    let original = format!("\"original_payload\":{original}");
    assert!(error.contains(&original), "{original} in {error}");
}

#[test]
fn an_envelope_handler_whose_route_points_nowhere() {
    // The call went well: what could not be sent on is its result.
    misrouted(
        "dict(payload, payload=[1], route={'actors': ['step', 'nowhere'], 'current': 0})",
        "nowhere",
        "[1]",
    );
}

#[test]
fn an_envelope_handler_that_returns_no_valid_route() {
    for (route, text) in [
        ("{'actors': ['step'], 'current': 9}", "out of bounds"),
        ("{'actors': [], 'current': 0}", "empty"),
        ("{'actors': ['other'], 'current': 0}", "Route"),
        ("'step'", "route"),
    ] {
        misrouted(&format!("dict(payload, route={route})"), text, "[1e400]");
    }
}

#[test]
fn an_envelope_handler_that_returns_no_envelope() {
    misrouted("{'payload': 1}", "route", "[1e400]");
    misrouted("5", "dict", "[1e400]");
}
