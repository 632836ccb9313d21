//! Messages that no handler can work on, in every kind of actor: each leads to one error, and nothing goes in circles.

use std::collections::BTreeSet;

use asya_tests::plant::{ERROR_END, HAPPY_END, Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;
use serde_json::Value;

use crate::setup::FAIL;

/// Writes each envelope to the file `seen`.
const RECORD: &str = r#"
import json
def run(envelope):
    with open("seen", "a") as file:
        file.write(json.dumps(envelope) + "\n")
    return {}
"#;

const PARSE: &str = "Failed to parse message";
const NO_ID: &str = "Envelope missing required 'id' field";
const MISMATCH: &str = "Route mismatch";

/// What is wrong, and how the error begins.
const BAD: [(&[u8], &str); 10] = [
    (b"{", PARSE),
    (b"", PARSE),
    (b"\xff\xfe", PARSE),
    (b"[]", PARSE),
    (b"\"text\"", PARSE),
    (
        b"{\"id\": 5, \"route\": {\"actors\": [\"one\"]}, \"payload\": 1}",
        PARSE,
    ),
    (b"{\"route\": {\"actors\": [\"one\"]}, \"payload\": 1}", NO_ID),
    (
        b"{\"id\": \"\", \"route\": {\"actors\": [\"one\"]}, \"payload\": 2}",
        NO_ID,
    ),
    (
        b"{\"id\": \"astray\", \"route\": {\"actors\": [\"other\"]}, \"payload\": 3}",
        MISMATCH,
    ),
    (b"{\"id\": \"no-route\", \"payload\": 4}", MISMATCH),
];

/// An end actor.
fn end(actor: &str, module: &str) -> Spec {
    Spec::python(actor, module)
        .sidecar_env("ASYA_IS_END_ACTOR", "true")
        .runtime_env("ASYA_HANDLER_MODE", "envelope")
        .runtime_env("ASYA_ENABLE_VALIDATION", "false")
}

fn seen(plant: &Plant, pod: usize) -> Vec<Value> {
    let lines = plant.pods[pod].lines("seen");
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// In the original one such message made error-end feed itself for ever (D-04).
#[test]
fn each_bad_message_becomes_one_error_with_its_bytes() {
    let mut plant = Plant::new(Broker::shared());
    plant.add(&end(ERROR_END, RECORD));
    plant.declare("one");
    for (number, (body, _)) in BAD.iter().enumerate() {
        plant.put("one", &format!("bad/{number}"), *body);
    }
    plant.send(1, &["one"]);
    plant.add(&Spec::native("one"));
    wait_for("the good one", || {
        plant.depth(HAPPY_END).filter(|depth| *depth == 1)
    });
    wait_for("an error for each", || {
        (plant.pods[0].lines("seen").len() >= BAD.len()).then_some(())
    });
    plant.stop();
    let errors = seen(&plant, 0);
    assert_eq!(errors.len(), BAD.len());
    let ids: BTreeSet<_> = errors.iter().map(|error| error["id"].to_string()).collect();
    assert_eq!(ids.len(), BAD.len(), "distinct ids: {ids:?}");
    assert!(!ids.contains("\"\""), "{ids:?}");
    for (body, text) in BAD {
        let matches = |error: &&Value| {
            let payload = &error["payload"];
            let kept = match std::str::from_utf8(body) {
                Ok(_) if text == MISMATCH => payload["original_payload"].is_u64(),
                Ok(body) => payload["original_body"] == body,
                Err(_) => payload["original_body_base64"] == "//4=",
            };
            kept && payload["error"]
                .as_str()
                .is_some_and(|error| error.starts_with(text))
        };
        let found = errors.iter().filter(matches).count();
        assert!(
            found > 0,
            "{text}: {:?}\n{errors:#?}",
            String::from_utf8_lossy(body)
        );
    }
    assert_eq!((plant.depth("one"), plant.depth(ERROR_END)), (Some(0), Some(0)));
}

/// Contract data-plane §9: an end actor publishes to no queue but its dead-letter queue.
#[test]
fn bad_messages_in_end_actors_are_dead_lettered_byte_for_byte() {
    let mut plant = Plant::new(Broker::shared());
    plant.declare("happy-end-dlq");
    for actor in [HAPPY_END, ERROR_END] {
        plant.add(&end(actor, RECORD));
        for (number, body) in [&b"{"[..], b"{\"payload\": 1}", b"\xff"].into_iter().enumerate() {
            plant.put(actor, &format!("bad/{number}"), body);
        }
        plant.put(
            actor,
            "good",
            r#"{"id": "good", "route": {"actors": []}, "payload": 1}"#,
        );
    }
    for pod in &plant.pods {
        wait_for("the good one", || (pod.lines("seen").len() == 1).then_some(()));
    }
    // Held until it can be kept.
    wait_for("the missing dead-letter queue to be noticed", || {
        plant.pods[1]
            .sidecar
            .log()
            .contains("error-end-dlq")
            .then_some(())
    });
    plant.declare("error-end-dlq");
    for actor in [HAPPY_END, ERROR_END] {
        let letters = plant.await_messages(&format!("{actor}-dlq"), 3);
        let bodies: BTreeSet<_> = letters.iter().map(|letter| letter.body.to_vec()).collect();
        let expected = [&b"{"[..], b"{\"payload\": 1}", b"\xff"].map(<[u8]>::to_vec);
        assert_eq!(bodies, BTreeSet::from(expected), "{actor}");
    }
    plant.stop();
    assert_eq!(
        (plant.depth(HAPPY_END), plant.depth(ERROR_END)),
        (Some(0), Some(0))
    );
}

/// The original reported success (D-10), and never dead-lettered anything (D-07).
#[test]
fn an_end_actor_that_always_fails_fills_its_dead_letter_queue() {
    let mut plant = Plant::new(Broker::shared());
    plant.declare("happy-end-dlq");
    let body = r#"{"id":"e","route":{"actors":["one"],"current":1},"payload":{"number":7}}"#;
    plant.put(HAPPY_END, "e/1/1/0", body);
    let module = FAIL.replace("payload[\"number\"]", "payload[\"id\"]");
    plant.add(&end(HAPPY_END, &module).sidecar_env("ASYA_MAX_DELIVERIES", "2"));
    let letters = plant.await_messages("happy-end-dlq", 1);
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (&letters[0].body[..], letters[0].message_id.as_deref()),
        (body.as_bytes(), Some("e/1/1/0"))
    );
    plant.stop();
    assert_eq!(plant.depth(HAPPY_END), Some(0));
    let calls = plant.pods[0].lines("calls").len();
    assert_eq!(calls, 3, "tried again until its deliveries were used up");
}

#[test]
fn a_message_over_the_limit_is_an_error_and_disturbs_nobody() {
    let mut plant = Plant::new(Broker::shared());
    plant.declare("one");
    let text = "x".repeat(70_000);
    let body = format!(r#"{{"id":"large","route":{{"actors":["one"],"current":0}},"payload":"{text}"}}"#);
    plant.put("one", "large", body);
    plant.send(3, &["one"]);
    plant.add(&Spec::native("one").sidecar_env("ASYA_MAX_MESSAGE_SIZE", "65536"));
    let errors = plant.await_messages(ERROR_END, 1);
    assert_eq!((errors.len(), errors[0].id().as_str()), (1, "large"));
    assert!(
        errors[0].error().contains("over the limit of 65536 bytes"),
        "{}",
        errors[0].error()
    );
    plant.finish().assert_all_done(0);
}
