//! What a handler may be beside a plain function: batches, `async def`, generators, streams, and what it may ask.

use std::collections::BTreeSet;

use asya_tests::{Actor, Asya, Pipeline};
use serde_json::{Value, json};

use crate::pipelines::lines;

/// One actor, `step`, with this code in `step.py`, and these inputs.
fn step(code: &str, actor: &Actor, inputs: impl IntoIterator<Item = Value>) -> Pipeline {
    Pipeline::new()
        .file("step.py", code)
        .file("in.jsonl", &lines(inputs))
        .actor(actor)
}

/// A run of all inputs.
fn run(pipeline: &Pipeline) -> Asya {
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    pipeline.asya("run").args(["--input", &input])
}

/// Payloads, in the order of their texts.
fn sorted(mut payloads: Vec<Value>) -> Vec<Value> {
    payloads.sort_by_key(Value::to_string);
    payloads
}

/// The lengths of the batches that a handler has noted in the file `batches`.
fn batches(pipeline: &Pipeline) -> Vec<usize> {
    let noted = pipeline.read("batches");
    noted.lines().map(|line| line.parse().unwrap()).collect()
}

const NOTE_BATCH: &str = r#"
def note(batch):
    with open("batches", "a") as file:
        file.write("%d\n" % len(batch))
"#;

#[test]
fn a_batch_handler_gets_lists_and_fails_item_by_item() {
    let code = format!(
        r#"{NOTE_BATCH}
class Model:
    def __init__(self):
        self.factor = 2

    def double(self, batch):
        note(batch)
        return [ValueError("no %d" % n) if n % 50 == 7 else n * self.factor for n in batch]
"#
    );
    let actor = Actor::python("step", "step.Model.double").runtime("{batch: {size: 8, wait: 50ms}}");
    let pipeline = step(&code, &actor, (0..100).map(|n| json!(n)));
    let ended = run(&pipeline).run().expect_code(1).expect_stderr(&[
        "at step: processing_error: no 7",
        "at step: processing_error: no 57",
    ]);
    let good = ended.payloads().into_iter().filter(Value::is_u64).collect();
    let expected = (0..100).filter(|n| n % 50 != 7).map(|n| json!(n * 2)).collect();
    assert_eq!(sorted(good), sorted(expected));
    assert_eq!(pipeline.errors().len(), 2);
    let batches = batches(&pipeline);
    assert_eq!(batches.iter().sum::<usize>(), 100, "each item in one call");
    assert!(batches.iter().all(|size| (1..=8).contains(size)), "{batches:?}");
    assert!(batches.contains(&8), "what waits is taken together: {batches:?}");
    pipeline.assert_at_rest();
}

#[test]
fn a_batch_that_fails_as_a_whole_is_halved_until_only_its_poison_fails() {
    let code = format!(
        r#"{NOTE_BATCH}
def run(batch):
    note(batch)
    if "poison" in batch:
        raise RuntimeError("one of %d is bad" % len(batch))
    return batch
"#
    );
    let actor = Actor::python("step", "step.run").runtime("{batch: {size: 8, wait: 2s}}");
    let inputs = (0..8).map(|n| if n == 5 { json!("poison") } else { json!(n) });
    let pipeline = step(&code, &actor, inputs);
    let ended = run(&pipeline)
        .run()
        .expect_code(1)
        .expect_stderr(&["at step: processing_error: one of 1 is bad"]);
    assert_eq!(
        ended.payloads().iter().filter(|payload| payload.is_u64()).count(),
        7
    );
    assert_eq!(
        pipeline.errors()[0].payload()["original_payload"],
        json!("poison")
    );
    assert!(batches(&pipeline).len() > 1, "the batch was repeated in parts");
    pipeline.assert_at_rest();
}

#[test]
fn a_list_of_another_length_is_an_error_of_its_batch_only() {
    let code = "def run(batch):\n    return batch[1:] if 'short' in batch else batch\n";
    let actor = Actor::python("step", "step.run").runtime("{batch: {size: 1}}");
    // One of size 1 is no batch: the handler gets the payload itself.
    let single = step(code, &actor, [json!(["a"])]);
    assert_eq!(run(&single).run().expect_code(0).payloads(), [json!("a")]);

    let actor = Actor::python("step", "step.run").runtime("{batch: {size: 4}}");
    let pipeline = step(code, &actor, [json!("short")]);
    pipeline.write("more.jsonl", lines((0..4).map(|n| json!(n))));
    run(&pipeline).run().expect_code(1);
    let error = pipeline.errors()[0].compact();
    assert!(error.contains("processing_error"), "{error}");
    let more = format!("@{}", pipeline.path("more.jsonl").display());
    pipeline.asya("run").args(["--input", &more]).run().expect_code(0);
    assert_eq!((pipeline.happy().len(), pipeline.errors().len()), (4, 1));
}

