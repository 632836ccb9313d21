//! Messages that no command would send: each ends in exactly one stored error with its original bytes, and those
//! around it are worked on as usual.

use std::collections::BTreeMap;

use asya_tests::{Actor, Pipeline, Stored};
use serde_json::{Value, json};

fn pipeline() -> Pipeline {
    Pipeline::new()
        .file(
            "steps.py",
            "def size(payload):\n    return len(payload) if isinstance(payload, str) else payload\n",
        )
        .actor(&Actor::python("size", "steps.size"))
        .actor(&Actor::python("other", "steps.size"))
}

fn envelope(id: &str, payload: &str) -> String {
    format!(r#"{{"id":"{id}","route":{{"actors":["size"],"current":0}},"payload":{payload}}}"#)
}

/// Works on `body` between two good messages, and returns what is stored of it: results, then errors.
fn work_on(body: impl Into<Vec<u8>>) -> (Vec<Stored>, Vec<Stored>) {
    let pipeline = pipeline();
    let queue = pipeline.queue();
    queue.put("size", "m-1", envelope("before", r#""ab""#));
    queue.put("size", "m-2", body.into());
    queue.put("size", "m-3", envelope("after", r#""abc""#));
    drop(queue);
    // Drained is drained: that something failed is not for `up` to tell.
    pipeline.asya("up").arg("--drain").run().expect_code(0);
    pipeline.assert_at_rest();
    let (good, rest): (Vec<_>, Vec<_>) = pipeline
        .happy()
        .into_iter()
        .partition(|stored| stored.id == "before" || stored.id == "after");
    let good: BTreeMap<_, _> = good
        .iter()
        .map(|stored| (stored.id.as_str(), stored.payload()))
        .collect();
    let expected = BTreeMap::from([("before", json!(2)), ("after", json!(3))]);
    assert_eq!(good, expected, "the others are worked on");
    (rest, pipeline.errors())
}

/// The one stored error of a message that could be read, whose payload was `original`, byte for byte.
fn refused(body: &str, original: &str) -> Value {
    let (happy, errors) = work_on(body);
    assert_eq!(happy.len(), 0);
    let [error] = &errors[..] else {
        panic!("one error, not {errors:?}")
    };
    let wanted = format!("\"original_payload\":{original}");
    assert!(
        error.compact().contains(&wanted),
        "{wanted:.200} in {:.2000}",
        error.text()
    );
    error.envelope()
}

/// The one stored error of a message that could not be read, with its bytes.
fn unreadable(body: impl Into<Vec<u8>>) -> Value {
    let (happy, errors) = work_on(body);
    assert_eq!(happy.len(), 0);
    assert_eq!(errors.len(), 1);
    let envelope = errors[0].envelope();
    let id = envelope["id"].as_str().unwrap();
    assert!(!id.is_empty(), "it got an id");
    envelope
}

#[test]
fn a_message_that_is_not_json() {
    let error = unreadable("{\"id\": \"x\", ");
    assert_eq!(error["payload"]["original_body"], "{\"id\": \"x\", ");
    assert!(error["payload"]["error"].is_string());
}

#[test]
fn an_empty_message() {
    let error = unreadable("");
    assert_eq!(error["payload"]["original_body"], "");
}

#[test]
fn a_message_that_is_not_utf_8() {
    let error = unreadable([b"{\"id\":\"x\",\"payload\":\"\xff\xfe\"}".as_slice(), &[0, 200]].concat());
    assert_eq!(
        error["payload"]["original_body_base64"],
        "eyJpZCI6IngiLCJwYXlsb2FkIjoi//4ifQDI"
    );
}

#[test]
fn a_message_that_is_json_but_no_object() {
    let error = unreadable("[1, 2]");
    assert_eq!(error["payload"]["original_body"], "[1, 2]");
}

#[test]
fn a_message_without_an_id() {
    let body = r#"{"route":{"actors":["size"],"current":0},"payload":1e400}"#;
    let error = unreadable(body);
    assert_eq!(error["payload"]["original_body"], body);
    assert!(error["payload"]["error"].as_str().unwrap().contains("id"));
}

#[test]
fn a_message_for_another_actor() {
    let body = r#"{"id":"lost","route":{"actors":["other","size"],"current":0},"payload":[1.50e2]}"#;
    let error = refused(body, "[1.50e2]");
    assert_eq!(error["id"], "lost");
    let text = error["payload"]["error"].as_str().unwrap();
    assert!(
        text.contains("Route mismatch") && text.contains("other"),
        "{text}"
    );
}

#[test]
fn a_message_whose_route_is_over_or_empty() {
    for route in [
        r#"{"actors":["size"],"current":7}"#,
        r#"{"actors":[],"current":0}"#,
    ] {
        let body = format!(r#"{{"id":"lost","route":{route},"payload":"p"}}"#);
        let error = refused(&body, "\"p\"");
        assert_eq!(error["id"], "lost");
    }
}

#[test]
fn a_message_whose_route_goes_on_to_an_actor_that_does_not_exist() {
    let body = r#"{"id":"lost","route":{"actors":["size","nowhere"],"current":0},"payload":"xyz"}"#;
    let (happy, errors) = work_on(body);
    assert_eq!(happy.len(), 0);
    assert_eq!(errors.len(), 1);
    let error = errors[0].envelope();
    assert_eq!(error["id"], "lost");
    assert!(
        error["payload"]["error"].as_str().unwrap().contains("nowhere"),
        "{error}"
    );
}

#[test]
fn a_message_that_is_1000_levels_deep() {
    let payload = format!("{}1e400{}", "[".repeat(1000), "]".repeat(1000));
    let (happy, errors) = work_on(envelope("deep", &payload));
    // Which of both depends on how deep the Python at hand can read.
    match (&happy[..], &errors[..]) {
        ([result], []) => assert_eq!(result.id, "deep"),
        ([], [error]) => {
            assert_eq!(error.id, "deep");
            assert!(
                error.compact().contains(&payload),
                "the original is kept: {:.500}",
                error.text()
            );
        }
        both => panic!("one outcome, not {both:?}"),
    }
}

const MIB: usize = 1024 * 1024;

#[test]
fn a_message_of_64_mib_is_worked_on() {
    let frame = envelope("big", "\"\"").len();
    let text = "x".repeat(64 * MIB - frame);
    let body = envelope("big", &format!("\"{text}\""));
    assert_eq!(body.len(), 64 * MIB);
    let (happy, errors) = work_on(body);
    assert_eq!(errors.len(), 0);
    assert_eq!(happy.len(), 1);
    assert_eq!(happy[0].payload(), json!(text.len()));
}

#[test]
fn a_message_above_64_mib_is_stored_whole() {
    let text = "x".repeat(64 * MIB);
    let (happy, errors) = work_on(envelope("bigger", &format!("\"{text}\"")));
    assert_eq!(happy.len(), 0);
    let [error] = &errors[..] else { panic!("one error") };
    assert_eq!(
        error.id, "bigger",
        "it fails under its own id, so that a run which waits for it ends"
    );
    let payload = error.payload();
    assert!(
        payload["original_payload"] == text.as_str(),
        "the original is kept whole"
    );
    assert!(
        payload["error"].as_str().unwrap().contains("limit"),
        "{}",
        payload["error"]
    );
}

#[test]
fn unknown_members_headers_and_the_older_name_of_the_route_pass_through() {
    let body = r#"{"id":"old","route":{"steps":["size"],"current":0},"payload":"xyz","headers":{"h":1},"parent_id":"p","extra":{"z":1,"a":2}}"#;
    let (happy, errors) = work_on(body);
    assert_eq!(errors.len(), 0);
    let [result] = &happy[..] else {
        panic!("one result")
    };
    let envelope = result.envelope();
    assert_eq!(envelope["payload"], 3);
    assert_eq!(envelope["headers"], json!({"h": 1}));
    assert_eq!(envelope["parent_id"], "p");
    assert!(
        result.compact().contains(r#""extra":{"z":1,"a":2}"#),
        "{}",
        result.text()
    );
}
