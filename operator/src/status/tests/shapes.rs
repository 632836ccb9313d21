//! API objects, reduced.

use super::fixtures::{at, pod, recorded, workload};
use crate::desired::Kind;
use crate::status::{Exit, Pod, WorkloadCounts};

#[test]
fn a_deployment_says_its_numbers() {
    let counts = workload(Kind::Deployment, "deployment_rolling");
    let expected = WorkloadCounts {
        desired: 3,
        total: 4,
        ready: 3,
        updated: 1,
        is_observed: true,
        created: at("12:00:00"),
        ..WorkloadCounts::default()
    };
    assert_eq!(counts, expected);
    assert!(workload(Kind::Deployment, "deployment_stalled").is_stalled);
    assert!(!workload(Kind::Deployment, "deployment_unobserved").is_observed);
    let new = workload(Kind::Deployment, "deployment_new");
    assert_eq!((new.desired, new.total, new.is_observed), (1, 0, false));
    let full = workload(Kind::Deployment, "deployment_over_quota");
    assert_eq!(full.unavailable_since, Some(at("12:05:00")));
    assert!(full.trouble.unwrap().starts_with("FailedCreate: pods "));
    assert_eq!(workload(Kind::Deployment, "deployment_zero").desired, 0);
}

#[test]
fn other_workloads_say_their_numbers() {
    let set = workload(Kind::StatefulSet, "stateful_set");
    assert_eq!((set.desired, set.total, set.ready, set.updated), (2, 2, 1, 2));
    let running = workload(Kind::Job, "job_running");
    assert_eq!(
        (running.desired, running.total, running.ready, running.updated),
        (2, 2, 1, 2)
    );
    assert!(running.is_observed && !running.is_complete);
    let complete = workload(Kind::Job, "job_complete");
    assert_eq!(
        (complete.desired, complete.total, complete.is_complete),
        (0, 0, true)
    );
    let failed = workload(Kind::Job, "job_failed");
    assert_eq!(
        failed.trouble.as_deref(),
        Some("BackoffLimitExceeded: Job has reached the specified backoff limit")
    );
    let mut suspended = recorded("workloads", "job_running");
    suspended["spec"]["suspend"] = true.into();
    assert_eq!(WorkloadCounts::read(Kind::Job, &suspended).desired, 0);
}

#[test]
fn whatever_a_workload_holds_is_read_without_a_panic() {
    for text in [
        "null",
        "[]",
        "{\"spec\":5,\"status\":\"x\"}",
        "{\"status\":{\"conditions\":[1,{}],\"replicas\":-3}}",
    ] {
        let object = serde_json::from_str(text).unwrap();
        for kind in Kind::ALL {
            assert_eq!(WorkloadCounts::read(kind, &object).total, 0, "{text}");
        }
    }
}

#[test]
fn a_pod_is_reduced_to_what_its_health_follows_from() {
    let pod = pod("oom_killed_running");
    assert_eq!(pod.name, "summarize-6d5f7c9b84-s6b4m");
    assert_eq!(
        (pod.created, pod.is_deleting, pod.phase.as_str()),
        (at("12:00:00"), false, "Running")
    );
    let runtime = &pod.containers[0];
    assert_eq!(
        (runtime.name.as_str(), runtime.restarts, runtime.is_ready),
        ("asya-runtime", 9, true)
    );
    assert_eq!(runtime.running_since, Some(at("12:15:00")));
    let exit = Exit {
        code: 137,
        reason: "OOMKilled".to_owned(),
        at: Some(at("12:10:00")),
    };
    assert_eq!(runtime.last_exit, Some(exit));
    assert!(!runtime.is_over);
}

#[test]
fn init_containers_come_first() {
    let pod = pod("native_sidecar_ready");
    let names: Vec<_> = pod
        .containers
        .iter()
        .map(|container| (container.name.as_str(), container.is_init))
        .collect();
    assert_eq!(names, [("asya-sidecar", true), ("asya-runtime", false)]);
}

#[test]
fn an_empty_pod_can_be_read() {
    let pod = Pod::read(&k8s_openapi::api::core::v1::Pod::default());
    assert!(pod.containers.is_empty() && !pod.is_ready());
}
