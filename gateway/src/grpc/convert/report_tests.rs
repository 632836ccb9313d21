use asya_gateway_store::Phase;
use asya_proto::status::v1::{ChildCreated, Failure};
use proptest::prelude::*;

use super::*;
use crate::grpc::convert::timestamp;

fn event(id: &str, event: envelope_report::Event) -> EnvelopeReport {
    EnvelopeReport {
        sequence: 1,
        envelope_id: id.to_owned(),
        attempt: 1,
        step: 0,
        occurred_at: None,
        event: Some(event),
    }
}

fn succeeded(result: &str) -> envelope_report::Event {
    envelope_report::Event::Final(FinalReport {
        result: Some(final_report::Result::Succeeded(SucceededResult {
            result_json: Some(result.to_owned()),
            stored_at: String::new(),
        })),
        route: None,
    })
}

fn refusal(report: EnvelopeReport) -> Refused {
    read_report(report, Utc::now()).unwrap_err()
}

fn read(told: envelope_report::Event) -> ReportEvent {
    match read_report(event("x", told), Utc::now()).unwrap() {
        Told::Event(report) => report.event,
        Told::Child(_) => panic!("a child"),
    }
}

#[test]
fn what_is_malformed_is_refused_with_the_field_and_without_the_content() {
    let progress = envelope_report::Event::Progress(HopProgress::default());
    let no_event = EnvelopeReport {
        event: None,
        ..event("x", progress.clone())
    };
    let partial = envelope_report::Event::Partial(PartialResult {
        value_json: "{\"secret\":".to_owned(),
        ..PartialResult::default()
    });
    let cases = [
        (event("", progress.clone()), "envelope_id"),
        (no_event, "event"),
        (event("x", partial), "partial.value_json"),
        (event("x", succeeded("secret")), "final.succeeded.result_json"),
        (event("x", succeeded("")), "final.succeeded.result_json"),
        (event("x", succeeded("1 2")), "final.succeeded.result_json"),
        (
            event("x", envelope_report::Event::Final(FinalReport::default())),
            "final.result",
        ),
        (
            event(
                "x",
                envelope_report::Event::Child(ChildCreated {
                    parent_id: "x".to_owned(),
                    route: None,
                }),
            ),
            "child.parent_id",
        ),
    ];
    for (report, field) in cases {
        let refused = refusal(report);
        assert_eq!(refused.reason, ReportRefusalReason::Invalid, "{field}");
        assert!(refused.message.starts_with(field), "{}", refused.message);
        assert!(!refused.message.contains("secret"), "{}", refused.message);
    }
}

#[test]
fn a_route_is_as_long_as_over_http_and_no_longer() {
    let report = |count: usize| EnvelopeReport {
        envelope_id: "e".to_owned(),
        event: Some(envelope_report::Event::Progress(HopProgress {
            actors: vec!["a".to_owned(); count],
            ..HopProgress::default()
        })),
        ..EnvelopeReport::default()
    };
    assert!(read_report(report(10_000), Utc::now()).is_ok());
    let refused = read_report(report(10_001), Utc::now()).unwrap_err();
    assert_eq!(refused.reason, ReportRefusalReason::Invalid);
    assert!(refused.message.contains("10001"), "{refused:?}");
}

#[test]
fn an_id_that_nothing_can_have_is_unknown() {
    let progress = envelope_report::Event::Progress(HopProgress::default());
    for id in ["a\0b".to_owned(), "x".repeat(1025)] {
        assert_eq!(refusal(event(&id, progress.clone())), Refused::unknown());
    }
    assert!(read_report(event(&"x".repeat(1024), progress), Utc::now()).is_ok());
}

#[test]
fn a_fraction_is_told_in_words() {
    for (fraction, message, expected) in [
        (Some(0.5), "half", Some("50 %: half")),
        (Some(7.0), "", Some("100 %")),
        (Some(f64::NAN), "x", Some("x")),
        (None, "", None),
        (None, "a\0b", Some("a\u{fffd}b")),
    ] {
        let told = HopProgress {
            phase: HopPhase::Processing.into(),
            message: message.to_owned(),
            fraction,
            ..HopProgress::default()
        };
        let ReportEvent::Progress(progress) = read(envelope_report::Event::Progress(told)) else {
            panic!("no progress")
        };
        assert_eq!(progress.message.as_deref(), expected);
        assert!(progress.exact);
    }
}

