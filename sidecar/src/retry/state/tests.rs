//! The header: what is written is read again by the same hop, and nothing else is taken for it.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::any;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;

const AT: DateTime<Utc> = DateTime::from_timestamp(2_000_000_000, 0).unwrap();

fn envelope(headers: &str) -> Envelope {
    let text = format!(
        r#"{{"id":"x","route":{{"actors":["work"],"metadata":{{"asya_step":4}}}},"headers":{headers},"payload":1}}"#
    );
    Envelope::parse(&Bytes::from(text)).unwrap().envelope
}

fn headers_of(envelope: &Envelope) -> Option<&str> {
    envelope.headers.as_ref().map(RawObject::as_str)
}

fn failure(message: &str) -> RunFailure {
    RunFailure {
        code: "processing_error".into(),
        exceptions: vec!["app.Outage".into(), "OSError".into()],
        message: message.into(),
        is_reported: false,
    }
}

fn failed(runs: &mut Runs, message: &str) {
    let after = Duration::from_millis(1500);
    runs.note(&failure(message), AT, Next::Retry { after });
}

/// The runs after `count` failures, each of which went through a message.
fn after_failures(count: u32, message: &str) -> (Envelope, Runs) {
    let mut message_again = envelope("{}");
    let mut runs = Runs::first();
    for _ in 0..count {
        failed(&mut runs, message);
        runs.write_next(&mut message_again, "work", AT);
        runs = Runs::take(&mut message_again.clone(), "work");
    }
    (message_again, runs)
}

#[test]
fn the_layout_is_the_one_that_is_documented() {
    let mut message = envelope(r#"{"trace": 1.50 ,"asya_retry":"mine"}"#);
    let mut runs = Runs::take(&mut message, "work");
    failed(&mut runs, "no luck");
    runs.write_next(&mut message, "work", AT);
    let history = concat!(
        r#"[{"attempt":1,"at":"2033-05-18T03:33:20.000Z","error":"processing_error","type":"app.Outage","#,
        r#""message":"no luck","after_ms":1500}]"#
    );
    assert_eq!(
        headers_of(&message).unwrap(),
        format!(
            concat!(
                r#"{{"trace":1.50,"asya_retry":{{"actor":"work","step":4,"attempt":2,"#,
                r#""first_at":"2033-05-18T03:33:20.000Z","history":{}}}}}"#
            ),
            history
        )
    );
    let mut taken = Runs::take(&mut message, "work");
    assert_eq!(headers_of(&message), Some(r#"{"trace":1.50}"#));
    assert_eq!((taken.attempt(), taken.first_at), (2, Some(AT)));
    assert_eq!(taken.record().unwrap().history.as_str(), history);
    taken.note(&failure("again"), AT, Next::GaveUp(Why::MaxAttempts));
    let record = taken.record().unwrap();
    assert_eq!(record.attempts.as_str(), "2");
    assert!(
        record
            .history
            .as_str()
            .ends_with(r#""message":"again","gave_up":"max_attempts"}]"#)
    );
}

#[test]
fn runs_of_another_actor_or_step_are_taken_off_and_mean_nothing() {
    let (message, runs) = after_failures(2, "no");
    assert_eq!(runs.attempt(), 3);
    let mut elsewhere = message.clone();
    assert_eq!(Runs::take(&mut elsewhere, "other"), Runs::first());
    assert_eq!(headers_of(&elsewhere), None);
    let mut later = message;
    later.route.set_step(5);
    assert_eq!(Runs::take(&mut later, "work"), Runs::first());
    assert_eq!(headers_of(&later), None);
}

#[test]
fn a_header_of_another_shape_is_somebodys_own_and_stays() {
    let good = r#""actor":"work","step":4,"attempt":2,"first_at":"2033-05-18T03:33:20Z""#;
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    for own in [
        "null",
        "7",
        r#""x""#,
        "{}",
        "[]",
        &deep,
        &format!("{{{good}}}"),
        &format!(r#"{{{good},"history":7}}"#),
        &format!(r#"{{{good},"history":[{{"attempt":"1"}}]}}"#),
        r#"{"actor":"work","step":4,"attempt":-2,"first_at":"2033-05-18T03:33:20Z","history":[]}"#,
    ] {
        let headers = format!(r#"{{"a":1e400,"asya_retry":{own}}}"#);
        let mut message = envelope(&headers);
        assert!(!Runs::are_told_by(&message));
        assert_eq!(Runs::take(&mut message, "work"), Runs::first(), "{own:.80}");
        assert_eq!(headers_of(&message), Some(&*headers));
    }
}

#[test]
fn a_state_of_our_shape_without_sense_counts_as_none() {
    for (attempt, first_at) in [(2, "yesterday"), (1, "2033-05-18T03:33:20Z"), (0, "")] {
        let mut message = envelope(&format!(
            r#"{{"asya_retry":{{"actor":"work","step":4,"attempt":{attempt},"first_at":"{first_at}","history":[]}}}}"#
        ));
        assert_eq!(Runs::take(&mut message, "work"), Runs::first());
    }
}

#[test]
fn the_history_keeps_the_first_and_the_last_runs() {
    let (_, runs) = after_failures(40, "no");
    let numbers: Vec<_> = runs.history.iter().map(|run| run.attempt).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 36, 37, 38, 39, 40]);
    assert_eq!(runs.attempt(), 41);
}

#[test]
fn what_others_wrote_is_shortened_too() {
    let long = "x".repeat(5000);
    let one = format!(r#"{{"attempt":1,"at":"{long}","error":"{long}","type":"{long}","message":"{long}"}}"#);
    let many = vec![one; 500].join(",");
    let mut message = envelope(&format!(
        r#"{{"asya_retry":{{"actor":"work","step":4,"attempt":2,"first_at":"2033-05-18T03:33:20Z","history":[{many}]}}}}"#
    ));
    let runs = Runs::take(&mut message, "work");
    assert_eq!(runs.attempt(), 2);
    assert!(runs.record().unwrap().history.len() < 20_000);
}

proptest! {
    #[test]
    fn the_state_is_bounded_and_read_as_it_was_written(count in 1_u32..30, message in any::<String>()) {
        let (mut written, runs) = after_failures(count, &message);
        prop_assert_eq!(runs.attempt(), count + 1);
        // A character takes six bytes at most where it is escaped, a pair of them for four bytes of UTF-8.
        prop_assert!(written.headers.as_ref().unwrap().as_raw().len() < 10 * (LONGEST_TEXT * 6 + 200) + 500);
        let again = written.to_bytes();
        prop_assert_eq!(Runs::take(&mut Envelope::parse(&again).unwrap().envelope, "work"), runs.clone());
        prop_assert_eq!(Runs::take(&mut written, "work"), runs);
        prop_assert!(written.headers.is_none());
    }
}
