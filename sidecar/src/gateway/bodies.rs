//! What a gateway is told, as JSON: pure functions from events to request bodies (contract data-plane §10).
//!
//! Results and details are copied byte for byte; nothing here reads a number.

use asya_runtime_protocol::{Envelope, GoDuration, RawJson, Route};
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::note::{Fact, Note};
use crate::report::{FinalReport, FinalStatus};

#[derive(Serialize)]
struct ProgressBody<'a> {
    actors: &'a [String],
    current_actor_idx: i64,
    status: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_size_kb: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u128>,
}

/// What a note says as a body of `POST /envelopes/{id}/progress`; `None` if there is no place for it there.
pub(super) fn progress(note: &Note) -> Option<Bytes> {
    let mut body = ProgressBody {
        actors: &note.actors,
        current_actor_idx: note.index,
        status: "processing",
        message: words(&note.fact)?,
        message_size_kb: None,
        duration_ms: None,
    };
    match &note.fact {
        Fact::Received { bytes } => {
            body.status = "received";
            body.message_size_kb = Some(kilobytes(*bytes));
        }
        Fact::Completed { took } => {
            body.status = "completed";
            body.duration_ms = Some(took.as_millis());
        }
        _ => {}
    }
    Some(encode(&body))
}

/// What a note says in words; `None` if it has none. A gateway knows no status for a run that comes again, so that is
/// a message on `processing` (rulings 5).
pub(super) fn words(fact: &Fact) -> Option<String> {
    Some(match fact {
        Fact::Received { bytes } => format!("Received message ({:.2} KB)", kilobytes(*bytes)),
        Fact::Processing { actor } => format!("Processing in {actor}"),
        Fact::Completed { took } => format!("Completed processing in {}ms", took.as_millis()),
        Fact::Retrying {
            attempt,
            after,
            error,
        } => format!("Retrying in {} (attempt {attempt}): {error}", GoDuration(*after)),
        Fact::Noted { fraction, message } => {
            let percent = fraction.map(|fraction| format!("{:.0} %", fraction.clamp(0.0, 1.0) * 100.0));
            let parts: Vec<_> = percent
                .iter()
                .map(String::as_str)
                .chain(message.as_deref())
                .collect();
            parts.join(": ")
        }
        Fact::Partial { .. } | Fact::Child { .. } => return None,
    })
}

fn kilobytes(bytes: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
    let kilobytes = bytes as f64 / 1024.0;
    kilobytes
}

#[derive(Serialize)]
struct ChildBody<'a> {
    id: &'a str,
    parent_id: &'a str,
    actors: &'a [String],
    current: i64,
}

/// A result of a fan-out becomes an envelope of its own.
pub(super) fn child(note: &Note, parent_id: &str) -> Bytes {
    encode(&ChildBody {
        id: &note.id,
        parent_id,
        actors: &note.actors,
        current: note.index,
    })
}

#[derive(Serialize)]
struct FinalBody<'a> {
    id: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_details: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    actors: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    current_actor_idx: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current_actor_name: Option<&'a str>,
    timestamp: String,
}

/// How much of a final report is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// All of it.
    Full,
    /// The status without result and details, for a gateway that finds them too large.
    StatusOnly,
}

/// The final word about an envelope.
pub(super) fn finished(report: &FinalReport, detail: Detail, now: DateTime<Utc>) -> Bytes {
    let told = |value: &'_ Option<RawJson>| {
        detail == Detail::Full && value.as_ref().is_some_and(|raw| !raw.is_null())
    };
    let route = match report.status {
        FinalStatus::Succeeded => Route::default(),
        // Only failures say where they happened.
        FinalStatus::Failed => Envelope::parse(&report.message)
            .map(|parsed| parsed.envelope.route)
            .unwrap_or_default(),
    };
    let has_route = !route.actors.is_empty();
    encode(&FinalBody {
        id: &report.id,
        status: match report.status {
            FinalStatus::Succeeded => "succeeded",
            FinalStatus::Failed => "failed",
        },
        progress: (report.status == FinalStatus::Succeeded).then_some(1.0),
        result: report.result.as_ref().filter(|_| told(&report.result)),
        error: report.error.as_deref(),
        error_details: report
            .error_details
            .as_ref()
            .filter(|_| told(&report.error_details)),
        actors: &route.actors,
        current_actor_idx: has_route.then_some(route.current),
        current_actor_name: route.current_actor(),
        timestamp: now.to_rfc3339_opts(SecondsFormat::Millis, true),
    })
}

