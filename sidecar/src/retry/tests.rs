//! Retries as plans: where a message goes whose run failed, under which id, and what it carries.

use std::num::NonZeroU32;
use std::sync::Arc;

use asya_runtime_protocol::Envelope;
use bytes::Bytes;

use super::*;
use crate::admission::{Admission, DeliveryFacts, admit};
use crate::config::Role;
use crate::ledger::{CallEnd, CallOutcome, Streamed};
use crate::routing::route;

const FIRST: DeliveryFacts = DeliveryFacts {
    message_id: None,
    deliveries: 1,
    crashes: 0,
};

const STARTED: DateTime<Utc> = DateTime::from_timestamp(2_000_000_000, 0).unwrap();

const TIME: CallTime = CallTime {
    started: STARTED,
    ended: DateTime::from_timestamp(2_000_000_001, 0).unwrap(),
};

const INPUT: &str = r#"{"id":"x","parent_id":"p","route":{"actors":["work","next"],"current":0,"metadata":{"asya_step":3}},"headers":{"t":1e400},"payload":{"n":1.50},"own":7}"#;

const FAILED: &str = r#"[{"error":"processing_error","details":{"message":"no luck\nat all","type":"Outage","mro":["app.Outage","OSError"]}}]"#;

fn config(max_attempts: u32) -> Config {
    let mut config = Config::new("work", Role::Step);
    config.retry.max_attempts = NonZeroU32::new(max_attempts).unwrap();
    config
}

fn admitted(config: &Config, body: &Bytes, delivery: &DeliveryFacts) -> Arc<Work> {
    match admit(config, body, delivery, STARTED) {
        Admission::Run(work) => work,
        Admission::Refuse(plan) => panic!("refused: {:?}", plan.verdict),
    }
}

fn reply(text: &str) -> CallOutcome {
    CallOutcome::Reply(Bytes::copy_from_slice(text.as_bytes()))
}

/// What a run of `body` leads to.
fn ended(outcome: CallOutcome) -> CallEnd {
    CallEnd {
        outcome,
        streamed: Streamed::default(),
        took: Duration::ZERO,
    }
}

fn run(config: &Config, body: &Bytes, outcome: &CallOutcome) -> Plan {
    route(
        config,
        &admitted(config, body, &FIRST),
        &ended(outcome.clone()),
        &FIRST,
        TIME,
    )
}

fn input() -> Bytes {
    Bytes::from_static(INPUT.as_bytes())
}

fn body(plan: &Plan) -> Bytes {
    assert_eq!(plan.messages.len(), 1);
    plan.messages[0].content.to_bytes()
}

fn text(plan: &Plan) -> String {
    String::from_utf8(body(plan).into()).unwrap()
}

fn kind(plan: &Plan) -> Kind {
    assert_eq!(plan.settlement, Settlement::Ack);
    plan.messages[0].kind
}

