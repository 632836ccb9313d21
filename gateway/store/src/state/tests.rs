//! The runs that the contract shows, one by one.

use std::time::Duration;

use asya_runtime_protocol::RawJson;
use chrono::{DateTime, TimeDelta, Utc};

use super::creation::record_of;
use super::*;
use crate::model::{Final, FinalFailure, FinalSuccess, NewEnvelope, Progress, Retry};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn record(actors: &[&str]) -> Record {
    let new = NewEnvelope {
        id: "e".into(),
        parent_id: None,
        tenant: None,
        tool: None,
        status: Status::Pending,
        actors: actors.iter().map(ToString::to_string).collect(),
        route_current: 0,
        route_metadata: None,
        headers: None,
        payload: None,
        timeout: Some(Duration::from_mins(5)),
        deadline: Some(at(300)),
        created_at: at(0),
        idempotency: None,
        outbox: None,
    };
    record_of(&new, None)
}

fn report(event: ReportEvent) -> Report {
    Report {
        envelope_id: "e".into(),
        attempt: 1,
        at: at(5),
        event,
    }
}

fn step(phase: Phase, index: i64) -> Progress {
    Progress {
        phase: Some(phase),
        actor_index: index,
        exact: true,
        ..Progress::default()
    }
}

fn old_step(phase: Phase, index: i64) -> Progress {
    Progress {
        exact: false,
        ..step(phase, index)
    }
}

fn raw(text: &'static str) -> RawJson {
    RawJson::parse(text.as_bytes()).unwrap()
}

/// Applies an event that must change something.
fn change(record: &mut Record, event: ReportEvent) -> Draft {
    match decide(record, &report(event), at(10)) {
        Decision::Change { record: next, update } => {
            assert_eq!(next.version, record.version + 1);
            assert_eq!(next.updated_at, at(10));
            *record = *next;
            *update
        }
        Decision::Nothing => panic!("it changes nothing"),
    }
}

fn change_progress(record: &mut Record, progress: Progress) -> Draft {
    change(record, ReportEvent::Progress(progress))
}

#[track_caller]
fn nothing(record: &Record, event: ReportEvent) {
    assert_eq!(decide(record, &report(event), at(10)), Decision::Nothing);
}

#[test]
fn progress_is_weighed_as_the_contract_shows() {
    let mut record = record(&["a", "b", "c"]);
    for (phase, percent) in [
        (Phase::Received, 3.333_333_333_333_333_5),
        (Phase::Processing, 16.666_666_666_666_668),
        (Phase::Completed, 33.333_333_333_333_336),
    ] {
        let update = change_progress(&mut record, step(phase, 0));
        assert_eq!(update.progress_percent, Some(percent));
        assert_eq!(update.actor.as_deref(), Some("a"));
        assert_eq!(update.current_actor_idx, Some(0));
        assert_eq!(update.phase, Some(phase));
        assert_eq!(update.actors.as_deref().unwrap().len(), 3);
        assert_eq!(update.kind, Kind::Progress);
    }
    assert_eq!(record.status, Status::Running);
    assert_eq!(record.actors_completed, 1);
    assert_eq!(record.current_actor_name.as_deref(), Some("a"));
}

#[test]
fn the_confirmation_of_the_broker_makes_it_running() {
    let mut record = record(&["a"]);
    let update = change(&mut record, ReportEvent::Published);
    assert_eq!((update.kind, update.status), (Kind::Sent, Status::Running));
    assert_eq!(update.message.as_deref(), Some("Sending envelope to first actor"));
    assert_eq!(update.progress_percent, None);
    nothing(&record, ReportEvent::Published);
    nothing(&record, ReportEvent::NotPublished { error: "no".into() });
}

#[test]
fn a_confirmation_after_the_first_progress_says_nothing_new() {
    let mut record = record(&["a"]);
    change_progress(&mut record, step(Phase::Received, 0));
    nothing(&record, ReportEvent::Published);
}