#[test]
fn a_failed_final_keeps_its_details_and_says_where() {
    let details = r#"{"message":"no", "n":12345678901234567890}"#;
    let told = envelope_report::Event::Final(FinalReport {
        result: Some(final_report::Result::Failed(FailedResult {
            failure: Some(Failure {
                error: "processing_error".to_owned(),
                details_json: Some(details.to_owned()),
                ..Failure::default()
            }),
            original_payload_json: None,
            stored_at: "file:///x".to_owned(),
        })),
        route: Some(Route {
            actors: vec!["a".to_owned(), "b".to_owned()],
            current: 1,
        }),
    });
    let ReportEvent::Final(Final::Failed(failure)) = read(told) else {
        panic!("no failure")
    };
    assert_eq!(failure.details.unwrap().as_str(), details);
    assert_eq!(
        (failure.actor.as_deref(), failure.actor_index),
        (Some("b"), Some(1))
    );
    assert_eq!(failure.error.as_deref(), Some("processing_error"));
    assert_eq!(failure.stored_at.as_deref(), Some("file:///x"));
}

#[test]
fn a_success_of_null_keeps_what_is_stored() {
    let ReportEvent::Final(Final::Succeeded(good)) = read(succeeded(" null ")) else {
        panic!("no success")
    };
    assert_eq!(good.result, None);
}

// ---- every report survives the way into the store's words and back ----

/// The report that says what the store was told: the way back, for the property below.
fn told_again(sequence: u64, step: u32, told: Told) -> EnvelopeReport {
    let (id, attempt, at, event) = match told {
        Told::Child(child) => (
            child.id,
            1,
            child.created_at,
            envelope_report::Event::Child(ChildCreated {
                parent_id: child.parent_id.unwrap_or_default(),
                route: Some(Route {
                    actors: child.actors,
                    current: u32::try_from(child.route_current).unwrap(),
                }),
            }),
        ),
        Told::Event(report) => (
            report.envelope_id,
            report.attempt,
            report.at,
            event_again(report.event),
        ),
    };
    EnvelopeReport {
        sequence,
        envelope_id: id,
        attempt,
        step,
        occurred_at: Some(timestamp(at)),
        event: Some(event),
    }
}

fn event_again(event: ReportEvent) -> envelope_report::Event {
    match event {
        ReportEvent::Progress(progress) => envelope_report::Event::Progress(HopProgress {
            phase: match progress.phase {
                None => HopPhase::Unspecified,
                Some(Phase::Received) => HopPhase::Received,
                Some(Phase::Processing) => HopPhase::Processing,
                Some(Phase::Completed) => HopPhase::Completed,
            }
            .into(),
            actors: progress.actors,
            actor_index: u32::try_from(progress.actor_index).unwrap(),
            message: progress.message.unwrap_or_default(),
            ..HopProgress::default()
        }),
        ReportEvent::Retry(retry) => envelope_report::Event::Retry(HopRetry {
            actor_index: u32::try_from(retry.actor_index).unwrap(),
            runs: retry.runs,
            failure: Some(failure::read_retried(Some(&retry.error), retry.failure.as_ref())),
            next_run_at: retry.next_run_at.map(timestamp),
        }),
        ReportEvent::Partial(partial) => envelope_report::Event::Partial(PartialResult {
            actor_index: u32::try_from(partial.actor_index).unwrap(),
            index: partial.index,
            value_json: partial.value.as_str().to_owned(),
        }),
        ReportEvent::Final(Final::Succeeded(good)) => envelope_report::Event::Final(FinalReport {
            route: Some(Route {
                current: u32::try_from(good.actors.len()).unwrap(),
                actors: good.actors,
            }),
            result: Some(final_report::Result::Succeeded(SucceededResult {
                result_json: good.result.map(|raw| raw.as_str().to_owned()),
                stored_at: good.stored_at.unwrap_or_default(),
            })),
        }),
        ReportEvent::Final(Final::Failed(bad)) => envelope_report::Event::Final(FinalReport {
            route: Some(Route {
                actors: bad.actors,
                current: bad.actor_index.map_or(0, |index| u32::try_from(index).unwrap()),
            }),
            result: Some(final_report::Result::Failed(FailedResult {
                failure: Some(Failure {
                    error: bad.error.unwrap_or_default(),
                    actor: bad.actor.unwrap_or_default(),
                    actor_index: bad.actor_index.map(|index| u32::try_from(index).unwrap()),
                    details_json: bad.details.map(|raw| raw.as_str().to_owned()),
                    ..Failure::default()
                }),
                original_payload_json: None,
                stored_at: bad.stored_at.unwrap_or_default(),
            })),
        }),
        other => panic!("no sidecar says {other:?}"),
    }
}

