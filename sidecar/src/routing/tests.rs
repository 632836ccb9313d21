//! Routing as a function: whatever a runtime answers, every plan says where the message went, under stable ids.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use asya_runtime_protocol::Envelope;
use asya_transport::Settlement;
use bytes::Bytes;
use chrono::DateTime;
use proptest::prelude::{Just, Strategy as _, any, prop};
use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::*;
use crate::admission::{Admission, admit};
use crate::config::Role;
use crate::ledger::Streamed;
use crate::report::FinalStatus;

const FIRST: DeliveryFacts = DeliveryFacts {
    message_id: None,
    deliveries: 1,
    crashes: 0,
};

const TIME: CallTime = CallTime {
    started: DateTime::from_timestamp(2_000_000_000, 0).unwrap(),
    ended: DateTime::from_timestamp(2_000_000_001, 0).unwrap(),
};

/// As the function under test, at a time that does not matter.
fn ended(outcome: &CallOutcome) -> CallEnd {
    CallEnd {
        outcome: outcome.clone(),
        streamed: Streamed::default(),
        took: Duration::ZERO,
    }
}

fn route(config: &Config, work: &Work, outcome: &CallOutcome, delivery: &DeliveryFacts) -> Plan {
    super::route(config, work, &ended(outcome), delivery, TIME)
}

fn work(config: &Config, body: &str) -> Arc<Work> {
    match admit(
        config,
        &Bytes::copy_from_slice(body.as_bytes()),
        &FIRST,
        chrono::Utc::now(),
    ) {
        Admission::Run(work) => work,
        Admission::Refuse(plan) => panic!("refused: {:?}", plan.verdict),
    }
}

fn reply(text: &str) -> CallOutcome {
    CallOutcome::Reply(Bytes::copy_from_slice(text.as_bytes()))
}

fn envelopes(plan: &Plan) -> Vec<Envelope> {
    plan.messages
        .iter()
        .filter_map(|message| match &message.content {
            Content::Envelope(envelope) => Some((**envelope).clone()),
            Content::Raw(_) => None,
        })
        .collect()
}

const INPUT: &str = r#"{"id":"x","route":{"actors":["work","next"],"current":0},"payload":1}"#;

#[test]
fn a_second_split_of_one_id_gives_ids_of_its_own() {
    let config = Config::new("work", Role::Step);
    let two = r#"[{"payload":1,"route":{"actors":["work","work"],"current":1}},{"payload":2,"route":{"actors":["work","work"],"current":1}}]"#;
    let first = route(&config, &work(&config, INPUT), &reply(two), &FIRST);
    let kept = first.messages[0].content.to_bytes();
    let kept = std::str::from_utf8(&kept).expect("UTF-8");
    let second = route(&config, &work(&config, kept), &reply(two), &FIRST);
    let child = first.messages[1].content.to_bytes();
    let child = std::str::from_utf8(&child).expect("UTF-8");
    let third = route(&config, &work(&config, child), &reply(two), &FIRST);
    let ids: Vec<_> = [&first, &second, &third]
        .into_iter()
        .flat_map(envelopes)
        .map(|envelope| envelope.id)
        .collect();
    assert_eq!(ids, ["x", "x-1", "x", "x-1.1", "x-1", "x-1-1"]);
}

