//! Error envelopes byte for byte (contract data-plane §7.2).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use asya_runtime_protocol::{Envelope, ErrorEnvelope, ParseError, RawJson, fallback_id};
use bytes::Bytes;

fn written(envelope: &Envelope) -> String {
    String::from_utf8(envelope.to_bytes().to_vec()).unwrap()
}

fn input() -> Envelope {
    let body = concat!(
        r#"{"id":"i","parent_id":"p","route":{"actors":["a","b"],"current":1,"metadata":{"m":1e400},"r":0},"#,
        r#""headers":{"h" : 1.0},"payload":{"b":12345678901234567890, "a":"\ud800"},"deadline":"d","x":[ ]}"#
    );
    Envelope::parse(&Bytes::from_static(body.as_bytes()))
        .unwrap()
        .envelope
}

#[test]
fn the_input_is_kept_around_the_failure() {
    let details = RawJson::parse(r#"{"message":"boom","type":"ValueError","traceback":"…"}"#).unwrap();
    let error = ErrorEnvelope::new("processing_error")
        .details(details)
        .for_envelope(&input());
    assert_eq!(
        written(&error),
        concat!(
            r#"{"id":"i","parent_id":"p","route":{"actors":["a","b"],"current":1,"metadata":{"m":1e400},"r":0},"#,
            r#""headers":{"h" : 1.0},"payload":{"error":"processing_error","#,
            r#""details":{"message":"boom","type":"ValueError","traceback":"…"},"#,
            r#""original_payload":{"b":12345678901234567890, "a":"\ud800"}},"deadline":"d","x":[ ]}"#
        )
    );
    Envelope::parse(&error.to_bytes()).unwrap();
}

#[test]
fn attempts_and_history_have_their_place() {
    let error = ErrorEnvelope::new("timeout")
        .attempts(RawJson::from_value(&3).unwrap())
        .history(RawJson::parse("[{}]").unwrap())
        .for_envelope(&Envelope {
            id: "i".to_owned(),
            ..Envelope::default()
        });
    assert_eq!(
        written(&error),
        concat!(
            r#"{"id":"i","route":{"actors":["error-end"],"current":0},"#,
            r#""payload":{"error":"timeout","attempts":3,"history":[{}]}}"#
        )
    );
}

#[test]
fn a_payload_over_the_limit_is_replaced_by_its_size() {
    let error = ErrorEnvelope::new("too large").limit(4).for_envelope(&input());
    assert_eq!(
        error.payload.unwrap().as_str(),
        r#"{"error":"too large","original_size":40}"#
    );
}

#[test]
fn a_message_without_id_keeps_its_payload_under_a_derived_id() {
    let body = Bytes::from_static(br#"{"route":{"actors":["a"],"current":7},"payload":1e400}"#);
    let Err(error @ ParseError::MissingId(_)) = Envelope::parse(&body) else {
        panic!("has no id")
    };
    let text = error.to_string();
    let ParseError::MissingId(mut parsed) = error else {
        unreachable!()
    };
    parsed.envelope.id = fallback_id("asya-a", Some("7"), &body);
    let error = ErrorEnvelope::new(text).for_envelope(&parsed.envelope);
    assert_eq!(
        written(&error),
        format!(
            concat!(
                r#"{{"id":"{}","route":{{"actors":["a"],"current":7}},"#,
                r#""payload":{{"error":"Envelope missing required 'id' field","original_payload":1e400}}}}"#
            ),
            parsed.envelope.id
        )
    );
}

#[test]
fn an_unreadable_body_goes_along_as_text() {
    let error =
        ErrorEnvelope::new("Failed to parse message: x").for_unreadable("id", "{\"a\":\n\u{1}é".as_bytes());
    assert_eq!(
        error.payload.as_ref().unwrap().as_str(),
        "{\"error\":\"Failed to parse message: x\",\"original_body\":\"{\\\"a\\\":\\n\\u0001\u{fffd}\"}"
            .replace('\u{fffd}', "é")
    );
    assert_eq!(error.route.actors, ["error-end"]);
    assert_eq!(error.route.current, 0);
}

#[test]
fn an_unreadable_body_is_cut_at_the_limit_between_characters() {
    let error = |body: &[u8], limit| {
        ErrorEnvelope::new("x")
            .limit(limit)
            .for_unreadable("id", body)
            .payload
            .unwrap()
            .as_str()
            .to_owned()
    };
    assert_eq!(
        error("aéb".as_bytes(), 4),
        r#"{"error":"x","original_body":"aéb"}"#
    );
    assert_eq!(
        error("aéb".as_bytes(), 2),
        r#"{"error":"x","original_body":"a","original_size":4}"#
    );
    assert_eq!(
        error(b"\xff\xfe\xfd", 3),
        r#"{"error":"x","original_body_base64":"//79"}"#
    );
    assert_eq!(
        error(b"\xff\xfe\xfd", 1),
        r#"{"error":"x","original_body_base64":"/w==","original_size":3}"#
    );
    assert_eq!(error(b"", 0), r#"{"error":"x","original_body":""}"#);
}