fn encode(body: &impl Serialize) -> Bytes {
    // Strings, integers and finite numbers always have a JSON form, and raw JSON was checked when it was read.
    serde_json::to_vec(body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(body: impl AsRef<[u8]>) -> String {
        String::from_utf8(body.as_ref().to_vec()).unwrap()
    }

    fn raw(text: &'static str) -> RawJson {
        RawJson::parse(Bytes::from_static(text.as_bytes())).unwrap()
    }

    fn report(status: FinalStatus, message: &'static str) -> FinalReport {
        FinalReport {
            actor: "end".into(),
            id: "x\"1".into(),
            status,
            result: None,
            error: None,
            error_details: None,
            message: Bytes::from_static(message.as_bytes()),
        }
    }

    fn said(report: &FinalReport, detail: Detail) -> String {
        text(finished(report, detail, DateTime::UNIX_EPOCH))
    }

    fn note(actors: &[&str], fact: Fact) -> Note {
        Note {
            id: "x-1".into(),
            attempt: 1,
            step: 1,
            actors: actors.iter().map(|&actor| actor.into()).collect(),
            index: 1,
            at: DateTime::UNIX_EPOCH,
            fact,
        }
    }

    #[test]
    fn progress_bodies_are_those_of_the_contract() {
        let said = |actors: &[&str], fact| text(progress(&note(actors, fact)).expect("a body"));
        assert_eq!(
            said(&["a", "b"], Fact::Received { bytes: 1260 }),
            r#"{"actors":["a","b"],"current_actor_idx":1,"status":"received","message":"Received message (1.23 KB)","message_size_kb":1.23046875}"#
        );
        assert_eq!(
            said(&["a", "b"], Fact::Processing { actor: "b".into() }),
            r#"{"actors":["a","b"],"current_actor_idx":1,"status":"processing","message":"Processing in b"}"#
        );
        let took = Duration::from_micros(12_900);
        assert_eq!(
            said(&["a", "b", "c"], Fact::Completed { took }),
            r#"{"actors":["a","b","c"],"current_actor_idx":1,"status":"completed","message":"Completed processing in 12ms","duration_ms":12}"#
        );
        let retrying = Fact::Retrying {
            attempt: 2,
            after: Duration::from_millis(1500),
            error: "bad \"luck\"".into(),
        };
        assert_eq!(
            said(&["a", "b"], retrying),
            r#"{"actors":["a","b"],"current_actor_idx":1,"status":"processing","message":"Retrying in 1.5s (attempt 2): bad \"luck\""}"#
        );
        for (fraction, message, expected) in [
            (Some(0.5), Some("half"), "50 %: half"),
            (Some(2.0), None, "100 %"),
            (None, Some("begun"), "begun"),
        ] {
            let message = message.map(str::to_owned);
            let said = said(&["a"], Fact::Noted { fraction, message });
            assert!(
                said.contains(&format!(r#""status":"processing","message":"{expected}""#)),
                "{said}"
            );
        }
    }

    #[test]
    fn a_child_has_a_body_of_its_own_and_an_item_has_none() {
        let parent_id = "x";
        let child_of = Fact::Child {
            parent_id: parent_id.into(),
        };
        let made = note(&["a", "b"], child_of);
        assert_eq!(
            text(child(&made, parent_id)),
            r#"{"id":"x-1","parent_id":"x","actors":["a","b"],"current":1}"#
        );
        assert!(progress(&made).is_none());
        let value = raw("[1]");
        assert!(progress(&note(&["a"], Fact::Partial { seq: 0, value })).is_none());
    }

    #[test]
    fn a_success_carries_its_result_byte_for_byte() {
        let mut report = report(FinalStatus::Succeeded, r#"{"id":"x","route":{"actors":["a"]}}"#);
        report.result = Some(raw(r#"{"n": 12345678901234567890,"f":1.50,"e":1e400}"#));
        assert_eq!(
            said(&report, Detail::Full),
            r#"{"id":"x\"1","status":"succeeded","progress":1.0,"result":{"n": 12345678901234567890,"f":1.50,"e":1e400},"timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
        let short =
            r#"{"id":"x\"1","status":"succeeded","progress":1.0,"timestamp":"1970-01-01T00:00:00.000Z"}"#;
        assert_eq!(said(&report, Detail::StatusOnly), short);
        report.result = Some(RawJson::null());
        assert_eq!(said(&report, Detail::Full), short);
    }

    #[test]
    fn a_failure_says_where_and_leaves_out_what_it_does_not_know() {
        let mut failed = report(
            FinalStatus::Failed,
            r#"{"id":"x","route":{"actors":["a","b"],"current":1},"payload":{}}"#,
        );
        failed.error = Some("processing_error".into());
        failed.error_details = Some(raw(r#"{"message":"no","n":1e400}"#));
        assert_eq!(
            said(&failed, Detail::Full),
            r#"{"id":"x\"1","status":"failed","error":"processing_error","error_details":{"message":"no","n":1e400},"actors":["a","b"],"current_actor_idx":1,"current_actor_name":"b","timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
        assert!(!said(&failed, Detail::StatusOnly).contains("error_details"));
        let beyond = report(
            FinalStatus::Failed,
            r#"{"id":"x","route":{"actors":["a"],"current":1}}"#,
        );
        assert_eq!(
            said(&beyond, Detail::Full),
            r#"{"id":"x\"1","status":"failed","actors":["a"],"current_actor_idx":1,"timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(
            said(&report(FinalStatus::Failed, "not json"), Detail::Full),
            r#"{"id":"x\"1","status":"failed","timestamp":"1970-01-01T00:00:00.000Z"}"#
        );
    }
}
