//! What holds of the state machine whatever is reported, in whatever order.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what tests share"
)]

use asya_gateway_store::state::creation::record_of;
use asya_gateway_store::state::plan::plan;
use asya_gateway_store::state::{Decision, decide};
use asya_gateway_store::{
    Applied, Final, FinalFailure, FinalSuccess, NewEnvelope, Partial, Phase, Progress, Record, Report,
    ReportEvent, Retry, Status,
};
use asya_runtime_protocol::RawJson;
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::sample::select;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn record(actors: Vec<String>, status: Status) -> Record {
    let new = NewEnvelope {
        id: "e".into(),
        parent_id: None,
        tenant: None,
        tool: None,
        status,
        actors,
        route_current: 0,
        route_metadata: None,
        headers: None,
        payload: None,
        timeout: None,
        deadline: None,
        created_at: at(0),
        idempotency: None,
        outbox: None,
    };
    record_of(&new, None)
}

fn actors() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[a-e]|\0", 0..6)
}

fn index() -> impl Strategy<Value = i64> {
    prop_oneof![8 => 0..7_i64, 1 => any::<i64>(), 1 => select(vec![i64::MIN, -1, i64::MAX])]
}

fn phase() -> impl Strategy<Value = Option<Phase>> {
    select(vec![
        None,
        Some(Phase::Received),
        Some(Phase::Processing),
        Some(Phase::Completed),
    ])
}

fn text() -> impl Strategy<Value = Option<String>> {
    prop::option::of("|[xy]|cancelled|a\0")
}

