//! Envelopes as bytes: golden fixtures, the tolerance of contract data-plane §2, and what is refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use asya_runtime_protocol::{Envelope, JsonProblem, ParseError, Parsed, Route};
use bytes::Bytes;

mod support;
use support::nested;

fn parse(text: &str) -> Parsed {
    try_parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn try_parse(text: &str) -> Result<Parsed, ParseError> {
    Envelope::parse(&Bytes::copy_from_slice(text.as_bytes()))
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_full_envelope_is_written_in_the_contracts_order_with_its_bytes() {
    let body = concat!(
        r#"{ "trace":{"a" : 1e400}, "deadline":"2026-01-01T00:00:00Z","payload": {"b":1.50,"a":"\u00e9\ud800", "#,
        r#""big":123456789012345678901234567890} ,"headers":{ "x":[1.0 ,2] },"#,
        r#""route":{"hint":7,"metadata":{"m":-0},"current":1,"actors":["a","b\"é"]},"parent_id":"p","id":"i","z":null}"#,
    );
    let parsed = parse(body);
    assert!(!parsed.needs_normalisation());
    assert_eq!(parsed.runtime_request(), parsed.body());
    assert_eq!(
        text(&parsed.envelope.to_bytes()),
        concat!(
            r#"{"id":"i","parent_id":"p","route":{"actors":["a","b\"é"],"current":1,"metadata":{"m":-0},"hint":7},"#,
            r#""headers":{ "x":[1.0 ,2] },"payload":{"b":1.50,"a":"\u00e9\ud800", "#,
            r#""big":123456789012345678901234567890},"deadline":"2026-01-01T00:00:00Z","#,
            r#""trace":{"a" : 1e400},"z":null}"#,
        )
    );
}

#[test]
fn a_small_envelope_stays_small_and_an_absent_payload_is_published_as_null() {
    let parsed = parse(r#"{"id":"i"}"#);
    assert_eq!(parsed.envelope.payload, None);
    assert!(!parsed.has_route());
    assert_eq!(
        text(&parsed.envelope.to_bytes()),
        r#"{"id":"i","route":{"actors":[],"current":0},"payload":null}"#
    );
    let null = parse(r#"{"id":"i","payload":null}"#);
    assert!(null.envelope.payload.is_some_and(|payload| payload.is_null()));
}

#[test]
fn payload_and_headers_share_the_buffer_of_the_message() {
    let parsed = parse(r#"{"id":"i","headers":{"h":1},"payload":{"p":1}}"#);
    let whole = parsed.body().as_ptr_range();
    let payload = parsed.envelope.payload.unwrap();
    let headers = parsed.envelope.headers.unwrap();
    assert!(whole.contains(&payload.as_bytes().as_ptr()));
    assert!(whole.contains(&headers.as_raw().as_bytes().as_ptr()));
}

#[test]
fn whatever_a_plain_reader_could_misread_is_normalised_for_the_runtime() {
    for (body, request) in [
        (
            r#"{"id":"i","route":{"steps":["a"],"current":0},"payload":1}"#,
            r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":1}"#,
        ),
        (
            r#"{"id":"i","route":{"actors":["a"],"current":null},"payload":1}"#,
            r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":1}"#,
        ),
        (
            r#"{"id":"i","headers":null,"route":{"actors":["a"]},"payload":1,"x":2}"#,
            r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":1,"x":2}"#,
        ),
        (
            r#"{"ID":"i","Route":{"Actors":["a"],"CURRENT":1},"PayLoad":1e400}"#,
            r#"{"id":"i","route":{"actors":["a"],"current":1},"payload":1e400}"#,
        ),
        (
            r#"{"id":"h","id":"i","payload":[1,2],"payload":null,"route":{"actors":["a"]}}"#,
            r#"{"id":"i","route":{"actors":["a"],"current":0},"payload":null}"#,
        ),
        // What was absent stays absent: saying so is the runtime's part.
        (r#"{"id":"i","headers":null}"#, r#"{"id":"i"}"#),
        (
            r#"{"id":"i","route":null,"deadline":"d"}"#,
            r#"{"id":"i","deadline":"d"}"#,
        ),
    ] {
        let parsed = parse(body);
        assert!(parsed.needs_normalisation(), "{body}");
        assert_eq!(text(&parsed.runtime_request()), request);
    }
}

#[test]
fn the_exact_key_wins_wherever_it_stands_and_its_other_spelling_is_gone() {
    for body in [
        r#"{"ID":"wrong","id":"i"}"#,
        r#"{"id":"i","ID":"wrong"}"#,
        r#"{"id":"i","Id":{"any":1}}"#,
    ] {
        let parsed = parse(body);
        assert_eq!(parsed.envelope.id, "i");
        assert!(parsed.envelope.extra.is_empty());
    }
}

#[test]
fn escaped_keys_are_the_keys_that_they_spell() {
    let parsed = parse(r#"{"\u0069d":"i","payload":1,"rou\u0074e":{"actors":["\u0061"]}}"#);
    assert_eq!(
        (parsed.envelope.id.as_str(), parsed.envelope.route.current_actor()),
        ("i", Some("a"))
    );
    assert!(!parsed.needs_normalisation());
}

#[test]
fn unknown_members_keep_order_duplicates_and_keys_that_are_no_text() {
    let body = r#"{"id":"i","b":1,"a":{"x" :2},"b":[],"\ud800":"\udfff"}"#;
    let envelope = parse(body).envelope;
    assert_eq!(
        envelope.extra.as_str(),
        r#"{"b":1,"a":{"x" :2},"b":[],"\ud800":"\udfff"}"#
    );
    assert_eq!(envelope.extra.get("b").unwrap().as_str(), "[]");
    assert!(text(&envelope.to_bytes()).ends_with(r#","b":1,"a":{"x" :2},"b":[],"\ud800":"\udfff"}"#));
}

#[test]
fn a_deadline_that_is_no_text_is_carried_but_is_none() {
    let envelope = parse(r#"{"id":"i","deadline":17}"#).envelope;
    assert_eq!(envelope.deadline, None);
    assert_eq!(envelope.extra.as_str(), r#"{"deadline":17}"#);
}

#[test]
fn depth_is_no_reason_to_fail_anywhere() {
    let deep = nested(200_000);
    let object = format!(r#"{{"k":{deep}}}"#);
    let body = format!(
        concat!(
            r#"{{"id":"i","route":{{"actors":["a"],"metadata":{o},"more":{d}}},"#,
            r#""headers":{o},"payload":{d},"unknown":{d}}}"#
        ),
        o = object,
        d = deep,
    );
    let parsed = parse(&body);
    let mut envelope = parsed.envelope.clone();
    envelope.route = envelope.route.advanced().with_step(1);
    assert_eq!(envelope.payload.as_ref().unwrap().as_str(), deep);
    let again = Envelope::parse(&envelope.to_bytes()).unwrap().envelope;
    assert_eq!(again, envelope);
    assert_eq!(again.route.step(), 1);
    assert_eq!(again.route.metadata.get("k").unwrap().as_str(), deep);
    // A value that goes through serde keeps its depth too.
    assert_eq!(
        serde_json::to_string(again.payload.as_ref().unwrap()).unwrap(),
        deep
    );
}

#[test]
fn without_an_id_everything_else_is_still_there() {
    for body in [
        r#"{"route":{"actors":["a"]},"payload":1e400}"#,
        r#"{"id":null,"route":{"actors":["a"]},"payload":1e400}"#,
        r#"{"id":"","route":{"actors":["a"]},"payload":1e400}"#,
    ] {
        let error = try_parse(body).unwrap_err();
        assert_eq!(error.to_string(), "Envelope missing required 'id' field");
        let ParseError::MissingId(parsed) = error else {
            panic!("{body}")
        };
        assert_eq!(parsed.envelope.id, "");
        assert_eq!(parsed.envelope.payload.as_ref().unwrap().as_str(), "1e400");
        assert_eq!(parsed.body(), body.as_bytes());
    }
}

#[test]
fn unreadable_messages_say_why_without_quoting_what_they_hold() {
    for (body, problem, reason) in [
        (
            &b""[..],
            JsonProblem::Syntax,
            "EOF while parsing a value at line 1 column 0",
        ),
        (
            b"secret",
            JsonProblem::Syntax,
            "expected value at line 1 column 1",
        ),
        (
            b"{\"id\":\"secret",
            JsonProblem::Syntax,
            "EOF while parsing a string at line 1 column 13",
        ),
        (
            b"{\"id\":\"i\"}x",
            JsonProblem::Syntax,
            "trailing characters at line 1 column 11",
        ),
        (
            b"{\"id\":\"i\",\"payload\":NaN}",
            JsonProblem::Syntax,
            "expected value at line 1 column 21",
        ),
        (
            b"{\"id\":\"i\",\"payload\":[1,]}",
            JsonProblem::Syntax,
            "expected value at line 1 column 24",
        ),
        (
            b"\xef\xbb\xbf{\"id\":\"i\"}",
            JsonProblem::Syntax,
            "expected value at line 1 column 1",
        ),
        (
            b"{\"id\":\"secret\xff\"}",
            JsonProblem::Encoding,
            "invalid UTF-8 at byte 13",
        ),
        (
            b"[\"secret\"]",
            JsonProblem::Shape,
            "the message must be a JSON object, found an array",
        ),
        (
            b" null",
            JsonProblem::Shape,
            "the message must be a JSON object, found null",
        ),
        (
            b"{\"id\":7}",
            JsonProblem::Shape,
            "`id` must be a string, found a number",
        ),
        (
            b"{\"id\":\"\\ud800\"}",
            JsonProblem::Shape,
            "`id` is not valid Unicode",
        ),
        (
            b"{\"id\":\"i\",\"parent_id\":[]}",
            JsonProblem::Shape,
            "`parent_id` must be a string, found an array",
        ),
        (
            b"{\"id\":\"i\",\"route\":\"secret\"}",
            JsonProblem::Shape,
            "`route` must be an object, found a string",
        ),
        (
            b"{\"id\":\"i\",\"headers\":[]}",
            JsonProblem::Shape,
            "`headers` must be an object, found an array",
        ),
    ] {
        let error = Envelope::parse(&Bytes::from_static(body)).unwrap_err();
        assert_eq!(error.to_string(), format!("Failed to parse message: {reason}"));
        assert!(
            matches!(error, ParseError::Json { problem: found, .. } if found == problem),
            "{reason}"
        );
    }
}

#[test]
fn debug_output_shows_no_payload_and_no_headers() {
    let parsed = parse(r#"{"id":"i","headers":{"token":"secret"},"payload":"secret","x":"secret"}"#);
    assert!(!format!("{:?}", parsed.envelope).contains("secret"));
    assert!(!format!("{parsed:?}").contains("secret"), "{parsed:?}");
}

#[test]
fn an_envelope_made_here_reads_as_one_made_elsewhere() {
    let envelope = Envelope {
        id: "\u{1}\"\\é\u{2028}".to_owned(),
        route: Route::new(["a", ""]),
        ..Envelope::default()
    };
    let again = Envelope::parse(&envelope.to_bytes()).unwrap().envelope;
    assert_eq!((again.id, again.route), (envelope.id, envelope.route));
}
