//! What is told as messages of `asya.status.v1`: pure functions (`proto/asya/status/v1/envelope_status.proto`).

use std::time::Duration;

use asya_proto::status::v1::{
    ChildCreated, EnvelopeReport, FailedResult, Failure, FinalReport as FinalMessage, HopPhase, HopProgress,
    HopRetry, PartialResult, Route as RouteMessage, SucceededResult, envelope_report::Event,
    final_report::Result as FinalResult,
};
use asya_runtime_protocol::{Envelope, RawJson};
use chrono::{DateTime, Utc};

use crate::gateway::bodies::{self, Detail};
use crate::gateway::note::{Fact, Note};
use crate::report::{FinalReport, FinalStatus};

/// A note, under the number that it has on its stream.
pub(super) fn note(note: &Note, sequence: u64) -> EnvelopeReport {
    EnvelopeReport {
        sequence,
        envelope_id: note.id.clone().into(),
        attempt: note.attempt,
        step: u32::try_from(note.step).unwrap_or(u32::MAX),
        occurred_at: Some(timestamp(note.at)),
        event: Some(event(note)),
    }
}

fn event(note: &Note) -> Event {
    let index = index(note.index);
    let progress = |phase: HopPhase| HopProgress {
        phase: phase.into(),
        actors: note.actors.to_vec(),
        actor_index: index,
        message: bodies::words(&note.fact).unwrap_or_default(),
        ..HopProgress::default()
    };
    match &note.fact {
        Fact::Received { bytes } => Event::Progress(HopProgress {
            message_bytes: Some(*bytes as u64),
            ..progress(HopPhase::Received)
        }),
        Fact::Processing { .. } => Event::Progress(progress(HopPhase::Processing)),
        Fact::Noted { fraction, message } => Event::Progress(HopProgress {
            fraction: *fraction,
            message: message.clone().unwrap_or_default(),
            ..progress(HopPhase::Processing)
        }),
        Fact::Completed { took } => Event::Progress(HopProgress {
            duration: prost_types::Duration::try_from(*took).ok(),
            ..progress(HopPhase::Completed)
        }),
        Fact::Partial { seq, value } => Event::Partial(PartialResult {
            actor_index: index,
            index: u32::try_from(*seq).unwrap_or(u32::MAX),
            value_json: value.as_str().to_owned(),
        }),
        Fact::Retrying {
            attempt,
            after,
            error,
        } => Event::Retry(HopRetry {
            actor_index: index,
            runs: attempt.saturating_sub(1),
            failure: Some(Failure {
                error: code(error).to_owned(),
                message: error.clone(),
                actor: actor(&note.actors, note.index),
                actor_index: Some(index),
                ..Failure::default()
            }),
            next_run_at: Some(timestamp(later(note.at, *after))),
        }),
        Fact::Child { parent_id } => Event::Child(ChildCreated {
            parent_id: parent_id.clone().into(),
            route: Some(RouteMessage {
                actors: note.actors.to_vec(),
                current: index,
            }),
        }),
    }
}

/// The final word, under the number that it has on its stream.
pub(super) fn finished(
    report: &FinalReport,
    detail: Detail,
    sequence: u64,
    now: DateTime<Utc>,
) -> EnvelopeReport {
    // An end actor got the message as it was; where it cannot be read, the id is all that is known.
    let envelope = Envelope::parse(&report.message)
        .map(|parsed| parsed.envelope)
        .unwrap_or_default();
    let route = &envelope.route;
    let told = |value: &Option<RawJson>| {
        let value = value
            .as_ref()
            .filter(|raw| detail == Detail::Full && !raw.is_null());
        value.map(|raw| raw.as_str().to_owned())
    };
    let has_failed = report.status == FinalStatus::Failed;
    let result = if has_failed {
        let is_known = !route.actors.is_empty();
        FinalResult::Failed(FailedResult {
            failure: Some(Failure {
                error: report.error.clone().unwrap_or_default(),
                actor: actor(&route.actors, route.current),
                actor_index: is_known.then(|| index(route.current)),
                details_json: told(&report.error_details),
                ..Failure::default()
            }),
            ..FailedResult::default()
        })
    } else {
        FinalResult::Succeeded(SucceededResult {
            result_json: told(&report.result),
            stored_at: String::new(),
        })
    };
    let current = if has_failed {
        index(route.current)
    } else {
        u32::try_from(route.actors.len()).unwrap_or(u32::MAX)
    };
    EnvelopeReport {
        sequence,
        envelope_id: report.id.clone(),
        attempt: route.attempt(),
        step: u32::try_from(route.step()).unwrap_or(u32::MAX),
        occurred_at: Some(timestamp(now)),
        event: Some(Event::Final(FinalMessage {
            result: Some(result),
            route: Some(RouteMessage {
                actors: route.actors.clone(),
                current,
            }),
        })),
    }
}

/// What a failure is called: the text up to the first colon, if that is one word.
fn code(error: &str) -> &str {
    match error.split_once(':') {
        Some((code, _)) if !code.contains(char::is_whitespace) => code,
        _ => error,
    }
}

fn actor(actors: &[String], index: i64) -> String {
    let at = usize::try_from(index).ok();
    at.and_then(|at| actors.get(at)).cloned().unwrap_or_default()
}

/// Indexes that no route has are told as the nearest one that can be.
fn index(index: i64) -> u32 {
    u32::try_from(index.max(0)).unwrap_or(u32::MAX)
}