fn raw() -> impl Strategy<Value = RawJson> {
    select(vec!["null", "1.0", "{}", r#""\u0000""#]).prop_map(|text| RawJson::parse(text.as_bytes()).unwrap())
}

fn progress() -> impl Strategy<Value = ReportEvent> {
    (phase(), actors(), index(), text(), any::<bool>()).prop_map(
        |(phase, actors, actor_index, message, exact)| {
            ReportEvent::Progress(Progress {
                phase,
                actors,
                actor_index,
                message,
                exact,
            })
        },
    )
}

fn unfinal() -> impl Strategy<Value = ReportEvent> {
    prop_oneof![
        8 => progress(),
        1 => Just(ReportEvent::Published),
        1 => (index(), any::<u32>(), 0..100_i64, text()).prop_map(|(actor_index, runs, next, error)| {
            ReportEvent::Retry(Retry {
                actor_index,
                runs,
                error: error.unwrap_or_default(),
                failure: None,
                next_run_at: (next > 10).then(|| at(next)),
            })
        }),
        1 => (index(), any::<u32>(), raw()).prop_map(|(actor_index, index, value)| {
            ReportEvent::Partial(Partial { actor_index, index, value })
        }),
    ]
}

fn last() -> impl Strategy<Value = ReportEvent> {
    let place = (actors(), prop::option::of(index()), text(), text());
    let success = (place, prop::option::of(raw())).prop_map(|(place, result)| {
        let (actors, actor_index, actor, stored_at) = place;
        Final::Succeeded(FinalSuccess {
            result,
            stored_at,
            actors,
            actor_index,
            actor,
        })
    });
    let place = (actors(), prop::option::of(index()), text(), text());
    let failure = (place, prop::option::of(raw()), text()).prop_map(|(place, details, error)| {
        let (actors, actor_index, actor, stored_at) = place;
        Final::Failed(FinalFailure {
            error,
            details,
            stored_at,
            actors,
            actor_index,
            actor,
            ..FinalFailure::default()
        })
    });
    prop_oneof![
        3 => success.prop_map(ReportEvent::Final),
        3 => failure.prop_map(ReportEvent::Final),
        1 => Just(ReportEvent::TimedOut),
        1 => text().prop_map(|reason| ReportEvent::Cancelled { reason: reason.unwrap_or_default() }),
    ]
}

fn event() -> impl Strategy<Value = ReportEvent> {
    let not_published = text().prop_map(|error| ReportEvent::NotPublished {
        error: error.unwrap_or_default(),
    });
    prop_oneof![12 => unfinal(), 1 => last(), 1 => not_published]
}

fn report(event: impl Strategy<Value = ReportEvent>) -> impl Strategy<Value = Report> {
    let attempt = prop_oneof![8 => Just(1_u32), 1 => Just(0), 1 => any::<u32>()];
    (event, attempt, 0..100_i64).prop_map(|(event, attempt, seconds)| Report {
        envelope_id: "e".into(),
        attempt,
        at: at(seconds),
        event,
    })
}

fn beginning() -> impl Strategy<Value = Record> {
    let status = select(vec![Status::Pending, Status::Running, Status::Unknown]);
    (prop::collection::vec("[a-e]", 0..6), status).prop_map(|(actors, status)| record(actors, status))
}

const fn rank(status: Status) -> u8 {
    match status {
        Status::Unknown | Status::Pending => 0,
        Status::Running => 1,
        Status::Succeeded | Status::Failed => 2,
    }
}

/// Applies a report and checks what holds of every single step.
fn step(record: &Record, report: &Report) -> Record {
    let Decision::Change { record: next, update } = decide(record, report, at(50)) else {
        return record.clone();
    };
    assert!(!record.status.is_final(), "a final record has changed");
    assert_eq!(report.attempt.max(1), record.attempt);
    assert!(rank(next.status) >= rank(record.status));
    assert!(next.progress_percent >= record.progress_percent);
    assert!((0.0..=100.0).contains(&next.progress_percent));
    assert!(next.actors_completed >= record.actors_completed);
    assert!(next.actors_completed as usize <= next.actors.len());
    assert!(next.current_actor_idx >= 0);
    assert!(next.current_actor_idx < i64::try_from(next.actors.len()).unwrap().max(1));
    assert_eq!(next.version, record.version + 1);
    assert_eq!(next.status.is_final(), next.outcome.is_some());
    assert_eq!((update.status, update.outcome), (next.status, next.outcome));
    assert_ne!(next.error.as_deref(), Some(""));
    let texts = [
        &next.message,
        &next.error,
        &next.stored_at,
        &next.current_actor_name,
        &update.actor,
    ];
    assert!(texts.into_iter().flatten().all(|text| !text.contains('\0')));
    if !next.status.is_final() {
        assert!(next.current_actor_idx >= record.current_actor_idx);
    }
    *next
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_reported_nothing_goes_back(
        first in beginning(),
        reports in prop::collection::vec(report(event()), 0..40),
    ) {
        let mut record = first;
        for report in &reports {
            record = step(&record, report);
        }
    }

    #[test]
    fn one_final_among_others_is_the_end_wherever_it_comes(
        first in beginning(),
        others in prop::collection::vec(report(unfinal()), 0..20),
        last in last(),
        place in any::<prop::sample::Index>(),
    ) {
        let mut reports = others;
        let last = Report { envelope_id: "e".into(), attempt: 1, at: at(1), event: last };
        reports.insert(place.index(reports.len() + 1), last.clone());
        let end = reports.iter().fold(first.clone(), |record, report| step(&record, report));
        let alone = step(&first, &last);
        prop_assert_eq!((end.status, end.outcome), (alone.status, alone.outcome));
        prop_assert_eq!((end.error, end.result), (alone.error, alone.result));
    }

    #[test]
    fn nothing_after_the_first_final_changes_anything(
        first in beginning(),
        last in report(last()),
        later in prop::collection::vec(report(event()), 0..20),
    ) {
        let last = Report { attempt: 1, ..last };
        let end = step(&first, &last);
        prop_assert!(end.status.is_final());
        for report in &later {
            prop_assert_eq!(decide(&end, report, at(99)), Decision::Nothing);
        }
    }

    #[test]
    fn a_repeat_of_the_last_report_is_nothing(
        first in beginning(),
        before in prop::collection::vec(report(event()), 0..20),
        last in report(event()),
    ) {
        // Items are handed on each time: a hop that runs again makes them again.
        prop_assume!(!matches!(last.event, ReportEvent::Partial(_)));
        // A completion in the old form says which actor it is about by what came before; its repeat says more.
        let is_exact = !matches!(&last.event, ReportEvent::Progress(progress) if !progress.exact);
        prop_assume!(is_exact);
        let record = before.iter().fold(first, |record, report| step(&record, report));
        let record = step(&record, &last);
        prop_assert_eq!(decide(&record, &last, at(99)), Decision::Nothing);
    }

    #[test]
    fn a_batch_comes_to_the_same_as_one_by_one(
        first in beginning(),
        reports in prop::collection::vec(report(event()), 0..40),
    ) {
        let one_by_one = reports.iter().fold(first.clone(), |record, report| step(&record, report));
        let plan = plan([first.clone()], &reports, at(50));
        prop_assert_eq!(plan.writes.len(), usize::from(one_by_one.version != first.version));
        for write in &plan.writes {
            prop_assert_eq!(write.base, first.version);
            let whole = Record { result: write.result.clone(), ..write.record.clone() };
            prop_assert_eq!(&whole, &one_by_one);
        }
        let changes = plan.updates.len();
        prop_assert_eq!(i64::try_from(changes).unwrap(), one_by_one.version - first.version);
        let ids: Vec<i64> = (1..).take(changes).collect();
        let answers = plan.answers(&ids);
        prop_assert_eq!(answers.len(), reports.len());
        let updates = answers.iter().filter_map(|answer| match answer {
            Applied::Changed { update, .. } => Some(update.id),
            _ => None,
        });
        prop_assert_eq!(updates.collect::<Vec<_>>(), ids);
    }
}

#[test]
fn a_batch_tells_known_from_unknown_and_keeps_cancellations() {
    let report = |id: &str, event| Report {
        envelope_id: id.into(),
        attempt: 1,
        at: at(1),
        event,
    };
    let cancelled = ReportEvent::Cancelled {
        reason: "why\0".into(),
    };
    let reports = [
        report("e", cancelled.clone()),
        report("nobody", cancelled.clone()),
        report("e", cancelled),
    ];
    let plan = plan([record(vec!["a".into()], Status::Pending)], &reports, at(2));
    assert_eq!(plan.finished().collect::<Vec<_>>(), ["e"]);
    let [notice] = plan.notices.as_slice() else {
        panic!("{:?}", plan.notices);
    };
    assert_eq!(
        (notice.attempt, notice.reason.as_str(), notice.keep_until),
        (1, "why\u{FFFD}", at(2 + 24 * 3600))
    );
    let answers = plan.answers(&[7]);
    assert!(matches!(&answers[0], Applied::Changed { update, .. } if update.id == 7));
    assert!(matches!(answers[1], Applied::Unknown));
    assert!(matches!(&answers[2], Applied::Nothing { record } if record.status == Status::Failed));
}