#[test]
fn what_cannot_be_published_fails_with_its_cause() {
    let mut record = record(&["a"]);
    let update = change(
        &mut record,
        ReportEvent::NotPublished {
            error: "no queue".into(),
        },
    );
    assert_eq!(
        (record.status, record.outcome),
        (Status::Failed, Some(Outcome::Failed))
    );
    assert_eq!(update.error.as_deref(), Some("failed to send envelope: no queue"));
    assert_eq!(record.error, update.error);
}

#[test]
fn a_completion_in_the_old_form_is_about_the_actor_before() {
    let mut record = record(&["a", "b", "c"]);
    for index in 0..3 {
        change_progress(&mut record, old_step(Phase::Received, index));
        change_progress(&mut record, old_step(Phase::Processing, index));
        let update = change_progress(&mut record, old_step(Phase::Completed, index + 1));
        assert_eq!(update.current_actor_idx, Some(index));
        assert_eq!(i64::from(record.actors_completed), index + 1);
    }
    assert!((record.progress_percent - 100.0).abs() < 1e-9);
}

#[test]
fn a_completion_with_the_index_of_its_actor_is_taken_as_it_is() {
    let mut record = record(&["a", "b", "c"]);
    change_progress(&mut record, old_step(Phase::Received, 1));
    let update = change_progress(&mut record, old_step(Phase::Completed, 1));
    assert_eq!(update.current_actor_idx, Some(1));
    assert_eq!(record.actors_completed, 2);
}

#[test]
fn a_late_report_moves_nothing_back() {
    let mut record = record(&["a", "b"]);
    change_progress(&mut record, step(Phase::Processing, 1));
    nothing(&record, ReportEvent::Progress(step(Phase::Received, 1)));
    nothing(&record, ReportEvent::Progress(step(Phase::Processing, 0)));
    let late = Progress {
        actors: vec!["other".into()],
        message: Some("late".into()),
        ..step(Phase::Processing, 0)
    };
    nothing(&record, ReportEvent::Progress(late));
}

#[test]
fn a_late_completion_still_counts() {
    let mut record = record(&["a", "b"]);
    change_progress(&mut record, step(Phase::Received, 1));
    let before = record.clone();
    let update = change_progress(&mut record, step(Phase::Completed, 0));
    assert_eq!(update.actor.as_deref(), Some("a"));
    assert_eq!(update.progress_percent, Some(before.progress_percent));
    assert_eq!((record.actors_completed, record.current_actor_idx), (1, 1));
    assert_eq!(record.phase, before.phase);
    nothing(&record, ReportEvent::Progress(step(Phase::Completed, 0)));
}

#[test]
fn a_repeat_changes_nothing_but_a_new_message_does() {
    let mut record = record(&["a"]);
    let said = |message: &str| Progress {
        message: Some(message.into()),
        ..step(Phase::Processing, 0)
    };
    change_progress(&mut record, said("10 %"));
    nothing(&record, ReportEvent::Progress(said("10 %")));
    nothing(&record, ReportEvent::Progress(step(Phase::Processing, 0)));
    change_progress(&mut record, said("20 %"));
    assert_eq!(record.message.as_deref(), Some("20 %"));
}

#[test]
fn a_rewritten_route_is_taken_over_from_those_who_know_it() {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let with = |exact: bool, actors: &[&str]| Progress {
        actors: names(actors),
        exact,
        ..step(Phase::Processing, 0)
    };
    for (exact, said, stored) in [
        (true, &["a", "x"][..], &["a", "x"][..]),
        (true, &["a", "b", "c", "d"], &["a", "b", "c", "d"]),
        (true, &[], &["a", "b", "c"]),
        (false, &["a", "x"], &["a", "b", "c"]),
        (false, &["a", "x", "y"], &["a", "x", "y"]),
        (false, &["a", "x", "y", "z"], &["a", "x", "y", "z"]),
    ] {
        let mut record = record(&["a", "b", "c"]);
        let update = change_progress(&mut record, with(exact, said));
        assert_eq!(record.actors, names(stored), "{said:?}");
        assert_eq!(update.actors.as_deref().unwrap(), names(stored));
    }
}

