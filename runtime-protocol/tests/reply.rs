//! Answers of a runtime: the array of the contract, and the older forms (data-plane §6.5, §6.7).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use asya_runtime_protocol::{HeadersField, RawJson, RawObject, Reply, ReplyItem};
use bytes::Bytes;

mod support;
use support::nested;

fn parse(text: &str) -> Vec<ReplyItem> {
    try_parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn try_parse(text: &str) -> Result<Vec<ReplyItem>, asya_runtime_protocol::ReplyError> {
    Reply::parse(Bytes::copy_from_slice(text.as_bytes()))
}

fn raw(text: &'static str) -> RawJson {
    RawJson::parse(text).unwrap()
}

#[test]
fn the_originals_answer_is_read_without_touching_values() {
    let items = parse(concat!(
        r#"[{"payload": {"a": 1e400, "b": "\u00e9"}, "route": {"actors": ["x", "y"], "current": 1}, "#,
        r#""headers": {"t": 1.0}}, {"payload": null, "route": {"actors": ["x"], "current": 1}, "id": "no"}]"#
    ));
    let [
        ReplyItem::Output {
            payload,
            has_payload,
            is_legacy: _,
            route,
            headers,
            extra,
        },
        second,
    ] = &items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(payload.as_str(), r#"{"a": 1e400, "b": "\u00e9"}"#);
    assert!(has_payload);
    assert_eq!(route.as_ref().unwrap().current_actor(), Some("y"));
    assert_eq!(
        *headers,
        HeadersField::Present(RawObject::try_from(raw(r#"{"t": 1.0}"#)).unwrap())
    );
    assert!(extra.is_empty());
    let ReplyItem::Output {
        payload,
        headers,
        extra,
        ..
    } = second
    else {
        panic!("{second:?}")
    };
    assert!(payload.is_null() && extra.is_empty());
    assert_eq!(*headers, HeadersField::Absent);
}

#[test]
fn headers_of_an_item_win_null_removes_them_absence_keeps_the_inputs() {
    let input = RawObject::try_from(raw(r#"{"in":1}"#)).unwrap();
    let mut found = Vec::new();
    for item in parse(r#"[{},{"headers":null},{"headers":{}}]"#) {
        let ReplyItem::Output { headers, .. } = item else {
            panic!()
        };
        found.push(
            headers
                .or_input(Some(&input))
                .map(|headers| headers.as_str().to_owned()),
        );
    }
    assert_eq!(
        found,
        [Some(r#"{"in":1}"#.to_owned()), None, Some("{}".to_owned())]
    );
}

#[test]
fn an_error_item_gives_code_and_details() {
    let items =
        parse(r#"[{"error":"processing_error","details":{"message":"b\u00e9","type":"E","n":[1.0]}}]"#);
    let [
        ReplyItem::Error {
            code,
            details: Some(details),
        },
    ] = &items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(code, "processing_error");
    assert_eq!(details.message().as_deref(), Some("bé"));
    assert_eq!(details.exception().as_deref(), Some("E"));
    assert_eq!(details.traceback(), None);
    assert_eq!(details.get("n").unwrap().as_str(), "[1.0]");
    assert_eq!(
        details.as_raw().as_str(),
        r#"{"message":"b\u00e9","type":"E","n":[1.0]}"#
    );
    let odd = parse(r#"[{"error":"e","details":"text"}]"#);
    assert!(
        matches!(&odd[..], [ReplyItem::Error { details: Some(details), .. }] if details.message().is_none())
    );
}

#[test]
fn the_classes_of_an_exception_are_told_or_its_type_alone() {
    for (details, names) in [
        (
            r#"{"type":"E","mro":["app.E","OSError"]}"#,
            &["app.E", "OSError"][..],
        ),
        (r#"{"type":"E","mro":["app.E",7,null]}"#, &["app.E"]),
        (r#"{"type":"E","mro":[]}"#, &["E"]),
        (r#"{"type":"E","mro":"app.E"}"#, &["E"]),
        (r#"{"type":"E"}"#, &["E"]),
        (r#"{"type":7}"#, &[]),
        ("7", &[]),
    ] {
        let items = parse(&format!(r#"[{{"error":"e","details":{details}}}]"#));
        let [
            ReplyItem::Error {
                details: Some(found), ..
            },
        ] = &items[..]
        else {
            panic!("{items:?}")
        };
        assert_eq!(found.exceptions(), names, "{details}");
    }
}

#[test]
fn an_empty_or_null_error_is_none() {
    for text in [r#"[{"error":"","payload":1}]"#, r#"[{"error":null,"payload":1}]"#] {
        assert!(matches!(&parse(text)[..], [ReplyItem::Output { .. }]), "{text}");
    }
}

#[test]
fn no_item_means_no_item() {
    assert!(parse("[]").is_empty());
    assert!(parse(" null ").is_empty());
    let items = parse("[{}]");
    assert!(matches!(
        &items[..],
        [ReplyItem::Output {
            has_payload: false,
            is_legacy: false,
            route: None,
            ..
        }]
    ));
}

#[test]
fn further_members_are_there_for_those_who_know_them() {
    let items = parse(r#"[{"retry":{"after":1.0},"parent_id":"no"}]"#);
    let [ReplyItem::Output { extra, .. }] = &items[..] else {
        panic!("{items:?}")
    };
    assert_eq!(extra.as_str(), r#"{"retry":{"after":1.0}}"#);
}

#[test]
fn older_forms_are_read() {
    let items = parse(r#"{"payload":1,"route":{"actors":["a"]}}"#);
    assert!(matches!(&items[..], [ReplyItem::Output { route: Some(_), .. }]));
    let items = parse(r#"{"status":"ok","result":[1.0]}"#);
    assert!(
        matches!(&items[..], [ReplyItem::Output { payload, route: None, .. }] if payload.as_str() == "[1.0]")
    );
    let items = parse(r#"{"status":"error","error":"oom_error","message":"no memory"}"#);
    let [
        ReplyItem::Error {
            code,
            details: Some(details),
        },
    ] = &items[..]
    else {
        panic!("{items:?}")
    };
    assert_eq!(
        (code.as_str(), details.message().as_deref()),
        ("oom_error", Some("no memory"))
    );
    let items = parse(r#"{"status":"error"}"#);
    assert!(matches!(&items[..], [ReplyItem::Error { code, details: None }] if code == "processing_error"));
}

#[test]
fn a_status_beside_a_payload_is_just_a_member() {
    let items = parse(r#"{"status":"error","payload":1}"#);
    assert!(matches!(&items[..], [ReplyItem::Output { payload, .. }] if payload.as_str() == "1"));
}

#[test]
fn other_answers_are_refused_with_the_place() {
    for (text, problem) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[{\"payload\": NaN}]", "expected value at line 1 column 14"),
        ("7", "expected an array of items, found a number"),
        ("\"secret\"", "expected an array of items, found a string"),
        ("[{},7,8]", "item 1 must be an object, found a number"),
        (
            r#"[{"error":{}}]"#,
            "item 0: `error` must be a string, found an object",
        ),
        (
            r#"[{"headers":7}]"#,
            "item 0: `headers` must be an object or null, found a number",
        ),
        (
            r#"[{"route":{"current":1.0}}]"#,
            "item 0: `route.current` must be an integer of 64 bits, found another number",
        ),
    ] {
        assert_eq!(
            try_parse(text).unwrap_err().to_string(),
            format!("failed to parse runtime response: {problem}")
        );
    }
    assert!(Reply::parse(Bytes::from_static(b"[\"\xff\"]")).is_err());
}

#[test]
fn depth_is_no_reason_to_fail() {
    let deep = nested(200_000);
    let items = parse(&format!(
        r#"[{{"payload":{deep},"route":{{"actors":["a"],"metadata":{{"k":{deep}}}}}}}]"#
    ));
    assert!(matches!(&items[..], [ReplyItem::Output { payload, .. }] if payload.as_str() == deep));
    assert!(try_parse(&deep).is_err());
}