#[test]
fn async_calls_of_one_worker_are_in_flight_together() {
    let code = r"
import asyncio, os
here = 0

async def meet(payload):
    global here
    here += 1
    while here < 8:
        await asyncio.sleep(0.01)
    return os.getpid()
";
    let actor = Actor::python("step", "step.meet").runtime("{concurrency: 8}");
    let pipeline = step(code, &actor, (0..8).map(|n| json!(n)));
    let ended = run(&pipeline).run().expect_code(0);
    let workers: BTreeSet<_> = ended.payloads().iter().map(Value::to_string).collect();
    assert_eq!((ended.envelopes().len(), workers.len()), (8, 1));
    pipeline.assert_at_rest();
}

#[test]
fn what_a_generator_yields_goes_on_while_it_still_works() {
    let code = r#"
import os, time

def first(payload):
    yield "one"
    yield "two"
    while not os.path.exists("seen"):
        time.sleep(0.01)
    yield "three"

async def first_async(payload):
    for item in first(payload):
        yield item

def second(payload):
    open("seen", "w").close()
    return payload + "!"
"#;
    for handler in ["step.first", "step.first_async"] {
        let pipeline =
            step(code, &Actor::python("first", handler), []).actor(&Actor::python("second", "step.second"));
        let ended = pipeline
            .asya("run")
            .args(["--route", "first,second", "--input", "1"])
            .run()
            .expect_code(0);
        let expected = [json!("one!"), json!("three!"), json!("two!")];
        assert_eq!(sorted(ended.payloads()), expected, "{handler}");
        pipeline.assert_at_rest();
    }
}

#[test]
fn a_generator_that_raises_has_its_items_sent_and_fails_in_the_place_of_the_next() {
    let code = "def run(payload):\n    yield 1\n    yield 2\n    raise ValueError('no third')\n";
    let pipeline = step(code, &Actor::python("step", "step.run"), [json!("x")]);
    let ended = run(&pipeline)
        .run()
        .expect_code(1)
        .expect_stderr(&["at step: processing_error: no third"]);
    assert_eq!(ended.envelopes().len(), 3);
    let happy = pipeline.happy();
    let ids: BTreeSet<_> = happy.iter().map(|stored| stored.id.as_str()).collect();
    let input = ids.first().unwrap();
    assert_eq!(ids, BTreeSet::from([*input, &format!("{input}-1")]));
    let errors = pipeline.errors();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].id, format!("{input}-2"));
    assert_eq!(errors[0].payload()["original_payload"], json!("x"));
    pipeline.assert_at_rest();
}

#[test]
fn a_generator_that_yields_nothing_ends_the_route() {
    let code = "def run(payload):\n    if payload == 'more':\n        yield payload\n";
    let pipeline = step(code, &Actor::python("step", "step.run"), [json!("less")]);
    let ended = run(&pipeline).run().expect_code(0);
    assert_eq!(ended.payloads(), [json!("less")], "the input goes to happy-end");
}

#[test]
fn a_stream_shows_what_it_yields_and_passes_its_last_value_on() {
    let code = r#"
def run(payload):
    yield "so far"
    yield "line\nbreak \x1b[31mred\x1b[0m"
    yield {"words": [1, 2]}
    yield "x" * 100000
    yield "the end"
"#;
    let actor = Actor::python("step", "step.run").runtime("{stream: true}");
    let pipeline = step(code, &actor, [json!(1)]);
    let ended = run(&pipeline).run().expect_code(0);
    assert_eq!(
        ended.payloads(),
        [json!("the end")],
        "standard output has results only"
    );
    let id = ended.envelopes()[0]["id"].as_str().unwrap().to_owned();
    let shown: Vec<&str> = ended
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix(&format!("[step] {id} partial: ")))
        .collect();
    assert_eq!(
        shown[..4],
        [
            "so far",
            "line break [31mred [0m",
            r#"{"words":[1,2]}"#,
            "97 KiB of JSON"
        ],
        "{}",
        ended.stderr
    );
    assert!(!ended.stderr.contains('\u{1b}'));
    pipeline.assert_at_rest();
}

#[test]
fn a_stream_that_tells_very_much_is_shown_in_part() {
    let code = "def run(payload):\n    for n in range(20000):\n        yield n\n";
    let actor = Actor::python("step", "step.run").runtime("{stream: true}");
    let pipeline = step(code, &actor, [json!(1)]);
    let ended = run(&pipeline).run().expect_code(0);
    assert_eq!(ended.payloads(), [json!(19999)]);
    let shown = ended.stderr.matches(" partial: ").count();
    let most = 11 + usize::try_from(ended.took.as_millis() / 250).unwrap();
    assert!(
        (1..=most).contains(&shown),
        "{shown} of 20000 in {:?}",
        ended.took
    );
}