#[test]
fn progress_does_not_fall_when_the_route_grows() {
    let mut record = record(&["a", "b"]);
    change_progress(&mut record, step(Phase::Completed, 0));
    let longer = Progress {
        actors: ["a", "b", "c", "d", "e"].map(String::from).to_vec(),
        ..step(Phase::Received, 1)
    };
    let update = change_progress(&mut record, longer);
    assert_eq!(update.progress_percent, Some(50.0));
    assert_eq!(record.current_actor_name.as_deref(), Some("b"));
}

#[test]
fn indexes_without_sense_are_held_within_the_route() {
    for index in [i64::MIN, -1, 3, 4, 1 << 40, i64::MAX] {
        for phase in [None, Some(Phase::Completed)] {
            let mut record = record(&["a", "b", "c"]);
            let said = Progress {
                phase,
                actor_index: index,
                message: Some("m".into()),
                ..Progress::default()
            };
            change_progress(&mut record, said);
            assert!((0..3).contains(&record.current_actor_idx), "{index}");
            assert!((0.0..=100.0).contains(&record.progress_percent), "{index}");
            assert!(record.actors_completed <= 3);
        }
    }
    let mut empty = record(&[]);
    let update = change_progress(&mut empty, step(Phase::Completed, 7));
    assert_eq!(update.progress_percent, Some(0.0));
    assert_eq!((empty.current_actor_idx, empty.actors_completed), (0, 0));
}

#[test]
fn success_has_the_words_of_the_contract() {
    let mut record = record(&["a"]);
    change_progress(&mut record, step(Phase::Received, 0));
    let success = FinalSuccess {
        result: Some(raw("{\"n\":12345678901234567890}")),
        stored_at: Some("s3://b/k".into()),
        ..FinalSuccess::default()
    };
    let update = change(&mut record, ReportEvent::Final(Final::Succeeded(success)));
    assert_eq!(
        update.message.as_deref(),
        Some("Envelope completed successfully, results stored at s3://b/k")
    );
    assert_eq!(update.result, Some(raw("{\"n\":12345678901234567890}")));
    assert_eq!(update.progress_percent, Some(100.0));
    assert_eq!((record.status, record.error.clone()), (Status::Succeeded, None));
    assert_eq!(record.outcome, Some(Outcome::Succeeded));
    assert_eq!(record.stored_at.as_deref(), Some("s3://b/k"));
    assert_eq!(record.actors_completed, 1);
}

#[test]
fn a_null_result_keeps_what_is_stored() {
    let mut record = record(&["a"]);
    record.result = Some(raw("1"));
    let success = FinalSuccess {
        result: Some(RawJson::null()),
        ..FinalSuccess::default()
    };
    let update = change(&mut record, ReportEvent::Final(Final::Succeeded(success)));
    assert_eq!(update.message.as_deref(), Some("Envelope completed successfully"));
    assert_eq!((update.result, record.result), (None, Some(raw("1"))));
}

#[test]
fn an_early_end_claims_no_more_than_is_known() {
    let mut early = record(&["a", "b", "c"]);
    change_progress(&mut early, step(Phase::Completed, 0));
    change(
        &mut early,
        ReportEvent::Final(Final::Succeeded(FinalSuccess::default())),
    );
    assert_eq!(early.actors_completed, 1);
}

