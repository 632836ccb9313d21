//! Every value of the table, and which of two wins.

use std::collections::BTreeSet;

use asya_manifest::WorkloadKind;

use super::fixtures::{
    actor, at, before, condition, counts, fails, manual, pod, scaled, seen, state, state_of, with_pods,
    workload,
};
use crate::desired::Kind;
use crate::resource::AsyncActor;
use crate::status::{Observation, State, Status, assess, assess_unreadable};

/// Observations that give each value, and the actor and time for them.
fn examples() -> Vec<(State, crate::resource::Actor, Observation, &'static str)> {
    let one = |state, seen| (state, scaled(), seen, "12:10:00");
    let ailing = |state, name| one(state, with_pods(seen(0, 1, 1), &[name]));
    let mut deleting = scaled();
    deleting.is_deleting = true;
    let mut young = seen(0, 1, 1);
    young.counts.as_mut().unwrap().created = at("12:08:00");
    let mut queueless = seen(5, 5, 5);
    queueless.transport = fails("QueueError", "refused");
    let mut invalid = seen(5, 5, 5);
    invalid.workload = fails("ValidationError", "two runtimes");
    let mut unscaled = seen(5, 5, 5);
    unscaled.scaling = Some(fails("Conflict", "somebody else's"));
    let mut updating = seen(3, 4, 3);
    updating.counts.as_mut().unwrap().updated = 1;
    vec![
        (State::Terminating, deleting, seen(1, 1, 1), "12:10:00"),
        one(State::Creating, young),
        one(State::TransportError, queueless),
        ailing(State::PendingResources, "unschedulable"),
        ailing(State::ImagePullError, "image_pull_back_off"),
        ailing(State::RuntimeError, "runtime_crash_loop"),
        ailing(State::SidecarError, "sidecar_crash_loop"),
        ailing(State::VolumeError, "failed_mount_condition"),
        ailing(State::ConfigError, "missing_secret"),
        one(State::WorkloadError, invalid),
        one(State::ScalingError, unscaled),
        one(State::Napping, seen(0, 0, 0)),
        one(State::Updating, updating),
        one(State::ScalingUp, seen(1, 1, 2)),
        one(State::ScalingDown, seen(2, 2, 1)),
        one(State::Degraded, seen(0, 1, 1)),
        one(State::Running, seen(1, 1, 1)),
        (State::Unknown, manual(), seen(1, 0, 0), "12:10:00"),
    ]
}

#[test]
fn every_value_is_reachable() {
    let examples = examples();
    let reached: BTreeSet<_> = examples.iter().map(|(state, ..)| *state).collect();
    assert_eq!(reached, State::ALL.into_iter().collect());
    for (expected, actor, seen, now) in examples {
        assert_eq!(state_of(&actor, &seen, now), expected);
    }
}

#[test]
fn words_are_read_back_and_others_are_not() {
    for state in State::ALL {
        assert_eq!(State::parse(state.as_str()), Some(state));
        assert_eq!(state.to_string(), state.as_str());
    }
    assert_eq!(State::parse("WaitingDeps"), None);
    assert_eq!(State::parse("running"), None);
}

#[test]
fn rows_further_up_win() {
    let broken = fails("QueueError", "refused");
    let mut seen = with_pods(seen(0, 1, 1), &["runtime_crash_loop"]);
    seen.scaling = Some(fails("ReconcileError", "no KEDA"));
    assert_eq!(state_of(&scaled(), &seen, "12:10:00"), State::RuntimeError);
    seen.transport = broken;
    assert_eq!(state_of(&scaled(), &seen, "12:10:00"), State::TransportError);
    seen.workload = fails("ReconcileError", "refused");
    assert_eq!(state_of(&scaled(), &seen, "12:10:00"), State::TransportError);
    seen.workload = fails("ValidationError", "two runtimes");
    assert_eq!(state_of(&scaled(), &seen, "12:10:00"), State::WorkloadError);
    let mut deleting = scaled();
    deleting.is_deleting = true;
    assert_eq!(state_of(&deleting, &seen, "12:10:00"), State::Terminating);
}

