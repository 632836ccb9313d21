//! What was said is kept byte for byte.

use asya_runtime_protocol::RawJson;
use bytes::Bytes;

use super::{Harness, call, change, create, get, raw, report, updates};
use crate::{
    Final, FinalFailure, FinalSuccess, NewEnvelope, OutboxMessage, Partial, Phase, Progress, ReportEvent,
    Retry,
};

/// What readers of JSON like to change.
const TEXTS: [&str; 14] = [
    "12345678901234567890",
    "-0",
    "1.0",
    "1e400",
    "0.1000000000000000055511151231257827",
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\u003c\/""#,
    r#"{"a":1,"a":2}"#,
    r#"{"z":1, "a" : [ ]}"#,
    "null",
    "\"\u{2028}\u{7f}🦀\"",
    "[9007199254740993,18446744073709551616]",
    "{\"\":{}}",
];

/// In every column that holds JSON.
pub async fn json_keeps_its_bytes(harness: &dyn Harness) {
    let store = harness.store();
    for (number, text) in TEXTS.into_iter().enumerate() {
        let id = format!("e{number}");
        let value = raw(text);
        let new = NewEnvelope {
            payload: Some(value.clone()),
            headers: Some(value.clone()),
            route_metadata: Some(value.clone()),
            ..call(&id)
        };
        create(&*store, new).await;
        let partial = Partial {
            actor_index: 0,
            index: 0,
            value: value.clone(),
        };
        change(&*store, report(&id, ReportEvent::Partial(partial))).await;
        let retry = Retry {
            actor_index: 0,
            runs: 1,
            error: "e".into(),
            failure: Some(value.clone()),
            next_run_at: None,
        };
        change(&*store, report(&id, ReportEvent::Retry(retry))).await;
        let success = FinalSuccess {
            result: Some(value.clone()),
            ..FinalSuccess::default()
        };
        change(
            &*store,
            report(&id, ReportEvent::Final(Final::Succeeded(success))),
        )
        .await;
        let kept = Some(&value);
        let record = get(&*store, &id).await;
        assert_eq!(record.payload.as_ref(), kept, "{text}");
        assert_eq!(record.headers.as_ref(), kept, "{text}");
        assert_eq!(record.route_metadata.as_ref(), kept, "{text}");
        let result = kept.filter(|value| !value.is_null());
        assert_eq!(record.result.as_ref(), result, "{text}");
        let history = updates(&*store, &id).await;
        assert_eq!(
            history[0].partial.as_ref().map(|partial| &partial.value),
            kept,
            "{text}"
        );
        assert_eq!(history[1].failure.as_ref(), kept, "{text}");
        assert_eq!(history[2].result.as_ref(), result, "{text}");
    }
}

/// Five megabytes, and nesting that no reader follows.
pub async fn large_json_is_kept(harness: &dyn Harness) {
    let store = harness.store();
    let large = RawJson::from_text(&"\0é".repeat(5 * 1024 * 1024 / 8));
    assert!(large.len() >= 5 * 1024 * 1024);
    let deep = raw(&format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000)));
    for (id, value) in [("large", large), ("deep", deep)] {
        let new = NewEnvelope {
            payload: Some(value.clone()),
            ..call(id)
        };
        create(&*store, new).await;
        let failure = FinalFailure {
            details: Some(value.clone()),
            ..FinalFailure::default()
        };
        let (_, update) = change(&*store, report(id, ReportEvent::Final(Final::Failed(failure)))).await;
        let record = get(&*store, id).await;
        assert!(record.payload == Some(value.clone()), "the payload has changed");
        let result = record.result.unwrap();
        let expected = format!(r#"{{"details":{},"error":""}}"#, value.as_str());
        assert!(result.as_str() == expected, "the result has changed");
        assert!(updates(&*store, id).await[0].result == update.result);
    }
}

/// Texts for people, and names of actors.
pub async fn texts_are_kept(harness: &dyn Harness) {
    let store = harness.store();
    let odd = "line\r\n\ttab \"quotes\" \\ ' % _ é 🦀 \u{1} \u{7f} \u{2028} \u{fffe}";
    let long = "x".repeat(1 << 20);
    for (id, text) in [("odd", odd), ("long", long.as_str())] {
        let new = NewEnvelope {
            tenant: Some(text.to_owned()),
            actors: vec![text.to_owned(), String::new()],
            ..call(id)
        };
        // What is looked for by its text has a limit.
        let new = if text.len() > 1000 {
            NewEnvelope { tenant: None, ..new }
        } else {
            new
        };
        create(&*store, new.clone()).await;
        let said = Progress {
            phase: Some(Phase::Received),
            message: Some(text.to_owned()),
            ..Progress::default()
        };
        change(&*store, report(id, ReportEvent::Progress(said))).await;
        let failure = FinalFailure {
            error: Some(text.to_owned()),
            stored_at: Some(text.to_owned()),
            ..FinalFailure::default()
        };
        change(&*store, report(id, ReportEvent::Final(Final::Failed(failure)))).await;
        let record = get(&*store, id).await;
        assert_eq!(record.tenant, new.tenant);
        assert_eq!(record.actors, new.actors);
        for kept in [&record.current_actor_name, &record.error, &record.stored_at] {
            assert!(kept.as_deref() == Some(text), "{id}");
        }
        let history = updates(&*store, id).await;
        assert!(history[0].message.as_deref() == Some(text), "{id}");
        assert!(history[0].actor.as_deref() == Some(text), "{id}");
    }
}

/// Routes of any length.
pub async fn long_routes_are_kept(harness: &dyn Harness) {
    let store = harness.store();
    let actors: Vec<_> = (0..10_000).map(|number| format!("actor-{number}")).collect();
    for (id, actors) in [("none", Vec::new()), ("many", actors)] {
        let new = NewEnvelope {
            actors: actors.clone(),
            ..call(id)
        };
        create(&*store, new).await;
        let said = Progress {
            phase: Some(Phase::Completed),
            actor_index: 9_999,
            exact: true,
            ..Progress::default()
        };
        let (record, _) = change(&*store, report(id, ReportEvent::Progress(said))).await;
        assert_eq!(usize::try_from(record.actors_completed).unwrap(), actors.len());
        assert_eq!(get(&*store, id).await.actors, actors);
        let history = updates(&*store, id).await;
        assert_eq!(history[0].actors.as_deref().unwrap_or_default(), actors);
    }
}

/// Message bodies need not be text.
pub async fn bodies_are_bytes(harness: &dyn Harness) {
    let store = harness.store();
    let body: Bytes = (0..=255_u8).cycle().take(70_000).collect();
    for (id, body) in [("binary", body), ("empty", Bytes::new())] {
        let message = OutboxMessage {
            actor: "one".to_owned(),
            message_id: format!("{id}/0/1/0"),
            body,
        };
        let new = NewEnvelope {
            outbox: Some(message.clone()),
            ..call(id)
        };
        store.create(new, std::time::Duration::ZERO).await.unwrap();
        let claimed = store.claim_outbox(10, super::LONG).await.unwrap();
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].message, message);
    }
}