#[test]
fn a_handler_that_drops_the_metadata_does_not_lose_the_hop_count() {
    let config = Config::new("work", Role::Step);
    let input = r#"{"id":"x","route":{"actors":["work","next"],"current":0,"metadata":{"asya_step":6,"asya_split":true}},"payload":1}"#;
    let answer = reply(r#"[{"payload":1,"route":{"actors":["work","next"],"current":1}}]"#);
    let plan = route(&config, &work(&config, input), &answer, &FIRST);
    let envelope = &envelopes(&plan)[0];
    assert_eq!((envelope.route.step(), envelope.route.is_split()), (7, true));
    assert_eq!(plan.messages[0].message_id, "x/7/1/0");
}

#[test]
fn a_failure_inside_a_fan_out_takes_the_id_of_its_item_and_the_others_go_on() {
    let config = Config::new("work", Role::Step);
    let item = r#"{"payload":1,"route":{"actors":["work","next"],"current":1}}"#;
    let answer = reply(&format!(r#"[{item},{{"error":"processing_error"}},{item}]"#));
    let plan = route(&config, &work(&config, INPUT), &answer, &FIRST);
    let seen: Vec<_> = envelopes(&plan)
        .into_iter()
        .map(|envelope| (envelope.id, envelope.parent_id))
        .collect();
    assert_eq!(
        seen,
        [
            ("x".into(), None),
            ("x-1".into(), Some("x".into())),
            ("x-2".into(), Some("x".into()))
        ]
    );
    let kinds: Vec<_> = plan.messages.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [Kind::Routing, Kind::ErrorEnd, Kind::Routing]);
    assert!(matches!(plan.verdict, Verdict::Failed { .. }));
    assert_eq!(plan.messages[1].message_id, "x/1/1/1");
}

#[test]
fn a_deadline_is_written_once_whatever_the_handler_returns() {
    let config = Config::new("work", Role::Step);
    let input =
        r#"{"id":"x","route":{"actors":["work","next"]},"payload":1,"deadline":"2999-01-01T00:00:00Z"}"#;
    let answer = r#"[{"payload":1,"route":{"actors":["work","next"],"current":1},"deadline":"1999-01-01T00:00:00Z","own":2}]"#;
    let plan = route(&config, &work(&config, input), &reply(answer), &FIRST);
    let message = plan.messages[0].content.to_bytes();
    let text = std::str::from_utf8(&message).expect("UTF-8");
    assert_eq!(text.matches("deadline").count(), 1, "{text}");
    assert!(
        text.contains("2999-01-01") && text.contains(r#""own":2"#),
        "{text}"
    );
}

#[test]
fn an_item_without_a_route_ends_it_and_the_older_form_goes_on() {
    let config = Config::new("work", Role::Step);
    for (answer, kind) in [
        (r#"[{"payload":7}]"#, Kind::HappyEnd),
        (r#"{"status":"ok","result":7}"#, Kind::Routing),
    ] {
        let plan = route(&config, &work(&config, INPUT), &reply(answer), &FIRST);
        assert_eq!(plan.messages[0].kind, kind, "{answer}");
    }
}

#[test]
fn an_end_actor_that_fails_is_tried_again_with_growing_pauses_and_then_dead_lettered() {
    let config = Config::new("error-end", Role::ErrorEnd);
    let failed = reply(r#"[{"error":"processing_error","details":{"message":"disk full"}}]"#);
    let mut pauses = Vec::new();
    for deliveries in 1..=config.max_deliveries {
        let facts = DeliveryFacts { deliveries, ..FIRST };
        let plan = route(&config, &work(&config, INPUT), &failed, &facts);
        assert!(plan.messages.is_empty(), "an end actor publishes nothing");
        let Settlement::Retry { after } = plan.settlement else {
            panic!("{:?}", plan.settlement)
        };
        pauses.push(after);
    }
    assert!(pauses.is_sorted() && pauses[0] > Duration::ZERO, "{pauses:?}");
    let facts = DeliveryFacts {
        deliveries: config.max_deliveries + 1,
        ..FIRST
    };
    let plan = route(&config, &work(&config, INPUT), &failed, &facts);
    assert_eq!(plan.messages[0].kind, Kind::DeadLetter);
    assert_eq!(plan.messages[0].queue.as_str(), "asya-error-end-dlq");
    assert_eq!(plan.messages[0].content.to_bytes(), INPUT);
    assert_eq!(plan.report.expect("a report").status, FinalStatus::Failed);
}

#[test]
fn end_actors_report_by_their_name_and_take_the_handlers_payload_if_it_gave_one() {
    let happy = Config::new("happy-end", Role::HappyEnd);
    for (answer, result) in [
        ("[{}]", "1"),
        ("[]", "1"),
        (r#"[{"payload":null}]"#, "null"),
        (r#"[{"payload":1e400}]"#, "1e400"),
    ] {
        let report = route(&happy, &work(&happy, INPUT), &reply(answer), &FIRST)
            .report
            .expect("a report");
        assert_eq!(
            (report.status, report.result.expect("a result").as_str()),
            (FinalStatus::Succeeded, result)
        );
    }
    let error = Config::new("error-end", Role::ErrorEnd);
    let input = r#"{"id":"x","route":{"actors":["a"]},"payload":{"error":"processing_error","details":{"message":"no"}}}"#;
    let report = route(&error, &work(&error, input), &reply("[{}]"), &FIRST)
        .report
        .expect("a report");
    assert_eq!(
        (report.status, report.error.as_deref()),
        (FinalStatus::Failed, Some("processing_error"))
    );
    assert_eq!(
        report.error_details.expect("details").as_str(),
        r#"{"message":"no"}"#
    );
}

#[test]
fn what_is_no_answer_is_an_error_with_the_fixed_prefix() {
    let config = Config::new("work", Role::Step);
    for (outcome, error) in [
        (reply("nonsense"), "failed to parse runtime response: "),
        (reply("[1]"), "failed to parse runtime response: "),
        (CallOutcome::Timeout, "Runtime timeout exceeded after 5m0s"),
        (
            CallOutcome::Broken("failed to read response from runtime: EOF".into()),
            "failed to read response",
        ),
    ] {
        let plan = route(&config, &work(&config, INPUT), &outcome, &FIRST);
        let payload = envelopes(&plan).remove(0).payload.expect("a payload");
        assert!(
            payload.as_str().starts_with(&format!(r#"{{"error":"{error}"#)),
            "{}",
            payload.as_str()
        );
        assert!(payload.as_str().contains(r#""original_payload":1"#));
    }
}

proptest! {
    #[test]
    fn every_answer_of_a_step_leads_somewhere_under_distinct_stable_ids(
        items in prop::collection::vec(
            prop_oneof![
                (any::<i64>(), -1_i64..4).prop_map(|(payload, current)| format!(
                    r#"{{"payload":{payload},"route":{{"actors":["work","next","last"],"current":{current}}}}}"#
                )),
                Just(String::from(r#"{"error":"processing_error","details":{}}"#)),
                Just(String::from("{}")),
            ],
            0..12,
        ),
        step in 0_u64..50,
    ) {
        let config = Config::new("work", Role::Step);
        let input = format!(
            r#"{{"id":"x","route":{{"actors":["work"],"current":0,"metadata":{{"asya_step":{step}}}}},"payload":1}}"#
        );
        let work = work(&config, &input);
        let answer = reply(&format!("[{}]", items.join(",")));
        let plan = route(&config, &work, &answer, &FIRST);
        let again = route(&config, &work, &answer, &FIRST);

        let expected = items.len().max(1);
        prop_assert_eq!(plan.messages.len(), expected);
        prop_assert_eq!(plan.settlement, Settlement::Ack);
        let ids: BTreeSet<_> = envelopes(&plan).into_iter().map(|envelope| envelope.id).collect();
        prop_assert_eq!(ids.len(), expected);
        let message_ids: BTreeSet<_> = plan.messages.iter().map(|message| message.message_id.clone()).collect();
        prop_assert_eq!(message_ids.len(), expected);
        for (one, other) in plan.messages.iter().zip(&again.messages) {
            prop_assert_eq!(&one.message_id, &other.message_id);
            prop_assert_eq!(one.content.to_bytes(), other.content.to_bytes());
        }
        for envelope in envelopes(&plan) {
            prop_assert!(envelope.route.step() == step + 1);
        }
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_leads_to_the_messages_of_the_answer_as_a_whole(
        items in prop::collection::vec(
            prop_oneof![
                4 => any::<i64>().prop_map(|payload| format!(
                    r#"{{"payload":{payload},"route":{{"actors":["work","next"],"current":1}}}}"#
                )),
                1 => Just(String::from(r#"{"error":"processing_error","details":{}}"#)),
            ],
            1..8,
        ),
        cut in 0_usize..8,
    ) {
        let config = Config::new("work", Role::Step);
        let work = work(&config, INPUT);
        let whole = route(&config, &work, &reply(&format!("[{}]", items.join(","))), &FIRST);

        let (before, after) = items.split_at(cut.min(items.len()));
        let parsed = Reply::parse(format!("[{}]", before.join(",")).into()).expect("items");
        let mut call = ended(&reply(&format!("[{}]", after.join(","))));
        let mut messages = Vec::new();
        if let [first] = parsed.as_slice() {
            call.streamed.held = Some(Box::new(first.clone()));
        } else if !parsed.is_empty() {
            call.streamed.sent = parsed.len();
            let plan = route_stream(&config, &work, parsed, 0);
            if let Verdict::Failed { error, .. } = plan.verdict {
                call.streamed.failure = Some(error);
            }
            messages.extend(plan.messages);
        }
        let rest = super::route(&config, &work, &call, &FIRST, TIME);
        messages.extend(rest.messages);
        prop_assert_eq!(&whole.verdict, &rest.verdict);
        prop_assert_eq!(whole.messages.len(), messages.len());
        for (one, other) in whole.messages.iter().zip(&messages) {
            prop_assert_eq!(&one.message_id, &other.message_id);
            prop_assert_eq!(&one.child_of, &other.child_of);
            prop_assert_eq!(one.content.to_bytes(), other.content.to_bytes());
        }
    }
}

/// Rulings 7: what came before is sent, the call failed at the next item; a run that has produced something is final.
#[test]
fn a_call_that_breaks_in_a_stream_fails_at_the_next_item() {
    let mut config = Config::new("work", Role::Step);
    config.retry.max_attempts = std::num::NonZeroU32::new(3).expect("not zero");
    let work = work(&config, INPUT);
    let mut call = ended(&CallOutcome::Timeout);
    call.streamed.sent = 2;
    let plan = super::route(&config, &work, &call, &FIRST, TIME);
    let [error] = &plan.messages[..] else {
        panic!("{plan:?}");
    };
    assert_eq!(error.kind, Kind::ErrorEnd);
    assert_eq!(error.message_id, output_id(&work.envelope, 2));
    assert_eq!(error.child_of.as_deref(), Some(&*work.envelope.id));
    assert!(matches!(plan.verdict, Verdict::Failed { .. }));
}

/// An item that was held back is not published yet, so the run may be repeated; where it is not, the item is sent.
#[test]
fn a_call_that_breaks_after_one_item_is_repeated_if_that_is_wanted() {
    let mut config = Config::new("work", Role::Step);
    let work = work(&config, INPUT);
    let mut call = ended(&CallOutcome::Timeout);
    let item = r#"[{"payload":7,"route":{"actors":["work","next"],"current":1}}]"#;
    call.streamed.held = Reply::parse(item.into()).expect("an item").pop().map(Box::new);
    let plan = super::route(&config, &work, &call, &FIRST, TIME);
    let kinds: Vec<_> = plan.messages.iter().map(|message| message.kind).collect();
    assert_eq!(kinds, [Kind::Routing, Kind::ErrorEnd]);
    assert!(envelopes(&plan)[0].route.is_split());
    assert_eq!(plan.messages[1].message_id, output_id(&work.envelope, 1));

    config.retry.max_attempts = std::num::NonZeroU32::new(3).expect("not zero");
    let plan = super::route(&config, &work, &call, &FIRST, TIME);
    assert_eq!(plan.messages.len(), 1);
    assert_eq!(plan.messages[0].kind, Kind::Retry);
}

#[test]
fn a_cancelled_call_publishes_nothing_more_and_is_not_repeated() {
    let mut config = Config::new("work", Role::Step);
    config.retry.max_attempts = std::num::NonZeroU32::new(3).expect("not zero");
    let work = work(&config, INPUT);
    let plan = route(&config, &work, &CallOutcome::Cancelled, &FIRST);
    assert_eq!(plan.messages.len(), 1);
    assert_eq!(plan.messages[0].kind, Kind::ErrorEnd);
    let payload = envelopes(&plan).remove(0).payload.expect("a payload");
    assert!(
        payload.as_str().starts_with(r#"{"error":"cancelled""#),
        "{}",
        payload.as_str()
    );
}

#[test]
fn a_call_that_nobody_wants_any_more_leads_nowhere_at_a_step_and_at_an_end() {
    for role in [Role::Step, Role::HappyEnd, Role::ErrorEnd] {
        let config = Config::new("work", role);
        let work = work(&config, INPUT);
        let plan = route(&config, &work, &CallOutcome::Revoked, &FIRST);
        assert!(plan.messages.is_empty() && plan.report.is_none(), "{role:?}");
        assert_eq!(plan.settlement, Settlement::Ack, "{role:?}");
    }
}

#[test]
fn a_death_is_an_error_with_its_signal() {
    let config = Config::new("work", Role::Step);
    let death = crate::death::Death::of(&crate::death::End {
        signal: Some(9),
        signal_name: Some("SIGKILL"),
        ..crate::death::End::default()
    });
    let work = work(&config, INPUT);
    let plan = route(&config, &work, &CallOutcome::Died(death), &FIRST);
    let payload = envelopes(&plan).remove(0).payload.expect("a payload");
    assert!(
        payload.as_str().starts_with(r#"{"error":"worker_died""#),
        "{}",
        payload.as_str()
    );
    assert!(payload.as_str().contains(r#""signal":9"#), "{}", payload.as_str());
}