#[test]
fn a_failed_write_of_the_workload_is_told_with_its_own_reason() {
    let mut seen = with_pods(seen(0, 1, 1), &["runtime_crash_loop"]);
    seen.workload = fails("ReconcileError", "the API server refuses it");
    let status = assess(&scaled(), &Status::default(), &seen, at("12:10:00"));
    assert_eq!(state(&status), State::WorkloadError);
    let workload = condition(&status, "WorkloadReady");
    assert_eq!(
        (workload.reason.as_str(), workload.message.as_str()),
        ("ReconcileError", "the API server refuses it")
    );
}

#[test]
fn an_actor_is_created_for_five_minutes_until_a_pod_is_ready() {
    let mut young = with_pods(seen(0, 1, 1), &["starting"]);
    young.counts.as_mut().unwrap().created = at("12:00:00");
    assert_eq!(state_of(&scaled(), &young, "12:04:59"), State::Creating);
    assert_eq!(
        state_of(&scaled(), &young, "12:05:00"),
        State::ScalingUp,
        "the pod is younger than that"
    );
    assert_eq!(state_of(&scaled(), &young, "12:05:05"), State::Degraded);
    let once_ready = assess(&scaled(), &before(0, Some("12:01:00")), &young, at("12:02:00"));
    assert_eq!(state(&once_ready), State::ScalingUp);
    young.counts = None;
    assert_eq!(
        state_of(&scaled(), &young, "12:30:00"),
        State::Creating,
        "there is no workload yet"
    );
}

#[test]
fn what_fails_for_certain_is_told_at_once() {
    let mut young = with_pods(seen(0, 1, 1), &["image_pull_back_off"]);
    young.counts.as_mut().unwrap().created = at("12:00:00");
    assert_eq!(state_of(&scaled(), &young, "12:00:30"), State::ImagePullError);
}

#[test]
fn a_new_actor_that_needs_no_pod_naps() {
    let mut young = seen(0, 0, 0);
    young.counts.as_mut().unwrap().created = at("12:00:00");
    let status = assess(&scaled(), &Status::default(), &young, at("12:00:01"));
    assert_eq!(state(&status), State::Napping);
    assert_eq!(condition(&status, "Ready").status, "True");
}

#[test]
fn waking_up_is_scaling_and_not_ready() {
    let status = assess(
        &scaled(),
        &before(0, Some("11:00:00")),
        &seen(0, 0, 1),
        at("12:00:00"),
    );
    assert_eq!(state(&status), State::ScalingUp);
    assert_eq!(condition(&status, "Ready").status, "False");
    assert_eq!(condition(&status, "WorkloadReady").status, "True");
}

#[test]
fn new_pods_of_an_old_actor_are_not_degraded_at_once() {
    let mut seen = seen(1, 2, 2);
    seen.pods = vec![pod("ready"), pod("starting")];
    let previous = before(1, Some("09:00:00"));
    let now = |time| state(&assess(&scaled(), &previous, &seen, at(time)));
    assert_eq!(now("12:00:30"), State::ScalingUp);
    assert_eq!(now("12:05:04"), State::ScalingUp);
    assert_eq!(now("12:05:05"), State::Degraded);
}

#[test]
fn an_update_is_shown_while_old_pods_are_there() {
    let of = |name| {
        let mut seen = seen(0, 0, 0);
        seen.counts = Some(workload(Kind::Deployment, name));
        state_of(&manual(), &seen, "12:30:00")
    };
    assert_eq!(of("deployment_rolling"), State::Updating);
    assert_eq!(of("deployment_unobserved"), State::Updating);
    assert_eq!(of("deployment_stalled"), State::Degraded);
    assert_eq!(of("deployment"), State::Running);
}

#[test]
fn a_change_of_size_that_nobody_has_looked_at_is_no_update() {
    let mut seen = seen(3, 3, 10);
    seen.counts.as_mut().unwrap().is_observed = false;
    assert_eq!(state_of(&scaled(), &seen, "12:00:00"), State::ScalingUp);
}

#[test]
fn pods_that_a_quota_forbids_are_an_error_with_the_quota_in_it() {
    let mut seen = seen(0, 0, 1);
    seen.counts = Some(workload(Kind::Deployment, "deployment_over_quota"));
    let status = assess(&scaled(), &Status::default(), &seen, at("12:05:10"));
    assert_eq!(state(&status), State::WorkloadError);
    assert!(
        condition(&status, "WorkloadReady")
            .message
            .contains("exceeded quota: gpus")
    );
}

