//! `asya run`: one job from its input to its stored results.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use asya_tests::{Actor, Pipeline, compact};
use serde_json::{Value, json};

use crate::pipelines::{only, two_steps};

fn document_pipeline() -> Pipeline {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/document-pipeline");
    Pipeline::existing(&examples.canonicalize().unwrap())
}

#[test]
fn the_document_pipeline_yields_124_envelopes_of_which_one_failed_on_purpose() {
    let pipeline = document_pipeline();
    let ended = pipeline.asya("run").run().expect_code(1);

    let envelopes = ended.envelopes();
    assert_eq!(envelopes.len(), 124);
    let ids: BTreeSet<_> = envelopes.iter().map(|envelope| envelope["id"].as_str()).collect();
    assert_eq!(ids.len(), 124, "no id comes twice");
    let failed: Vec<_> = envelopes
        .iter()
        .filter(|envelope| envelope["payload"].get("original_payload").is_some())
        .collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].to_string().contains("a-damaged-section-on-purpose"));

    // A route of five actors whose last part each section chose for itself.
    let mut last_actors = BTreeMap::new();
    for stored in pipeline.happy() {
        *last_actors.entry(stored.actor).or_insert(0) += 1;
    }
    assert_eq!(
        last_actors,
        BTreeMap::from([
            ("code-outline".to_owned(), 2),
            ("summarise".into(), 110),
            ("triage".into(), 11)
        ])
    );
    let errors = pipeline.errors();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].actor, "clean");
    assert!(
        errors[0]
            .text()
            .contains("04-failure/a-damaged-section-on-purpose")
    );

    let ended = ended.expect_stderr(&["123 succeeded", "1 failed", "at clean:", "rabbitmq"]);
    assert_hops_in_summary(
        &ended.stderr,
        &[
            "split",
            "clean",
            "keywords",
            "triage",
            "code-outline",
            "summarise",
        ],
    );
    assert!(
        ended
            .stderr
            .contains(&pipeline.state().join("results").display().to_string())
    );
    pipeline.assert_at_rest();
}

/// The table of hops has a row for each of `names`, with its figures.
fn assert_hops_in_summary(stderr: &str, names: &[&str]) {
    let (_, table) = stderr.split_once("\nhop ").unwrap();
    for name in names {
        let row = table
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name))
            .unwrap_or_else(|| panic!("no row for {name} in:\n{table}"));
        let words: Vec<_> = row.split_whitespace().collect();
        assert!(words[1].parse::<u32>().is_ok_and(|done| done > 0), "{row}");
        assert!(
            row.contains("ms") || row.contains("µs") || row.contains(" s"),
            "{row}"
        );
    }
}