fn word() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zà-ÿ \"\\\\]{1,12}").unwrap()
}

fn json_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(r#"{"n":123456789012345678901234567890,"f":1.50,"z":1e400}"#.to_owned()),
        Just(r#"["\ud800","\u0000", -0 ]"#.to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        word().prop_map(|text| RawJson::from_text(&text).as_str().to_owned()),
    ]
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(word(), 1..4)
}

fn failure_told() -> impl Strategy<Value = Failure> {
    (word(), word(), proptest::option::of(json_text()), 0..4_u32).prop_map(
        |(error, actor, details_json, index)| Failure {
            error,
            actor,
            actor_index: Some(index),
            details_json,
            ..Failure::default()
        },
    )
}

fn any_event() -> impl Strategy<Value = envelope_report::Event> {
    let progress =
        (0..4_i32, names(), any::<u32>(), word()).prop_map(|(phase, actors, actor_index, message)| {
            envelope_report::Event::Progress(HopProgress {
                phase,
                actors,
                actor_index,
                message,
                ..HopProgress::default()
            })
        });
    let retry = (any::<u32>(), any::<u32>(), failure_told(), 0..4_000_000_000_i64).prop_map(
        |(actor_index, runs, failure, seconds)| {
            envelope_report::Event::Retry(HopRetry {
                actor_index,
                runs,
                failure: Some(failure),
                next_run_at: Some(prost_types::Timestamp { seconds, nanos: 1 }),
            })
        },
    );
    let partial = (any::<u32>(), any::<u32>(), json_text()).prop_map(|(actor_index, index, value_json)| {
        envelope_report::Event::Partial(PartialResult {
            actor_index,
            index,
            value_json,
        })
    });
    let child = (word(), names(), any::<u32>()).prop_map(|(parent, actors, current)| {
        envelope_report::Event::Child(ChildCreated {
            parent_id: format!("p{parent}"),
            route: Some(Route { actors, current }),
        })
    });
    let good =
        (proptest::option::of(json_text()), word(), names()).prop_map(|(result_json, stored_at, actors)| {
            envelope_report::Event::Final(FinalReport {
                route: Some(Route {
                    current: u32::try_from(actors.len()).unwrap(),
                    actors,
                }),
                result: Some(final_report::Result::Succeeded(SucceededResult {
                    result_json,
                    stored_at,
                })),
            })
        });
    let bad = (failure_told(), word(), names()).prop_map(|(failure, stored_at, actors)| {
        envelope_report::Event::Final(FinalReport {
            route: Some(Route {
                current: failure.actor_index.unwrap(),
                actors,
            }),
            result: Some(final_report::Result::Failed(FailedResult {
                failure: Some(failure),
                original_payload_json: None,
                stored_at,
            })),
        })
    });
    prop_oneof![progress, retry, partial, child, good, bad]
}

proptest! {
    #[test]
    fn every_report_survives_the_way_into_the_words_of_the_store(
        id in "[a-z0-9-]{1,20}",
        attempt in 1..5_u32,
        seconds in 0..4_000_000_000_i64,
        told in any_event(),
    ) {
        let is_child = matches!(told, envelope_report::Event::Child(_));
        let report = EnvelopeReport {
            sequence: 9,
            envelope_id: format!("id-{id}"),
            // A child begins with its first attempt.
            attempt: if is_child { 1 } else { attempt },
            step: 3,
            occurred_at: Some(prost_types::Timestamp { seconds, nanos: 5 }),
            event: Some(told),
        };
        let read = read_report(report.clone(), Utc::now()).unwrap();
        prop_assert_eq!(without_words(told_again(9, 3, read)), without_words(report));
    }

    #[test]
    fn no_report_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(report) = <EnvelopeReport as prost::Message>::decode(bytes.as_slice()) {
            let _ = read_report(report, Utc::now());
        }
    }
}

/// Fields that are read from `details_json`, and so appear on the way back, do not count.
fn without_words(mut report: EnvelopeReport) -> EnvelopeReport {
    let failure = match &mut report.event {
        Some(envelope_report::Event::Retry(retry)) => retry.failure.as_mut(),
        Some(envelope_report::Event::Final(FinalReport {
            result: Some(final_report::Result::Failed(bad)),
            ..
        })) => bad.failure.as_mut(),
        _ => None,
    };
    if let Some(failure) = failure {
        failure.message.clear();
        failure.details_json = failure.details_json.take().map(|text| text.trim().to_owned());
    }
    report
}
