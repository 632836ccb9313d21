//! The worked cases of contract operator §11.4.

use super::fixtures::{at, before, condition, fails, manual, pod, scaled, seen, state, state_of, with_pods};
use crate::status::{State, Status, assess};

#[test]
fn the_worked_cases_of_the_contract_hold() {
    let cases = [
        ((3, 3, 10), State::ScalingUp),
        ((3, 8, 3), State::ScalingDown),
        ((5, 5, 5), State::Running),
        ((0, 0, 0), State::Napping),
    ];
    for ((ready, total, desired), expected) in cases {
        assert_eq!(
            state_of(&scaled(), &seen(ready, total, desired), "12:00:00"),
            expected,
            "{ready}/{total}/{desired}"
        );
    }
}

#[test]
fn unready_pods_degrade_an_actor_when_the_last_scaling_is_five_minutes_ago() {
    for (last, expected) in [
        (Some("11:50:00"), State::Degraded),
        (Some("11:55:00"), State::Degraded),
        (Some("11:55:01"), State::ScalingUp),
        (Some("11:58:00"), State::ScalingUp),
        (None, State::ScalingUp),
    ] {
        let status = assess(&scaled(), &before(3, last), &seen(3, 5, 5), at("12:00:00"));
        assert_eq!(state(&status), expected, "last scaled {last:?}");
    }
}

#[test]
fn a_failing_pod_that_is_missed_is_an_error() {
    let seen = with_pods(seen(0, 2, 1), &["evicted", "starting"]);
    let status = assess(&scaled(), &before(0, None), &seen, at("12:10:00"));
    assert_eq!(
        (state(&status), status.failing_pods),
        (State::WorkloadError, Some(1))
    );
}

#[test]
fn failing_pods_that_nobody_misses_are_no_error() {
    let mut seen = seen(5, 7, 5);
    seen.pods = vec![pod("runtime_crash_loop"), pod("evicted")];
    let status = assess(&scaled(), &before(5, None), &seen, at("12:10:00"));
    assert_eq!(
        (state(&status), status.failing_pods),
        (State::ScalingDown, Some(2))
    );
    assert_eq!(condition(&status, "WorkloadReady").status, "True");
}

#[test]
fn an_actor_that_is_scaled_to_zero_naps_even_while_a_pod_is_pending() {
    let seen = with_pods(seen(0, 0, 0), &["starting"]);
    let status = assess(&scaled(), &Status::default(), &seen, at("12:00:10"));
    assert_eq!(
        (state(&status), status.pending_replicas),
        (State::Napping, Some(1))
    );
    assert_eq!(
        condition(&status, "WorkloadReady").status,
        "True",
        "no pods, and none wanted"
    );
}

#[test]
fn an_actor_of_fixed_size_zero_runs() {
    let mut seen = seen(0, 0, 0);
    seen.scaling = None;
    assert_eq!(state_of(&manual(), &seen, "12:00:00"), State::Running);
}

#[test]
fn summaries_count_ready_pods_and_true_conditions() {
    let status = assess(&scaled(), &Status::default(), &seen(3, 5, 10), at("12:00:00"));
    let summaries = |status: &Status| {
        [
            status.ready_replicas_summary.clone().unwrap(),
            status.replicas_summary.clone().unwrap(),
            status.ready_summary.clone().unwrap(),
        ]
    };
    assert_eq!(summaries(&status), ["3/5", "3/10", "3/3"]);
    assert_eq!((status.replicas, status.ready_replicas), (Some(3), Some(3)));

    let mut nothing = seen(0, 0, 0);
    nothing.transport = fails("QueueError", "refused");
    nothing.workload = fails("ReconcileError", "not written");
    nothing.scaling = None;
    nothing.counts = None;
    let status = assess(&manual(), &Status::default(), &nothing, at("12:00:00"));
    assert_eq!(summaries(&status), ["0/0", "0/0", "0/2"]);
    assert_eq!(state(&status), State::TransportError);
    assert_eq!(status.replicas, None, "there is no workload to count");
}