#[test]
fn a_failed_run_is_put_back_with_all_that_it_was_until_no_run_is_left() {
    let config = config(3);
    let mut message = input();
    for next in 2..=3_u32 {
        let plan = run(&config, &message, &reply(FAILED));
        assert_eq!(kind(&plan), Kind::Retry);
        let planned = &plan.messages[0];
        assert_eq!(planned.queue.as_str(), "asya-work");
        assert_eq!(planned.message_id, format!("x/3/{next}/0"));
        let longest = Duration::from_secs(1 << (next - 2));
        assert!(
            planned.delay <= longest && planned.delay >= longest / 2,
            "{planned:?}"
        );
        let expected = Verdict::Retried {
            attempt: next,
            after: planned.delay,
            error: "processing_error: no luck".into(),
        };
        assert_eq!(plan.verdict, expected);
        message = body(&plan);
        let work = admitted(&config, &message, &FIRST);
        assert_eq!(work.runs.attempt(), next);
        assert_eq!(
            work.envelope.to_bytes(),
            INPUT,
            "it says nothing else than before"
        );
    }
    let plan = run(&config, &message, &reply(FAILED));
    assert_eq!(kind(&plan), Kind::ErrorEnd);
    assert_eq!(plan.messages[0].message_id, "x/4/1/0");
    let text = text(&plan);
    for part in [
        r#""error":"processing_error","details":{"message":"no luck\nat all","#,
        r#""attempts":3,"history":[{"attempt":1,"at":"2033-05-18T03:33:20.000Z","#,
        r#""error":"processing_error","type":"app.Outage","message":"no luck","gave_up":"max_attempts"}]"#,
        r#""original_payload":{"n":1.50}"#,
        r#""headers":{"t":1e400}"#,
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert_eq!(text.matches(r#""after_ms":"#).count(), 2, "{text}");
    assert!(!text.contains("asya_retry"), "{text}");
}

#[test]
fn a_plan_that_is_made_again_is_the_same() {
    let config = config(3);
    let (one, other) = (
        run(&config, &input(), &reply(FAILED)),
        run(&config, &input(), &reply(FAILED)),
    );
    assert_eq!(body(&one), body(&other));
    assert_eq!(one.messages[0].message_id, other.messages[0].message_id);
    assert_eq!(one.messages[0].delay, other.messages[0].delay);
}

#[test]
fn messages_that_fail_together_come_back_apart() {
    let delays: std::collections::BTreeSet<_> = (0..100)
        .map(|n| Duration::from_secs(1).mul_f64(spread(&format!("{n}/0/2/0"))))
        .collect();
    assert_eq!(delays.len(), 100);
    let gap = |(one, next): (&Duration, &Duration)| next.abs_diff(*one);
    let widest = delays.iter().zip(delays.iter().skip(1)).map(gap).max().unwrap();
    assert!(widest < Duration::from_millis(200), "{widest:?}");
}

#[test]
fn a_run_that_succeeds_publishes_what_the_first_would_have_published() {
    let config = config(3);
    let second = body(&run(&config, &input(), &reply(FAILED)));
    // A runtime gives back the headers that it was sent.
    let answer = |message: &Bytes| {
        let sent = admitted(&config, message, &FIRST).request.clone();
        let headers = Envelope::parse(&sent).unwrap().envelope.headers.unwrap();
        reply(&format!(
            r#"[{{"payload":2,"route":{{"actors":["work","next"],"current":1}},"headers":{}}}]"#,
            headers.as_str()
        ))
    };
    let early = run(&config, &input(), &answer(&input()));
    let late = run(&config, &second, &answer(&second));
    assert_eq!(body(&early), body(&late));
    assert_eq!(early.messages[0].message_id, late.messages[0].message_id);
    // Nor does the input itself carry it on when the handler returns nothing.
    let nothing = run(&config, &second, &reply("[]"));
    assert!(!text(&nothing).contains("asya_retry"));
}

#[test]
fn headers_that_held_nothing_but_the_state_are_gone_with_it() {
    let config = config(3);
    let bare = Bytes::from_static(br#"{"id":"x","route":{"actors":["work"],"current":0},"payload":1}"#);
    let second = body(&run(&config, &bare, &reply(FAILED)));
    let headers = Envelope::parse(&second).unwrap().envelope.headers.unwrap();
    let answer = format!(
        r#"[{{"payload":2,"route":{{"actors":["work"],"current":1}},"headers":{}}}]"#,
        headers.as_str()
    );
    let plan = run(&config, &second, &reply(&answer));
    assert!(!text(&plan).contains("headers"), "{}", text(&plan));
}

#[test]
fn a_run_that_gave_anything_good_is_not_repeated() {
    let config = config(3);
    let error = FAILED.trim_matches(['[', ']']);
    let good = r#"{"payload":1,"route":{"actors":["work","next"],"current":1}}"#;
    for answer in [format!("[{error},{good}]"), format!("[{good},{error}]")] {
        let plan = run(&config, &input(), &reply(&answer));
        let kinds: Vec<_> = plan.messages.iter().map(|message| message.kind).collect();
        assert!(
            kinds.contains(&Kind::Routing) && kinds.contains(&Kind::ErrorEnd),
            "{kinds:?}"
        );
    }
    let plan = run(&config, &input(), &reply(&format!("[{error},{error}]")));
    assert_eq!(kind(&plan), Kind::Retry);
    let permanent = r#"{"error":"msg_parsing_error","details":{}}"#;
    let plan = run(&config, &input(), &reply(&format!("[{error},{permanent}]")));
    assert_eq!(
        plan.messages.len(),
        2,
        "one that may not be retried decides for all"
    );
    assert!(plan.messages.iter().all(|message| message.kind == Kind::ErrorEnd));
}

#[test]
fn calls_without_an_answer_are_retried_and_have_codes_of_their_own() {
    let cases = [
        (CallOutcome::Timeout, Some("timeout")),
        (CallOutcome::SlotStuck, Some("timeout")),
        (CallOutcome::Broken("EOF".into()), Some("worker_died")),
        (CallOutcome::Unread("closed".into()), Some("connection")),
        (CallOutcome::Unusable("too large".into()), None),
        (reply("nonsense"), None),
        (CallOutcome::SlotCrashed, None),
        (reply(r#"[{"error":"msg_parsing_error"}]"#), None),
        (reply(r#"[{"error":"oom_error"}]"#), Some("oom_error")),
    ];
    for (outcome, code) in cases {
        let plan = run(&config(3), &input(), &outcome);
        if let Some(code) = code {
            assert_eq!(kind(&plan), Kind::Retry, "{outcome:?}");
            assert!(text(&plan).contains(&format!(r#""error":"{code}""#)));
            let mut listed = config(3);
            listed.retry.never_on = code.parse().unwrap();
            assert_eq!(kind(&run(&listed, &input(), &outcome)), Kind::ErrorEnd);
        } else {
            assert_eq!(kind(&plan), Kind::ErrorEnd, "{outcome:?}");
            assert!(
                text(&plan).contains(r#""gave_up":"permanent""#),
                "{}",
                text(&plan)
            );
        }
    }
}

#[test]
fn rules_see_the_bases_of_the_exception_and_the_type_alone_of_an_older_runtime() {
    let old = r#"[{"error":"processing_error","details":{"message":"no","type":"Outage","traceback":""}}]"#;
    for (answer, never_on, expected) in [
        (FAILED, "OSError", Kind::ErrorEnd),
        (FAILED, "app.Outage", Kind::ErrorEnd),
        (old, "OSError", Kind::Retry),
        (old, "Outage", Kind::ErrorEnd),
    ] {
        let mut config = config(3);
        config.retry.never_on = never_on.parse().unwrap();
        let plan = run(&config, &input(), &reply(answer));
        assert_eq!(kind(&plan), expected, "{never_on}: {answer}");
    }
}

#[test]
fn a_suspect_that_kills_its_runtime_goes_to_error_end_and_one_that_only_fails_is_retried() {
    let config = config(3);
    let often = DeliveryFacts {
        deliveries: config.max_deliveries + 1,
        ..FIRST
    };
    let work = admitted(&config, &input(), &often);
    let plan = route(&config, &work, &ended(reply(FAILED)), &often, TIME);
    assert_eq!(kind(&plan), Kind::Retry, "the runtime has outlived it");
    let died = CallOutcome::Broken("failed to read response from runtime: end".into());
    let plan = route(&config, &work, &ended(died), &often, TIME);
    assert_eq!(kind(&plan), Kind::ErrorEnd);
    assert!(
        text(&plan).contains(r#""attempts":1,"#) && text(&plan).contains(r#""gave_up":"suspect""#),
        "{}",
        text(&plan)
    );
}

#[test]
fn a_deadline_ends_retries_before_or_while_waiting() {
    let config = config(3);
    let with = |deadline: &str| {
        let start = INPUT.trim_end_matches('}');
        Bytes::from(format!(r#"{start},"deadline":"{deadline}"}}"#))
    };
    let near = run(&config, &with("2033-05-18T03:33:21.2Z"), &reply(FAILED));
    assert_eq!(kind(&near), Kind::ErrorEnd);
    assert!(text(&near).contains(r#""gave_up":"deadline""#), "{}", text(&near));

    let waiting = body(&run(&config, &with("2033-05-18T03:33:29Z"), &reply(FAILED)));
    let late = DateTime::from_timestamp(2_000_000_100, 0).unwrap();
    let Admission::Refuse(plan) = admit(&config, &waiting, &FIRST, late) else {
        panic!("it ran after its deadline")
    };
    let text = text(&plan);
    for part in [
        r#""error":"Deadline exceeded""#,
        r#""attempts":1,"history":[{"attempt":1,"#,
        r#""headers":{"t":1e400}"#,
    ] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
    assert!(!text.contains("asya_retry"), "{text}");
}

#[test]
fn a_message_without_room_for_the_state_is_not_put_back() {
    let mut config = config(3);
    config.max_message_size = INPUT.len() + 50;
    let plan = run(&config, &input(), &reply(FAILED));
    assert_eq!(kind(&plan), Kind::ErrorEnd);
    assert!(
        text(&plan).contains(r#""gave_up":"too_large""#),
        "{}",
        text(&plan)
    );
}

#[test]
fn without_retries_nothing_is_said_about_runs_and_everybodys_headers_pass() {
    let config = config(1);
    let own = Bytes::from(INPUT.replace(r#""t":1e400"#, r#""asya_retry":{"mine":1.0}"#));
    let plan = run(&config, &own, &reply(FAILED));
    assert_eq!(kind(&plan), Kind::ErrorEnd);
    let text = text(&plan);
    assert!(
        text.contains(r#""headers":{"asya_retry":{"mine":1.0}}"#),
        "{text}"
    );
    assert!(!text.contains("attempts") && !text.contains("history"), "{text}");
}

#[test]
fn an_end_actor_puts_nothing_back() {
    let mut config = Config::new("error-end", Role::ErrorEnd);
    config.retry.max_attempts = NonZeroU32::new(9).unwrap();
    let plan = run(&config, &input(), &reply(FAILED));
    assert!(plan.messages.is_empty());
    assert!(
        matches!(plan.settlement, Settlement::Retry { .. }),
        "{:?}",
        plan.settlement
    );
}
