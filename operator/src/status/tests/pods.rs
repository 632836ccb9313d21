//! Recorded pods, and what they make of an actor.

use jiff::Timestamp;

use super::fixtures::{at, condition, manual, pod, seen, state, state_of, with_pods};
use crate::status::health::{Ailment, Health, examine};
use crate::status::{Pod, PodNote, State, Status, assess};

#[derive(Debug, PartialEq)]
enum Is {
    Over,
    Ready,
    Shaky(Ailment),
    Pending,
    Failing(Ailment),
}

fn examined(pod: &Pod, now: Timestamp) -> Is {
    match examine(pod, now) {
        Health::Over => Is::Over,
        Health::Ready(None) => Is::Ready,
        Health::Ready(Some(complaint)) => Is::Shaky(complaint.ailment),
        Health::Pending => Is::Pending,
        Health::Failing(complaint) => Is::Failing(complaint.ailment),
    }
}

#[test]
fn every_recorded_pod_is_judged_by_what_kubelet_reports() {
    use Is::{Failing, Over, Pending, Ready, Shaky};
    let cases = [
        ("ready", "12:00:10", Ready),
        ("starting", "12:00:10", Pending),
        ("accepted", "12:00:01", Pending),
        ("runtime_crash_loop", "12:01:20", Failing(Ailment::Runtime)),
        ("sidecar_crash_loop", "12:03:50", Failing(Ailment::Sidecar)),
        ("helper_crash_loop", "12:00:50", Failing(Ailment::Other)),
        ("init_crash_loop", "12:02:20", Failing(Ailment::Other)),
        ("image_pull_back_off", "12:00:30", Failing(Ailment::Image)),
        ("err_image_pull", "12:00:30", Failing(Ailment::Image)),
        ("invalid_image_name", "12:00:30", Failing(Ailment::Image)),
        ("unschedulable", "12:00:01", Failing(Ailment::Unschedulable)),
        ("creating_containers", "12:00:59", Pending),
        ("creating_containers", "12:01:00", Failing(Ailment::Other)),
        ("failed_mount_condition", "12:00:30", Failing(Ailment::Volume)),
        (
            "missing_config_map_condition",
            "12:00:30",
            Failing(Ailment::Config),
        ),
        ("missing_config_map_key", "12:00:30", Failing(Ailment::Config)),
        ("missing_secret", "12:00:30", Failing(Ailment::Config)),
        ("create_container_error", "12:00:30", Failing(Ailment::Other)),
        ("run_container_error", "12:00:30", Failing(Ailment::Runtime)),
        ("oom_killed_waiting", "12:12:00", Failing(Ailment::Runtime)),
        ("oom_killed_now", "12:10:00", Failing(Ailment::Runtime)),
        ("oom_killed_running", "12:24:59", Shaky(Ailment::Runtime)),
        ("oom_killed_running", "12:25:00", Ready),
        ("succeeded", "12:04:01", Over),
        ("failed", "12:13:59", Failing(Ailment::Runtime)),
        ("failed", "12:14:00", Over),
        ("evicted", "12:15:59", Failing(Ailment::Other)),
        ("evicted", "12:16:00", Over),
        ("deleting", "12:08:10", Over),
        ("native_sidecar_ready", "12:00:10", Ready),
        ("native_sidecar_crash_loop", "12:01:20", Failing(Ailment::Sidecar)),
        ("init_recovered", "12:09:01", Ready),
    ];
    for (name, now, expected) in &cases {
        assert_eq!(examined(&pod(name), at(now)), *expected, "{name} at {now}");
    }
    let folder = format!("{}/tests/fixtures/pods", env!("CARGO_MANIFEST_DIR"));
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".json").unwrap();
        assert!(
            cases.iter().any(|(case, ..)| *case == name),
            "{name} is judged by no case"
        );
    }
}

#[test]
fn what_ails_the_pods_names_the_state_the_container_and_the_pod() {
    let cases: [(&str, State, &[&str]); 12] = [
        (
            "runtime_crash_loop",
            State::RuntimeError,
            &["asya-runtime", "CrashLoopBackOff", "summarize-6d5f7c9b84-7bmtw"],
        ),
        (
            "sidecar_crash_loop",
            State::SidecarError,
            &["asya-sidecar", "CrashLoopBackOff"],
        ),
        (
            "native_sidecar_crash_loop",
            State::SidecarError,
            &["asya-sidecar", "CrashLoopBackOff"],
        ),
        (
            "helper_crash_loop",
            State::WorkloadError,
            &["model-cache", "CrashLoopBackOff", "exit code 127"],
        ),
        (
            "image_pull_back_off",
            State::ImagePullError,
            &["ImagePullBackOff", "summarize:nope"],
        ),
        (
            "invalid_image_name",
            State::ImagePullError,
            &["InvalidImageName", "Models/summarize:1"],
        ),
        (
            "unschedulable",
            State::PendingResources,
            &["3 Insufficient nvidia.com/gpu"],
        ),
        (
            "failed_mount_condition",
            State::VolumeError,
            &["MountVolume", "weights"],
        ),
        (
            "missing_config_map_condition",
            State::ConfigError,
            &["configmap \"summarize-settings\" not found"],
        ),
        (
            "missing_secret",
            State::ConfigError,
            &["secret \"openai-key\" not found"],
        ),
        (
            "oom_killed_waiting",
            State::RuntimeError,
            &["restarted 8 times", "OOMKilled"],
        ),
        (
            "create_container_error",
            State::WorkloadError,
            &["no command specified"],
        ),
    ];
    for (name, expected, texts) in cases {
        let mut seen = with_pods(seen(0, 1, 1), &[name]);
        seen.scaling = None;
        let status = assess(&manual(), &Status::default(), &seen, at("12:12:00"));
        assert_eq!(state(&status), expected, "{name}");
        assert_eq!(
            (status.failing_pods, status.pending_replicas),
            (Some(1), Some(0)),
            "{name}"
        );
        let workload = condition(&status, "WorkloadReady");
        assert_eq!(
            (workload.status.as_str(), workload.reason.as_str()),
            ("False", "PodsNotHealthy")
        );
        for text in texts {
            assert!(
                workload.message.contains(text),
                "{name}: {} lacks {text}",
                workload.message
            );
        }
        let ready = condition(&status, "Ready");
        assert_eq!(
            (ready.status.as_str(), ready.reason.as_str()),
            ("False", expected.as_str())
        );
        assert_eq!(ready.message, workload.message);
    }
}