#[test]
fn a_job_that_succeeds_ends_with_0_and_prints_its_envelope() {
    let pipeline = two_steps();
    let ended = pipeline
        .asya("run")
        .args(["--route", "double,add-one", "--input", r#"{"n": 20}"#])
        .run()
        .expect_code(0)
        .expect_stderr(&["1 envelope: 1 succeeded, 0 failed"]);
    let envelopes = ended.envelopes();
    let [envelope] = &envelopes[..] else {
        panic!("one line, not {envelopes:?}")
    };
    assert_eq!(envelope["payload"], json!({"n": 41}));
    assert_eq!(envelope["route"]["actors"], json!(["double", "add-one"]));
    assert_eq!(envelope["route"]["current"], 2);
    assert_hops_in_summary(&ended.stderr, &["double", "add-one"]);

    let happy = pipeline.happy();
    let [stored] = &happy[..] else {
        panic!("one result, not {happy:?}")
    };
    assert_eq!(stored.actor, "add-one");
    assert_eq!(stored.id, envelope["id"].as_str().unwrap());
    assert_eq!(&stored.envelope(), envelope, "what is printed is what is stored");
    assert_eq!(pipeline.errors().len(), 0);
    pipeline.assert_at_rest();
}

#[test]
fn a_class_handler_is_made_once_and_keeps_its_state() {
    let pipeline = Pipeline::new()
        .file(
            "model.py",
            r#"
class Model:
    def __init__(self):
        with open("made", "a") as file:
            file.write("once\n")
        self.calls = 0

    def count(self, payload):
        self.calls += 1
        return {"call": self.calls}
"#,
        )
        .file("in.jsonl", "1\n2\n\n3\n")
        .actor(&Actor::python("model", "model.Model.count"));
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let ended = pipeline
        .asya("run")
        .args(["--input", &input])
        .run()
        .expect_code(0);
    let calls: BTreeSet<_> = ended
        .payloads()
        .iter()
        .map(|payload| payload["call"].as_u64().unwrap())
        .collect();
    assert_eq!(calls, BTreeSet::from([1, 2, 3]));
    assert_eq!(
        pipeline.read("made"),
        "once\n",
        "made in the directory of the manifests, once"
    );
}

#[test]
fn an_envelope_mode_handler_changes_the_route_by_content() {
    let pipeline = two_steps()
        .file(
            "choose.py",
            r#"
def choose(envelope):
    if envelope["payload"]["n"] > 10:
        envelope["route"]["actors"] = ["choose", "add-one"]
    return envelope
"#,
        )
        .actor(&Actor::python("choose", "choose.choose").envelope_mode());
    for (input, actors, output) in [
        (7, json!(["choose", "double"]), 14),
        (70, json!(["choose", "add-one"]), 71),
    ] {
        let input = json!({"n": input}).to_string();
        let ended = pipeline
            .asya("run")
            .args(["--route", "choose,double", "--input", &input])
            .run()
            .expect_code(0);
        let envelopes = ended.envelopes();
        assert_eq!(envelopes.len(), 1);
        assert_eq!(envelopes[0]["route"]["actors"], actors);
        assert_eq!(envelopes[0]["payload"], json!({"n": output}));
    }
}

#[test]
fn a_list_fans_out_into_children_with_stable_ids_and_their_parent() {
    let pipeline = two_steps()
        .file(
            "fan.py",
            "def out(payload):\n    return [{'n': n} for n in range(payload)]\n",
        )
        .actor(&Actor::python("fan-out", "fan.out"));
    let ended = pipeline
        .asya("run")
        .args(["--route", "fan-out,double", "--input", "4"])
        .run()
        .expect_code(0);
    let envelopes = ended.envelopes();
    let by_id: BTreeMap<_, _> = envelopes
        .iter()
        .map(|envelope| (envelope["id"].as_str().unwrap().to_owned(), envelope))
        .collect();
    assert_eq!(by_id.len(), 4);
    // The first of them is the input itself, and the shortest id.
    let root = by_id.keys().next().unwrap().clone();
    for n in 0..4 {
        let id = if n == 0 {
            root.clone()
        } else {
            format!("{root}-{n}")
        };
        let envelope = by_id
            .get(&id)
            .unwrap_or_else(|| panic!("no {id} in {:?}", by_id.keys()));
        assert_eq!(envelope["payload"], json!({"n": n * 2}));
        let parent = if n == 0 { Value::Null } else { json!(root.clone()) };
        assert_eq!(envelope["parent_id"], parent, "of {id}");
    }
}

#[test]
fn a_handler_that_returns_nothing_ends_its_envelope_there() {
    let pipeline = two_steps()
        .file("filter.py", "def drop(payload):\n    return None\n")
        .actor(&Actor::python("drop", "filter.drop"));
    let ended = pipeline
        .asya("run")
        .args(["--route", "drop,double", "--input", r#"{"n": 1}"#])
        .run()
        .expect_code(0);
    assert_eq!(
        ended.payloads(),
        [json!({"n": 1})],
        "it reaches happy-end as it was"
    );
    assert_eq!(pipeline.happy()[0].actor, "drop");
}

#[test]
fn a_timeout_ends_with_3_and_up_drain_finishes_the_job() {
    let pipeline = two_steps()
        .file(
            "gate.py",
            r#"
import os, time
def wait(payload):
    open("entered", "a").close()
    while not os.path.exists("open"):
        time.sleep(0.02)
    return payload
"#,
        )
        .actor(&Actor::python("gate", "gate.wait"));
    let ended = pipeline
        .asya("run")
        .args([
            "--route",
            "gate,double",
            "--input",
            r#"{"n": 5}"#,
            "--timeout",
            "3s",
            "--grace",
            "100ms",
        ])
        .run()
        .expect_code(3)
        .expect_stderr(&["timed out", "asya up"]);
    assert_eq!(ended.stdout, "");
    assert_eq!((pipeline.happy().len(), pipeline.errors().len()), (0, 0));
    assert_eq!(pipeline.queue().messages(), 1, "the job is still queued");

    pipeline.write("open", "");
    pipeline.asya("up").arg("--drain").run().expect_code(0);
    assert!(pipeline.path("entered").exists());
    let happy = pipeline.happy();
    assert_eq!(happy.len(), 1);
    assert_eq!(happy[0].payload(), json!({"n": 10}));
    assert_eq!(pipeline.errors().len(), 0);
    pipeline.assert_at_rest();
}

/// What decoding and encoding would change: numbers, escapes, order, white space, doubled keys.
const DELICATE: &str = concat!(
    "{ \"z\":12345678901234567890123456789 ,\"a\" : [1e400, -0, 1.50, 0.1e-7],",
    "\"\\u00e9\":\"\\ud83d\\ude00 \\/ <&> \u{e9}\u{1f600}\",\"a\":null }"
);

#[test]
fn ten_native_hops_keep_every_byte_of_the_payload() {
    let names: Vec<_> = (0..10).map(|n| format!("hop-{n}")).collect();
    let mut pipeline = Pipeline::new();
    for name in &names {
        pipeline = pipeline.actor(&Actor::native(name, env!("CARGO_BIN_EXE_native-echo")));
    }
    let ended = pipeline
        .asya("run")
        .args(["--route", &names.join(","), "--input", DELICATE])
        .run()
        .expect_code(0);
    assert!(ended.stdout.contains(DELICATE), "printed: {}", ended.stdout);
    let happy = pipeline.happy();
    assert_eq!(happy.len(), 1);
    let stored = happy[0].compact();
    assert!(stored.contains(&compact(DELICATE)), "stored: {stored}");
    assert_eq!(happy[0].actor, "hop-9");
    pipeline.assert_at_rest();
}

#[test]
fn an_error_keeps_the_payload_byte_for_byte_as_the_python_handler_got_it() {
    let pipeline = only("steps.fail");
    let ended = pipeline
        .asya("run")
        .args(["--input", DELICATE])
        .run()
        .expect_code(1);
    let original = format!("\"original_payload\":{DELICATE}");
    assert!(ended.stdout.contains(&original), "printed: {}", ended.stdout);
    assert_eq!(ended.stdout.lines().count(), 1);
    let errors = pipeline.errors();
    assert_eq!(errors.len(), 1);
    let stored = errors[0].compact();
    assert!(stored.contains(&compact(&original)), "stored: {stored}");
    assert!(stored.contains("not today"));
    assert_eq!(errors[0].actor, "only");
}

#[test]
fn big_numbers_order_and_unicode_pass_through_a_python_handler() {
    let payload = "{\"z\":123456789012345678901234567890,\"a\":[\"\u{e9}\u{1f600}\",true,null],\"m\":{\"y\":1,\"b\":2}}";
    let pipeline = only("steps.echo");
    let ended = pipeline
        .asya("run")
        .args(["--input", payload])
        .run()
        .expect_code(0);
    // Python writes non-ASCII as escapes, so texts are compared after decoding; digits and order as they stand.
    assert!(
        ended
            .stdout
            .contains(r#"{"z":123456789012345678901234567890,"a":["#)
    );
    assert!(ended.stdout.contains(r#"],"m":{"y":1,"b":2}}"#));
    assert_eq!(ended.payloads()[0]["a"], json!(["\u{e9}\u{1f600}", true, null]));
}

#[test]
fn what_handlers_print_never_reaches_standard_output() {
    let pipeline = Pipeline::new()
        .file(
            "loud.py",
            r#"
import os, sys
print("at import")
def shout(payload):
    print("through python")
    os.write(1, b"through the descriptor\n")
    os.system("echo through a child")
    sys.stderr.write("to stderr\n")
    return "quiet"
"#,
        )
        .actor(&Actor::python("loud", "loud.shout"));
    let ended = pipeline
        .asya("run")
        .args(["--input", "1"])
        .run()
        .expect_code(0)
        .expect_stderr(&["through python", "through the descriptor", "through a child"]);
    assert_eq!(ended.payloads(), ["quiet"]);
    let log = std::fs::read_to_string(pipeline.state().join("logs/loud.log")).unwrap();
    for text in [
        "at import",
        "through python",
        "through the descriptor",
        "through a child",
        "to stderr",
    ] {
        assert!(log.contains(text), "{text:?} is missing in the log:\n{log}");
    }
}

#[test]
fn the_environment_of_the_manifest_reaches_the_handler_and_python_path_is_extended() {
    let pipeline = Pipeline::new().file(
        "settings.py",
        "import os\ndef read(payload):\n    return [os.environ['COLOUR'], os.getcwd(), os.environ['PYTHONPATH']]\n",
    );
    let actor = Actor::python("settings", "settings.read")
        .variable("COLOUR", "green")
        .variable("PYTHONPATH", "/elsewhere");
    let pipeline = pipeline.actor(&actor);
    let ended = pipeline.asya("run").args(["--input", "1"]).run().expect_code(0);
    let payloads: BTreeSet<_> = ended
        .payloads()
        .iter()
        .map(|payload| payload.as_str().unwrap().to_owned())
        .collect();
    let directory = pipeline.path("").display().to_string();
    let directory = directory.trim_end_matches('/').to_owned();
    let expected = ["green".to_owned(), format!("{directory}:/elsewhere"), directory];
    assert_eq!(payloads, BTreeSet::from(expected));
}
