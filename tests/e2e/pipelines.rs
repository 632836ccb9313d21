//! Pipelines that several topics use.

use std::fmt::Write as _;

use asya_tests::{Actor, Pipeline, Running, wait_for};
use serde_json::{Value, json};

/// The text of a `.jsonl` file.
pub(crate) fn lines(values: impl IntoIterator<Item = Value>) -> String {
    values.into_iter().fold(String::new(), |mut text, value| {
        writeln!(text, "{value}").unwrap();
        text
    })
}

/// Handlers that several tests use.
const STEPS: &str = r#"
def double(payload):
    return {"n": payload["n"] * 2}

def add_one(payload):
    return {"n": payload["n"] + 1}

def echo(payload):
    return payload

def fail(payload):
    raise ValueError("not today")
"#;

/// `double`, then `add-one`.
pub(crate) fn two_steps() -> Pipeline {
    Pipeline::new()
        .file("steps.py", STEPS)
        .actor(&Actor::python("double", "steps.double"))
        .actor(&Actor::python("add-one", "steps.add_one"))
}

/// One actor, `only`, with this handler of [`STEPS`].
pub(crate) fn only(handler: &str) -> Pipeline {
    Pipeline::new()
        .file("steps.py", STEPS)
        .actor(&Actor::python("only", handler))
}

/// Passes payloads on until one says `"gate"`; that one waits for the file `open`. Each call notes its payload.
pub(crate) const GATE: &str = r#"
import os, time
def wait(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    while payload == "gate" and not os.path.exists("open"):
        time.sleep(0.01)
    return payload
"#;

/// An actor with this handler, and 20 inputs of which the fourth waits at the gate.
pub(crate) fn gated(code: &str) -> Pipeline {
    let input = |n| {
        if n == 3 { json!("gate") } else { json!(n) }
    };
    Pipeline::new()
        .file("gate.py", code)
        .file("in.jsonl", &lines((0..20).map(input)))
        .actor(&Actor::python("gate", "gate.wait"))
}

/// Starts a run of [`gated`] and waits until it is at the gate.
pub(crate) fn run_to_the_gate(pipeline: &Pipeline) -> Running {
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let run = pipeline.asya("run").args(["--input", &input]).spawn();
    await_gate(pipeline);
    run
}

/// Waits for the call that waits at the gate.
pub(crate) fn await_gate(pipeline: &Pipeline) {
    wait_for("the call that waits at the gate", || {
        pipeline.read("calls").contains("gate\n").then_some(())
    });
}