#[test]
fn a_handler_may_ask_for_what_is_around_its_call() {
    let code = r#"
import time
from asya_runtime import context

def run(payload):
    context.progress(0.25, "reading page 1\x07")
    context.progress(message="nearly")
    if context.attempt < 2:
        raise ConnectionError("once")
    return {
        "id": context.id,
        "attempt": context.attempt,
        "cancelled": context.cancelled(),
        "left": context.time_left(),
        "deadline": context.deadline - time.time(),
        "actors": context.route["actors"],
    }
"#;
    let actor = Actor::python("step", "step.run")
        .processing_timeout(50)
        .retry("{maxAttempts: 3, initialBackoff: 10ms}");
    let pipeline = step(code, &actor, [json!(1)]);
    let ended = run(&pipeline)
        .run()
        .expect_code(0)
        .expect_stderr(&[" 25 % reading page 1\n", " nearly\n"]);
    let envelope = &ended.envelopes()[0];
    let seen = &envelope["payload"];
    assert_eq!(seen["id"], envelope["id"]);
    assert_eq!((&seen["attempt"], &seen["cancelled"]), (&json!(2), &json!(false)));
    assert_eq!(seen["actors"], json!(["step"]));
    for left in [&seen["left"], &seen["deadline"]] {
        assert!((0.1..=50.5).contains(&left.as_f64().unwrap()), "{seen}");
    }
}

#[test]
fn a_class_is_made_once_in_each_worker() {
    let code = r#"
import os, time

class Model:
    def __init__(self):
        with open("loaded", "a") as file:
            file.write("%d\n" % os.getpid())

    def run(self, payload):
        while len(open("loaded").readlines()) < 3:
            time.sleep(0.01)
        return os.getpid()
"#;
    let by_spec = Actor::python("step", "step.Model.run").runtime("{workers: 3}");
    let by_variable = Actor::python("step", "step.Model.run").variable("ASYA_WORKERS", "3");
    for actor in [by_spec, by_variable] {
        let pipeline = step(code, &actor, (0..30).map(|n| json!(n)));
        let ended = run(&pipeline).run().expect_code(0);
        assert_eq!(ended.envelopes().len(), 30);
        let loaded = pipeline.read("loaded");
        assert_eq!(loaded.lines().count(), 3, "{loaded}");
        let workers: BTreeSet<_> = ended.payloads().iter().map(Value::to_string).collect();
        assert!(workers.iter().all(|pid| loaded.lines().any(|line| line == pid)));
        pipeline.assert_at_rest();
    }
}

#[test]
fn every_shape_works_over_the_older_protocol_too() {
    let code = r#"
import asyncio
from asya_runtime import context

def batch(payloads):
    return [[len(payloads), payload] for payload in payloads]

async def waits(payload):
    await asyncio.sleep(0.001)
    return {"attempt": context.attempt, "left": context.time_left(), "got": payload}

def items(payload):
    context.progress(0.5, "nobody hears this")
    yield [payload, 1]
    yield [payload, 2]

def grows(payload):
    yield "part"
    yield payload
"#;
    let actor = |name: &str, runtime: &str| {
        Actor::python(name, &format!("step.{name}"))
            .runtime(runtime)
            .sidecar_variable("ASYA_RUNTIME_PROTOCOL", "v1")
    };
    let pipeline = step(code, &actor("batch", "{batch: {size: 8, wait: 1s}}"), [])
        .actor(&actor("waits", "{concurrency: 8}"))
        .actor(&actor("items", "{workers: 2}"))
        .actor(&actor("grows", "{stream: true}"));
    let ask = |route: &str| {
        let ended = pipeline
            .asya("run")
            .args(["--route", route, "--input", "7"])
            .run();
        ended.expect_code(0)
    };
    // What the batch handler returns is a list, and so a fan-out.
    assert_eq!(sorted(ask("batch").payloads()), [json!(1), json!(7)]);
    let waited = json!({"attempt": 1, "left": null, "got": 7});
    assert_eq!(ask("waits").payloads(), [waited]);
    let items = ask("items");
    assert_eq!(sorted(items.payloads()), [json!([7, 1]), json!([7, 2])]);
    assert!(!items.stderr.contains("nobody hears this"));
    let grown = ask("grows");
    assert_eq!(grown.payloads(), [json!(7)]);
    assert!(!grown.stderr.contains("partial"));
    pipeline.assert_at_rest();
}