#[test]
fn a_pull_that_is_tried_and_waited_for_in_turns_reads_the_same() {
    let message = |name| {
        let seen = with_pods(seen(0, 1, 1), &[name]);
        let status = assess(&manual(), &Status::default(), &seen, at("12:05:00"));
        condition(&status, "WorkloadReady").message.clone()
    };
    assert_eq!(message("image_pull_back_off"), message("err_image_pull"));
}

#[test]
fn many_restarts_are_an_error_until_ten_minutes_without_a_crash() {
    let seen = with_pods(seen(1, 1, 1), &["oom_killed_running"]);
    assert_eq!(state_of(&manual(), &seen, "12:24:59"), State::RuntimeError);
    assert_eq!(state_of(&manual(), &seen, "12:25:00"), State::Running);
    let status = assess(&manual(), &Status::default(), &seen, at("12:20:00"));
    assert_eq!(
        (status.replicas, status.failing_pods),
        (Some(1), Some(0)),
        "it is ready for now"
    );
}

#[test]
fn one_failing_pod_of_a_hundred_leaves_the_actor_working() {
    let mut pods: Vec<_> = (0..99).map(|_| pod("ready")).collect();
    pods.push(pod("runtime_crash_loop"));
    let mut seen = seen(99, 100, 100);
    seen.pods = pods;
    let status = assess(&manual(), &Status::default(), &seen, at("12:01:20"));
    assert_eq!((state(&status), status.failing_pods), (State::ScalingUp, Some(1)));
    assert_eq!(condition(&status, "WorkloadReady").status, "True");
    seen.pods.truncate(90);
    seen.pods.extend((0..10).map(|_| pod("runtime_crash_loop")));
    seen.counts.as_mut().unwrap().ready = 90;
    assert_eq!(state_of(&manual(), &seen, "12:01:20"), State::RuntimeError);
}

#[test]
fn an_update_whose_new_pods_all_fail_is_an_error_although_old_ones_serve() {
    let mut seen = with_pods(seen(3, 4, 3), &["ready", "ready", "ready", "image_pull_back_off"]);
    seen.counts.as_mut().unwrap().updated = 1;
    assert_eq!(state_of(&manual(), &seen, "12:01:20"), State::ImagePullError);
    seen.pods[3] = pod("starting");
    assert_eq!(state_of(&manual(), &seen, "12:01:20"), State::Updating);
}

#[test]
fn what_ails_most_pods_decides_whatever_their_order() {
    let names = [
        "image_pull_back_off",
        "runtime_crash_loop",
        "sidecar_crash_loop",
        "oom_killed_waiting",
    ];
    let status_of = |names: &[&str]| {
        let seen = with_pods(seen(0, 4, 4), names);
        assess(&manual(), &Status::default(), &seen, at("12:12:00"))
    };
    let status = status_of(&names);
    let mut reversed = names;
    reversed.reverse();
    assert_eq!(status, status_of(&reversed));
    assert_eq!(state(&status), State::RuntimeError);
    let message = &condition(&status, "WorkloadReady").message;
    assert!(
        message.contains("-7bmtw") && message.contains("(and 1 more like it)"),
        "{message}"
    );
}

#[test]
fn events_of_kubelet_explain_a_pod_that_cannot_start() {
    let note = |reason: &str, message: &str| PodNote {
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let mut stuck = pod("creating_containers");
    assert!(!stuck.is_stuck(at("12:00:59")) && stuck.is_stuck(at("12:01:00")));
    for (reason, message, expected) in [
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"w\" : mount failed",
            State::VolumeError,
        ),
        (
            "FailedMount",
            "Unable to attach or mount volumes: timed out",
            State::VolumeError,
        ),
        (
            "FailedAttachVolume",
            "Multi-Attach error for volume \"pvc-1\"",
            State::VolumeError,
        ),
        (
            "FailedMount",
            "MountVolume.SetUp failed for volume \"s\" : secret \"key\" not found",
            State::ConfigError,
        ),
        (
            "FailedCreatePodSandBox",
            "network plugin is not ready",
            State::WorkloadError,
        ),
    ] {
        stuck.notes = vec![note(reason, message)];
        assert!(!stuck.is_stuck(at("12:02:00")), "it is known already");
        let mut seen = seen(0, 1, 1);
        seen.pods = vec![stuck.clone()];
        let status = assess(&manual(), &Status::default(), &seen, at("12:02:00"));
        assert_eq!(state(&status), expected, "{message}");
        assert!(condition(&status, "WorkloadReady").message.contains(message));
    }
}