fn later(at: DateTime<Utc>, after: Duration) -> DateTime<Utc> {
    chrono::TimeDelta::from_std(after)
        .ok()
        .and_then(|after| at.checked_add_signed(after))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.timestamp(),
        // Below two thousand million, leap seconds included; a leap second is told as the end of the second before.
        nanos: i32::try_from(at.timestamp_subsec_nanos().min(999_999_999)).unwrap_or_default(),
    }
}

/// Reads a time; `None` where it is none.
pub(super) fn time(timestamp: &prost_types::Timestamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(timestamp.seconds, u32::try_from(timestamp.nanos).ok()?)
}

#[cfg(test)]
mod tests {
    use asya_runtime_protocol::Route;
    use bytes::Bytes;

    use super::*;

    fn raw(text: &'static str) -> RawJson {
        RawJson::parse(Bytes::from_static(text.as_bytes())).unwrap()
    }

    fn about(fact: Fact) -> Note {
        let mut envelope = Envelope {
            id: "x".into(),
            route: Route::new(["a", "b"]).with_step(7),
            ..Envelope::default()
        };
        envelope.route.current = 1;
        Note {
            at: DateTime::UNIX_EPOCH,
            ..Note::about(&envelope, &envelope.route.actors, fact)
        }
    }

    #[test]
    fn progress_says_the_same_as_over_http_and_more_exactly() {
        let told = note(&about(Fact::Received { bytes: 1260 }), 3);
        assert_eq!((told.sequence, told.envelope_id.as_str()), (3, "x"));
        assert_eq!((told.attempt, told.step), (1, 7));
        let Some(Event::Progress(progress)) = told.event else {
            panic!("progress");
        };
        assert_eq!(progress.phase(), HopPhase::Received);
        assert_eq!(
            (progress.actors, progress.actor_index),
            (vec!["a".into(), "b".into()], 1)
        );
        assert_eq!(progress.message, "Received message (1.23 KB)");
        assert_eq!(progress.message_bytes, Some(1260));
        let noted = Fact::Noted {
            fraction: Some(0.5),
            message: Some("half".into()),
        };
        let Some(Event::Progress(progress)) = note(&about(noted), 4).event else {
            panic!("progress");
        };
        assert_eq!(
            (progress.fraction, progress.message.as_str()),
            (Some(0.5), "half")
        );
    }

    #[test]
    fn a_retry_says_what_failed_and_when_it_runs_again() {
        let retrying = Fact::Retrying {
            attempt: 3,
            after: Duration::from_millis(1500),
            error: "processing_error: no luck".into(),
        };
        let Some(Event::Retry(retry)) = note(&about(retrying), 1).event else {
            panic!("a retry");
        };
        let failure = retry.failure.unwrap();
        assert_eq!((retry.runs, retry.actor_index), (2, 1));
        assert_eq!(
            (failure.error.as_str(), failure.actor.as_str()),
            ("processing_error", "b")
        );
        assert_eq!(failure.message, "processing_error: no luck");
        let at = retry.next_run_at.unwrap();
        assert_eq!((at.seconds, at.nanos), (1, 500_000_000));
        assert_eq!(code("Deadline exceeded: yes"), "Deadline exceeded: yes");
    }

    #[test]
    fn values_keep_their_bytes() {
        let text = r#"{"n": 12345678901234567890,"f":1.50,"s":"\u0000\ud800"}"#;
        let Some(Event::Partial(partial)) = note(
            &about(Fact::Partial {
                seq: 2,
                value: raw(text),
            }),
            1,
        )
        .event
        else {
            panic!("an item");
        };
        assert_eq!((partial.index, partial.value_json.as_str()), (2, text));
        let report = FinalReport {
            actor: "happy-end".into(),
            id: "x".into(),
            status: FinalStatus::Succeeded,
            result: Some(raw(text)),
            error: None,
            error_details: None,
            message: Bytes::from_static(
                br#"{"id":"x","route":{"actors":["a","b"],"current":2},"payload":1}"#,
            ),
        };
        let said = |detail| finished(&report, detail, 1, DateTime::UNIX_EPOCH);
        let Some(Event::Final(last)) = said(Detail::Full).event else {
            panic!("a final");
        };
        assert_eq!(last.route.unwrap().current, 2);
        let Some(FinalResult::Succeeded(good)) = last.result else {
            panic!("good");
        };
        assert_eq!(good.result_json.as_deref(), Some(text));
        let Some(Event::Final(FinalMessage {
            result: Some(FinalResult::Succeeded(short)),
            ..
        })) = said(Detail::StatusOnly).event
        else {
            panic!("good");
        };
        assert_eq!(short.result_json, None);
    }

    #[test]
    fn a_failure_names_its_place_and_carries_its_details_byte_for_byte() {
        let report = FinalReport {
            actor: "error-end".into(),
            id: "x".into(),
            status: FinalStatus::Failed,
            result: None,
            error: Some("processing_error".into()),
            error_details: Some(raw(r#"{"message":"no","n":1e400}"#)),
            message: Bytes::from_static(
                br#"{"id":"x","route":{"actors":["a","b"],"current":1,"metadata":{"asya_attempt":2}}}"#,
            ),
        };
        let told = finished(&report, Detail::Full, 9, DateTime::UNIX_EPOCH);
        assert_eq!(told.attempt, 2);
        let Some(Event::Final(FinalMessage {
            result: Some(FinalResult::Failed(bad)),
            ..
        })) = told.event
        else {
            panic!("bad");
        };
        let failure = bad.failure.unwrap();
        assert_eq!((failure.actor.as_str(), failure.actor_index), ("b", Some(1)));
        assert_eq!(
            failure.details_json.as_deref(),
            Some(r#"{"message":"no","n":1e400}"#)
        );
    }
}
