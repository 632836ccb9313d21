//! Reports: decided by the state machine, answered in order, stored as they were answered.

use chrono::TimeDelta;

use super::{
    Harness, apply_one, at, call, cancelled, change, create, get, progress, raw, report, success, updates,
};
use crate::state::plan::basic;
use crate::{
    Applied, Final, FinalFailure, FinalSuccess, Kind, Outcome, Partial, Phase, Progress, Report, ReportEvent,
    Retry, Status, Update,
};

/// As many answers as reports, each to its own.
pub async fn answers_come_in_order(harness: &dyn Harness) {
    let store = harness.store();
    for id in ["b", "a"] {
        create(&*store, call(id)).await;
    }
    let reports = vec![
        progress("b", 0, Phase::Received),
        success("nobody", "1"),
        progress("a", 0, Phase::Processing),
        progress("b", 0, Phase::Received),
        progress("b", 1, Phase::Received),
    ];
    let answers = store.apply(reports).await.unwrap();
    let seen: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Applied::Changed { record, update } => {
                assert_eq!(*record.id, *update.envelope_id);
                (record.id.as_str(), true, record.current_actor_idx)
            }
            Applied::Nothing { record } => (record.id.as_str(), false, record.current_actor_idx),
            Applied::Unknown => ("", false, 0),
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("b", true, 0),
            ("", false, 0),
            ("a", true, 0),
            ("b", false, 0),
            ("b", true, 1)
        ]
    );
    assert_eq!(get(&*store, "b").await.version, 3);
}

