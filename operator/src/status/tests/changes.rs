//! Conditions that flip, references that come and go, and the events of both.

use super::fixtures::{at, before, condition, fails, manual, pod, scaled, seen, with_pods};
use crate::status::{Condition, EventKind, Observation, Status, assess, events};

fn reasons(previous: &Status, next: &Status) -> Vec<(EventKind, &'static str)> {
    events(previous, next)
        .into_iter()
        .map(|note| (note.kind, note.reason))
        .collect()
}

fn now(previous: &Status, seen: &Observation, time: &str) -> Status {
    assess(&scaled(), previous, seen, at(time))
}

#[test]
fn a_condition_keeps_its_time_until_it_flips_and_nothing_else() {
    let first = now(
        &Status::default(),
        &with_pods(seen(0, 1, 1), &["unschedulable"]),
        "12:01:00",
    );
    let mut actor = scaled();
    actor.generation = 5;
    let ailing = with_pods(seen(0, 1, 1), &["image_pull_back_off"]);
    let second = assess(&actor, &first, &ailing, at("12:02:00"));
    let of = |status: &Status| {
        let condition = condition(status, "WorkloadReady").clone();
        (
            condition.last_transition_time,
            condition.observed_generation,
            condition.message,
        )
    };
    let (since, generation, message) = of(&second);
    assert_eq!((since.as_str(), generation), ("2026-03-01T12:01:00Z", Some(5)));
    assert_ne!(message, of(&first).2, "the message is that of now");
    let third = now(&second, &seen(1, 1, 1), "12:03:00");
    assert_eq!(of(&third).0, "2026-03-01T12:03:00Z");
    assert_eq!(
        condition(&third, "TransportReady").last_transition_time,
        "2026-03-01T12:01:00Z"
    );
}

#[test]
fn scaling_conditions_and_references_go_with_scaling() {
    let on = now(&Status::default(), &seen(1, 1, 1), "12:00:00");
    for kind in ["ScalingReady", "ScalerReady"] {
        assert_eq!(condition(&on, kind).reason, "ScaledObjectCreated");
    }
    assert_eq!(on.scaled_object_ref.as_ref().unwrap().name, "summarize");
    assert_eq!(
        (on.scaling_mode.as_deref(), on.ready_summary.as_deref()),
        (Some("KEDA"), Some("3/3"))
    );

    let mut broken = seen(1, 1, 1);
    broken.scaling = Some(fails("ReconcileError", "no KEDA"));
    let broken = now(&on, &broken, "12:01:00");
    assert!(broken.scaled_object_ref.is_some(), "it is there still");

    let mut off = seen(1, 1, 1);
    off.scaling = None;
    let off = assess(&manual(), &broken, &off, at("12:02:00"));
    assert!(
        off.conditions
            .iter()
            .all(|condition| !condition.kind.starts_with("Scal"))
    );
    assert_eq!(off.scaled_object_ref, None);
    assert_eq!(
        (off.scaling_mode.as_deref(), off.ready_summary.as_deref()),
        (Some("Manual"), Some("2/2"))
    );
}

#[test]
fn conditions_of_others_are_left_alone() {
    let foreign = Condition {
        kind: "Audited".to_owned(),
        status: "True".to_owned(),
        ..Condition::default()
    };
    let previous = Status {
        conditions: vec![foreign.clone()],
        ..Status::default()
    };
    let status = now(&previous, &seen(1, 1, 1), "12:00:00");
    assert_eq!(status.conditions.last(), Some(&foreign));
    assert_eq!(status.conditions.len(), 6);
}

#[test]
fn a_new_actor_has_events_for_what_was_made_and_equal_statuses_none() {
    let first = now(&Status::default(), &seen(0, 0, 0), "12:00:00");
    let expected = [
        (EventKind::Normal, "WorkloadCreated"),
        (EventKind::Normal, "ScaledObjectCreated"),
        (EventKind::Normal, "StatusChanged"),
    ];
    assert_eq!(reasons(&Status::default(), &first), expected);
    assert_eq!(reasons(&first, &first), []);
    let mut busier = first.clone();
    busier.queued_messages = Some(1000);
    assert_eq!(reasons(&first, &busier), [], "numbers are no event");
}

#[test]
fn an_actor_that_falls_asleep_says_so_once() {
    let awake = now(&before(1, None), &seen(1, 1, 1), "12:00:00");
    let asleep = now(&awake, &seen(0, 0, 0), "12:01:00");
    let expected = [
        (EventKind::Normal, "StatusChanged"),
        (EventKind::Normal, "ScaledToZero"),
    ];
    assert_eq!(reasons(&awake, &asleep), expected);
    assert_eq!(
        events(&awake, &asleep)[0].message,
        "Running -> Napping: no pod is needed"
    );
    let later = now(&asleep, &seen(0, 0, 0), "13:01:00");
    assert_eq!(reasons(&asleep, &later), []);
}

#[test]
fn every_failure_is_a_warning_with_its_name() {
    type Change = fn(&mut Observation);
    let cases: [(Change, &str); 7] = [
        (
            |seen| seen.transport = fails("InvalidTransport", "no such transport"),
            "InvalidTransport",
        ),
        (
            |seen| seen.transport = fails("QueueError", "refused"),
            "QueueError",
        ),
        (
            |seen| seen.transport = fails("QueueNameConflict", "models/other"),
            "QueueNameConflict",
        ),
        (
            |seen| seen.workload = fails("ValidationError", "two runtimes"),
            "ValidationError",
        ),
        (
            |seen| seen.workload = fails("ReconcileError", "refused"),
            "WorkloadError",
        ),
        (
            |seen| seen.scaling = Some(fails("Conflict", "somebody's")),
            "ScalingError",
        ),
        (
            |seen| {
                seen.pods = vec![pod("runtime_crash_loop")];
                seen.counts.as_mut().unwrap().ready = 0;
            },
            "PodsNotHealthy",
        ),
    ];
    let well = now(&Status::default(), &seen(1, 1, 1), "12:00:00");
    for (change, expected) in cases {
        let mut ill = seen(1, 1, 1);
        change(&mut ill);
        let status = now(&well, &ill, "12:01:00");
        let warnings: Vec<_> = events(&well, &status)
            .into_iter()
            .filter(|note| note.kind == EventKind::Warning)
            .collect();
        assert_eq!(warnings.len(), 1, "{expected}");
        assert_eq!(warnings[0].reason, expected);
        assert!(!warnings[0].message.is_empty());
        let later = now(&status, &ill, "12:02:00");
        assert_eq!(reasons(&status, &later), [], "{expected}: once");
    }
}

#[test]
fn pods_that_fail_in_another_way_are_told_again() {
    let first = now(
        &Status::default(),
        &with_pods(seen(0, 1, 1), &["unschedulable"]),
        "12:01:00",
    );
    let second = now(
        &first,
        &with_pods(seen(0, 1, 1), &["image_pull_back_off"]),
        "12:02:00",
    );
    let expected = [
        (EventKind::Warning, "PodsNotHealthy"),
        (EventKind::Normal, "StatusChanged"),
    ];
    assert_eq!(reasons(&first, &second), expected);
}