#[test]
fn failures_have_the_words_of_the_contract() {
    let failure = FinalFailure {
        error: Some("boom".into()),
        ..FinalFailure::default()
    };
    let at_actor = FinalFailure {
        actor: Some("b".into()),
        ..failure.clone()
    };
    for (said, message) in [
        (FinalFailure::default(), "Envelope failed"),
        (failure, "Envelope failed: boom"),
        (at_actor, "Envelope failed at actor 'b': boom"),
    ] {
        let mut record = record(&["a", "b"]);
        let update = change(&mut record, ReportEvent::Final(Final::Failed(said.clone())));
        assert_eq!(update.message.as_deref(), Some(message));
        assert_eq!((update.error, update.result), (said.error, None));
        assert_eq!((update.progress_percent, update.actor), (Some(100.0), said.actor));
        assert_eq!(
            (record.status, record.outcome),
            (Status::Failed, Some(Outcome::Failed))
        );
    }
}

#[test]
fn the_result_of_a_failure_keeps_the_bytes_of_its_details() {
    let details = raw(r#"{"message":"\u0000\ud800","n":1.0,"n":1e400}"#);
    let failure = FinalFailure {
        error: Some("say \"no\"".into()),
        details: Some(details),
        result: Some(raw("2")),
        actors: vec!["a".into(), "b".into()],
        actor_index: Some(1),
        actor: Some("b".into()),
        ..FinalFailure::default()
    };
    let bare = FinalFailure {
        details: Some(raw("[]")),
        ..FinalFailure::default()
    };
    let without = FinalFailure {
        details: Some(RawJson::null()),
        result: Some(raw("2")),
        ..FinalFailure::default()
    };
    for (said, result) in [
        (
            failure,
            r#"{"details":{"message":"\u0000\ud800","n":1.0,"n":1e400},"error":"say \"no\"","failed_actor":"b","failed_actor_idx":1,"route":["a","b"]}"#,
        ),
        (bare, r#"{"details":[],"error":""}"#),
        (without, "2"),
    ] {
        let mut record = record(&["a", "b"]);
        let update = change(&mut record, ReportEvent::Final(Final::Failed(said)));
        assert_eq!(record.result.as_ref().unwrap().as_str(), result);
        assert_eq!(update.result, record.result);
    }
}

#[test]
fn codes_of_sidecars_tell_the_outcome() {
    for (error, outcome) in [
        ("cancelled", Outcome::Cancelled),
        ("Deadline exceeded", Outcome::TimedOut),
        ("processing_error", Outcome::Failed),
    ] {
        let mut record = record(&["a"]);
        let failure = FinalFailure {
            error: Some(error.into()),
            ..FinalFailure::default()
        };
        change(&mut record, ReportEvent::Final(Final::Failed(failure)));
        assert_eq!(record.outcome, Some(outcome));
        assert_eq!(record.error.as_deref(), Some(error));
    }
}

#[test]
fn a_passed_deadline_leaves_progress_and_message() {
    let mut record = record(&["a", "b"]);
    let said = Progress {
        message: Some("working".into()),
        ..step(Phase::Processing, 0)
    };
    change_progress(&mut record, said);
    let update = change(&mut record, ReportEvent::TimedOut);
    assert_eq!(
        (update.kind, update.error.as_deref()),
        (Kind::Final, Some("envelope timed out"))
    );
    assert_eq!((update.message, update.progress_percent), (None, None));
    assert_eq!(
        (record.status, record.outcome),
        (Status::Failed, Some(Outcome::TimedOut))
    );
    assert_eq!(
        (record.message.as_deref(), record.progress_percent),
        (Some("working"), 25.0)
    );
}

#[test]
fn a_cancellation_reads_as_a_failure_to_old_clients() {
    for (reason, message) in [("", "Cancelled"), ("no money", "Cancelled: no money")] {
        let mut record = record(&["a"]);
        let update = change(
            &mut record,
            ReportEvent::Cancelled {
                reason: reason.into(),
            },
        );
        assert_eq!(
            (record.status, record.outcome),
            (Status::Failed, Some(Outcome::Cancelled))
        );
        assert_eq!(record.error.as_deref(), Some("cancelled"));
        assert_eq!(
            (update.message.as_deref(), record.message.as_deref()),
            (Some(message), Some(message))
        );
    }
}

#[test]
fn the_first_final_stands() {
    let mut record = record(&["a"]);
    change(&mut record, ReportEvent::TimedOut);
    nothing(
        &record,
        ReportEvent::Final(Final::Succeeded(FinalSuccess::default())),
    );
    nothing(
        &record,
        ReportEvent::Final(Final::Failed(FinalFailure::default())),
    );
    nothing(&record, ReportEvent::Progress(step(Phase::Completed, 0)));
    nothing(
        &record,
        ReportEvent::Cancelled {
            reason: String::new(),
        },
    );
    nothing(&record, ReportEvent::TimedOut);
    nothing(&record, ReportEvent::Published);
}

#[test]
fn reports_of_other_attempts_change_nothing() {
    let mut standing = record(&["a"]);
    standing.attempt = 2;
    for (attempt, changes) in [(0, false), (1, false), (2, true), (3, false)] {
        let report = Report {
            attempt,
            ..report(ReportEvent::TimedOut)
        };
        let decision = decide(&standing, &report, at(10));
        assert_eq!(matches!(decision, Decision::Change { .. }), changes, "{attempt}");
    }
    let first = Report {
        attempt: 0,
        ..report(ReportEvent::TimedOut)
    };
    assert_ne!(decide(&record(&["a"]), &first, at(10)), Decision::Nothing);
}

#[test]
fn a_retry_is_a_message_and_the_hop_begins_anew() {
    let mut record = record(&["a", "b"]);
    change_progress(&mut record, step(Phase::Processing, 0));
    let retry = Retry {
        actor_index: 0,
        runs: 1,
        error: "bad luck".into(),
        failure: Some(raw("{}")),
        next_run_at: Some(at(5) + TimeDelta::milliseconds(1500)),
    };
    let update = change(&mut record, ReportEvent::Retry(retry.clone()));
    assert_eq!(
        update.message.as_deref(),
        Some("Retrying in 1.5s (attempt 2): bad luck")
    );
    assert_eq!((update.kind, update.status), (Kind::Retry, Status::Running));
    assert_eq!(update.failure, Some(raw("{}")));
    assert_eq!((record.error.clone(), record.phase), (None, None));
    assert!((record.progress_percent - 25.0).abs() < 1e-9);
    nothing(&record, ReportEvent::Retry(retry.clone()));
    change_progress(&mut record, step(Phase::Received, 0));
    assert!((record.progress_percent - 25.0).abs() < 1e-9);
    change_progress(&mut record, step(Phase::Received, 1));
    nothing(&record, ReportEvent::Retry(retry));
}

#[test]
fn items_are_handed_on_and_move_nothing() {
    let mut record = record(&["a", "b"]);
    let partial = Partial {
        actor_index: 1,
        index: 0,
        value: raw("1.0"),
    };
    let update = change(&mut record, ReportEvent::Partial(partial.clone()));
    assert_eq!((update.kind, update.actor.as_deref()), (Kind::Partial, Some("b")));
    assert_eq!(update.partial, Some(partial));
    assert_eq!((record.progress_percent, record.current_actor_idx), (0.0, 0));
    assert_eq!(record.status, Status::Running);
}

#[test]
fn texts_lose_what_no_database_can_hold() {
    let mut record = record(&["a"]);
    let said = Progress {
        message: Some("a\0b".into()),
        actors: vec!["x\0".into()],
        ..step(Phase::Received, 0)
    };
    let update = change_progress(&mut record, said);
    assert_eq!(update.message.as_deref(), Some("a\u{FFFD}b"));
    assert_eq!(record.actors, ["x\u{FFFD}"]);
}

#[test]
fn a_clock_that_is_behind_does_not_turn_time_back() {
    let mut standing = record(&["a"]);
    standing.updated_at = at(100);
    let Decision::Change { record, .. } = decide(&standing, &report(ReportEvent::Published), at(10)) else {
        panic!("it changes nothing");
    };
    assert_eq!(record.updated_at, at(100));
}