/// Every kind of report: what its answer says is what is read afterwards, from this replica and from another one.
pub async fn what_is_answered_is_what_is_stored(harness: &dyn Harness) {
    let (store, replica) = (harness.store(), harness.replica().await);
    create(&*store, call("e")).await;
    create(&*store, call("f")).await;
    let retry = Retry {
        actor_index: 1,
        runs: 2,
        error: "bad luck".into(),
        failure: Some(raw(r#"{"type":"E","n":1.0}"#)),
        next_run_at: Some(at(5) + TimeDelta::milliseconds(1500)),
    };
    let rerouted = Progress {
        phase: Some(Phase::Completed),
        actors: vec!["one".into(), "x\"{},\\".into(), String::new(), "four".into()],
        actor_index: 1,
        message: Some("a \"message\"\n".into()),
        exact: true,
    };
    let partial = Partial {
        actor_index: 2,
        index: 7,
        value: raw("[1.0, 1e400]"),
    };
    let failure = FinalFailure {
        error: Some("boom".into()),
        details: Some(raw(r#"{"a" : 1.0}"#)),
        stored_at: Some("s3://b/k".into()),
        actors: vec!["one".into(), "two".into()],
        actor_index: Some(1),
        actor: Some("two".into()),
        ..FinalFailure::default()
    };
    let mut wordless = progress("e", 0, Phase::Processing);
    if let ReportEvent::Progress(said) = &mut wordless.event {
        said.message = None;
    }
    for report in [
        report("e", ReportEvent::Published),
        progress("e", 0, Phase::Received),
        wordless,
        report("e", ReportEvent::Retry(retry)),
        report("e", ReportEvent::Progress(rerouted)),
        report("e", ReportEvent::Partial(partial)),
        report("e", ReportEvent::Final(Final::Failed(failure))),
        cancelled("f", "why"),
    ] {
        let (record, update) = change(&*store, report).await;
        for store in [&store, &replica] {
            let read = get(&**store, &record.id).await;
            assert_eq!(basic(read), record);
            let history = updates(&**store, &record.id).await;
            assert_eq!(history.last(), Some(&*update));
            assert!(history.is_sorted_by_key(|update| update.id));
        }
    }
    let read = get(&*store, "e").await;
    assert_eq!(
        read.result,
        Some(raw(
            r#"{"details":{"a" : 1.0},"error":"boom","failed_actor":"two","failed_actor_idx":1,"route":["one","two"]}"#
        ))
    );
    assert_eq!(read.payload, call("e").payload);
    let history = updates(&*store, "e").await;
    assert_eq!(history.len(), 7);
    assert!(history.last().is_some_and(Update::is_final));
    assert_eq!(history[6].result, read.result);
}

/// A final stands against everything that comes later.
pub async fn the_first_final_wins(harness: &dyn Harness) {
    let store = harness.store();
    for (id, last) in [
        ("succeeded", success("succeeded", "1")),
        ("timed out", report("timed out", ReportEvent::TimedOut)),
        ("cancelled", cancelled("cancelled", "why")),
    ] {
        create(&*store, call(id)).await;
        let (record, _) = change(&*store, last).await;
        for late in [
            progress(id, 2, Phase::Completed),
            success(id, "2"),
            report(id, ReportEvent::Final(Final::Failed(FinalFailure::default()))),
            report(id, ReportEvent::Published),
            report(id, ReportEvent::TimedOut),
            cancelled(id, "late"),
        ] {
            let answer = apply_one(&*store, late).await;
            assert_eq!(
                answer,
                Applied::Nothing {
                    record: Box::new(record.clone())
                }
            );
        }
        assert_eq!(basic(get(&*store, id).await), record);
        assert_eq!(updates(&*store, id).await.len(), 1);
    }
}

/// One call sees its own effects.
pub async fn repeats_within_a_batch_are_seen(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    let reports = vec![
        progress("e", 0, Phase::Received),
        progress("e", 0, Phase::Received),
        success("e", "1"),
        success("e", "2"),
        progress("e", 1, Phase::Received),
    ];
    let answers = store.apply(reports).await.unwrap();
    let changed: Vec<_> = answers
        .iter()
        .map(|answer| matches!(answer, Applied::Changed { .. }))
        .collect();
    assert_eq!(changed, [true, false, true, false, false]);
    let read = get(&*store, "e").await;
    assert_eq!((read.status, read.version), (Status::Succeeded, 3));
    assert_eq!(read.result, Some(raw("1")));
    let kinds: Vec<_> = updates(&*store, "e")
        .await
        .iter()
        .map(|update| update.kind)
        .collect();
    assert_eq!(kinds, [Kind::Progress, Kind::Final]);
}

/// Only reports about the stored attempt count.
pub async fn other_attempts_change_nothing(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    for attempt in [2, u32::MAX] {
        let foreign = Report {
            attempt,
            ..success("e", "1")
        };
        let answer = apply_one(&*store, foreign).await;
        assert!(matches!(answer, Applied::Nothing { .. }), "{answer:?}");
    }
    let own = Report {
        attempt: 0,
        ..success("e", "1")
    };
    change(&*store, own).await;
}

/// A success without a result keeps what is stored, be it nothing.
pub async fn a_result_stays_when_the_last_word_has_none(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    let said = FinalSuccess {
        stored_at: Some("s3://b/k".into()),
        ..FinalSuccess::default()
    };
    let last = report("e", ReportEvent::Final(Final::Succeeded(said)));
    let (record, _) = change(&*store, last).await;
    assert_eq!(record.outcome, Some(Outcome::Succeeded));
    let read = get(&*store, "e").await;
    assert_eq!((read.result, read.payload), (None, call("e").payload));
    assert_eq!(read.stored_at.as_deref(), Some("s3://b/k"));
}

/// Nothing to do is nothing done.
pub async fn no_reports_no_answers(harness: &dyn Harness) {
    let store = harness.store();
    assert!(store.apply(Vec::new()).await.unwrap().is_empty());
    assert!(store.settle_outbox(Vec::new()).await.unwrap().is_empty());
    assert!(store.put_actors(Vec::new()).await.unwrap().is_empty());
}

/// A third is a third, so that live and stored updates are the same.
pub async fn progress_is_kept_unrounded(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    change(&*store, progress("e", 0, Phase::Completed)).await;
    let third = 33.333_333_333_333_336;
    assert_eq!(
        get(&*store, "e").await.progress_percent.to_bits(),
        f64::to_bits(third)
    );
    assert_eq!(updates(&*store, "e").await[0].progress_percent, Some(third));
}
