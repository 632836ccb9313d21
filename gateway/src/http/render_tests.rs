use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::{Phase, Status};
use chrono::TimeZone as _;

use super::*;

fn raw(text: &'static str) -> RawJson {
    RawJson::parse(text.as_bytes()).unwrap()
}

fn at() -> DateTime<Utc> {
    Utc.timestamp_micros(1_795_218_922_123_456).unwrap()
}

fn record() -> Record {
    Record {
        id: "e".into(),
        parent_id: None,
        tenant: Some("never shown".into()),
        tool: Some("t".into()),
        status: Status::Running,
        outcome: None,
        attempt: 1,
        actors: vec!["a".into(), "b".into(), "c".into()],
        route_current: 0,
        route_metadata: Some(raw(r#"{"job_id":"e"}"#)),
        headers: None,
        payload: Some(raw(r#"{"b": 1.0,"a":12345678901234567890,"s":"\ud800\u0000"}"#)),
        result: None,
        error: None,
        timeout: Some(Duration::from_mins(5)),
        deadline: Some(at()),
        progress_percent: 100.0 / 30.0,
        current_actor_idx: 0,
        current_actor_name: Some("a".into()),
        phase: Some(Phase::Received),
        message: Some("Received message (0.10 KB)".into()),
        actors_completed: 0,
        stored_at: None,
        created_at: at(),
        updated_at: at(),
        version: 3,
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_envelope_has_its_keys_in_the_contracts_order_and_its_payload_byte_for_byte() {
    assert_eq!(
        text(envelope(&record(), Detail::ORIGINAL)),
        concat!(
            r#"{"id":"e","status":"running","route":{"actors":["a","b","c"],"current":0,"metadata":{"job_id":"e"}},"#,
            r#""payload":{"b": 1.0,"a":12345678901234567890,"s":"\ud800\u0000"},"timeout_seconds":300,"#,
            r#""deadline":"2026-11-20T23:55:22.123456Z","progress_percent":3.33,"current_actor_idx":0,"#,
            r#""current_actor_name":"a","message":"Received message (0.10 KB)","actors_completed":0,"total_actors":3,"#,
            r#""created_at":"2026-11-20T23:55:22.123456Z","updated_at":"2026-11-20T23:55:22.123456Z"}"#
        )
    );
}

#[test]
fn what_is_absent_has_no_key_but_the_payload_of_a_child_is_null() {
    let child = Record {
        parent_id: Some("p".into()),
        payload: None,
        route_metadata: None,
        timeout: None,
        deadline: None,
        current_actor_name: None,
        message: Some(String::new()),
        actors: vec![],
        progress_percent: 0.0,
        ..record()
    };
    assert_eq!(
        text(envelope(&child, Detail::ORIGINAL)),
        concat!(
            r#"{"id":"e","parent_id":"p","status":"running","route":{"actors":[],"current":0},"payload":null,"#,
            r#""progress_percent":0,"current_actor_idx":0,"actors_completed":0,"total_actors":0,"#,
            r#""created_at":"2026-11-20T23:55:22.123456Z","updated_at":"2026-11-20T23:55:22.123456Z"}"#
        )
    );
}

#[test]
fn a_cancelled_envelope_reads_failed_and_says_more_when_asked() {
    let cancelled = Record {
        status: Status::Failed,
        outcome: Some(Outcome::Cancelled),
        error: Some("cancelled".into()),
        attempt: 2,
        stored_at: Some("s3://b/k".into()),
        ..record()
    };
    let old = text(envelope(&cancelled, Detail::ORIGINAL));
    assert!(
        old.contains(r#""status":"failed""#) && !old.contains("outcome"),
        "{old}"
    );
    let detail = Detail {
        content: false,
        outcome: true,
    };
    let new = text(envelope(&cancelled, detail));
    assert!(!new.contains("payload"), "{new}");
    assert!(
        new.ends_with(r#","outcome":"cancelled","attempt":2,"tool":"t","stored_at":"s3://b/k"}"#),
        "{new}"
    );
}

#[test]
fn percentages_are_written_as_the_original_writes_them() {
    for (value, rounded, full) in [
        (0.0, "0", "0"),
        (100.0, "100", "100"),
        (100.0 / 30.0, "3.33", "3.3333333333333335"),
        (50.0 / 3.0, "16.67", "16.666666666666668"),
        (66.666, "66.67", "66.666"),
        (f64::NAN, "0", "0"),
    ] {
        assert_eq!((percent(value).as_str(), number(value).as_str()), (rounded, full));
    }
}

fn update() -> Update {
    Update {
        id: 7,
        envelope_id: Arc::from("e"),
        kind: Kind::Progress,
        status: Status::Running,
        outcome: None,
        attempt: 1,
        message: Some("Processing in b".into()),
        result: None,
        error: None,
        failure: None,
        progress_percent: Some(50.0),
        actor: Some("b".into()),
        actors: Some(Arc::from(["a".to_owned(), "b".to_owned()])),
        current_actor_idx: Some(1),
        phase: Some(Phase::Processing),
        partial: None,
        next_run_at: None,
        at: at(),
    }
}

#[test]
fn an_update_is_one_event_with_an_id_and_the_union_of_live_and_replayed_keys() {
    assert_eq!(
        text(event(&update(), false)),
        concat!(
            "id: 7\nevent: update\n",
            r#"data: {"id":"e","status":"running","message":"Processing in b","progress_percent":50,"actor":"b","#,
            r#""actors":["a","b"],"current_actor_idx":1,"envelope_state":"processing","#,
            r#""timestamp":"2026-11-20T23:55:22.123456Z"}"#,
            "\n\n"
        )
    );
}

#[test]
fn line_breaks_between_tokens_do_not_break_the_event() {
    let finished = Update {
        kind: Kind::Final,
        status: Status::Succeeded,
        outcome: Some(Outcome::Succeeded),
        result: Some(raw("{\n  \"a\": \"x\\ny\",\r\n  \"b\": 1\n}")),
        actors: None,
        phase: None,
        ..update()
    };
    let event = text(event(&finished, true));
    let lines: Vec<&str> = event.split('\n').collect();
    assert_eq!(lines.len(), 5, "{event}");
    assert!(
        lines[2].contains(r#""result":{   "a": "x\ny",    "b": 1 }"#),
        "{event}"
    );
    assert!(
        lines[2].ends_with(r#""outcome":"succeeded","attempt":1}"#),
        "{event}"
    );
    assert!(!event.contains('\r'));
}

#[test]
fn an_item_of_a_handler_that_yields_is_an_event_of_its_own() {
    let item = Update {
        kind: Kind::Partial,
        partial: Some(Partial {
            actor_index: 1,
            index: 4,
            value: raw("[1.0,\n2]"),
        }),
        ..update()
    };
    assert_eq!(
        text(event(&item, false)),
        concat!(
            "id: 7\nevent: partial\n",
            r#"data: {"id":"e","actor":"b","current_actor_idx":1,"index":4,"value":[1.0, 2],"attempt":1,"#,
            r#""timestamp":"2026-11-20T23:55:22.123456Z"}"#,
            "\n\n"
        )
    );
}