#[test]
fn a_workload_without_any_pod_is_an_error_after_a_minute() {
    let mut seen = seen(0, 0, 1);
    seen.counts.as_mut().unwrap().unavailable_since = Some(at("12:00:00"));
    assert_eq!(state_of(&scaled(), &seen, "12:00:59"), State::ScalingUp);
    assert_eq!(state_of(&scaled(), &seen, "12:01:00"), State::WorkloadError);
    let status = assess(&scaled(), &Status::default(), &seen, at("12:01:00"));
    assert!(
        condition(&status, "WorkloadReady")
            .message
            .contains("no pods found")
    );
}

#[test]
fn an_autoscaler_says_what_is_wanted_unless_the_workload_is_at_zero() {
    let desired = |actor: &_, seen: &_| {
        assess(actor, &Status::default(), seen, at("12:00:00"))
            .desired_replicas
            .unwrap()
    };
    let mut seen = seen(3, 3, 3);
    seen.scaler_desired = Some(10);
    assert_eq!(desired(&scaled(), &seen), 10);
    assert_eq!(
        desired(&manual(), &seen),
        3,
        "a number of an autoscaler that is going"
    );
    seen.scaler_desired = Some(0);
    assert_eq!(desired(&scaled(), &seen), 3);
    seen.scaler_desired = Some(1);
    seen.counts = Some(counts(0, 0, 0));
    assert_eq!(desired(&scaled(), &seen), 0);
    assert_eq!(state_of(&scaled(), &seen, "12:00:00"), State::Napping);
}

#[test]
fn jobs_end_and_fail() {
    let job = actor(false, WorkloadKind::Job);
    let of = |name, now| {
        let mut seen = seen(0, 0, 0);
        seen.counts = Some(workload(Kind::Job, name));
        seen.scaling = None;
        assess(&job, &before(0, None), &seen, at(now))
    };
    assert_eq!(state(&of("job_running", "12:01:00")), State::ScalingUp);
    let complete = of("job_complete", "12:10:00");
    assert_eq!(state(&complete), State::Napping);
    assert_eq!(condition(&complete, "Ready").message, "the Job is complete");
    let failed = of("job_failed", "12:30:00");
    assert_eq!(state(&failed), State::WorkloadError);
    assert!(
        condition(&failed, "WorkloadReady")
            .message
            .contains("BackoffLimitExceeded")
    );
}

#[test]
fn jobs_of_a_scaler_are_counted_by_their_pods() {
    let job = actor(true, WorkloadKind::Job);
    let mut seen = with_pods(seen(0, 0, 0), &["native_sidecar_ready", "succeeded", "deleting"]);
    seen.counts = Some(workload(Kind::ScaledJob, "scaled_job"));
    let status = assess(&job, &before(1, None), &seen, at("12:30:00"));
    assert_eq!(state(&status), State::Running);
    assert_eq!(
        (status.replicas, status.total_replicas, status.desired_replicas),
        (Some(1), Some(1), Some(1))
    );
    seen.pods.clear();
    assert_eq!(
        state(&assess(&job, &before(0, None), &seen, at("12:30:00"))),
        State::Napping
    );
}

#[test]
fn a_spec_that_cannot_be_read_has_a_status_too() {
    let mut object = AsyncActor {
        spec: serde_json::json!({"transport": 5, "scaling": {"enabled": true}}),
        ..AsyncActor::default()
    };
    object.metadata.generation = Some(2);
    let mut seen = seen(1, 1, 1);
    seen.workload = fails("ValidationError", "spec.transport: a number");
    seen.scaling = None;
    let status = assess_unreadable(&object, &Status::default(), &seen, at("12:00:00"));
    assert_eq!(state(&status), State::WorkloadError);
    assert_eq!(status.observed_generation, Some(2));
    assert_eq!(status.scaling_mode.as_deref(), Some("KEDA"));
    assert_eq!(condition(&status, "Ready").message, "spec.transport: a number");
}
