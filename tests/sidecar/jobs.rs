//! Pods that end by themselves, on a real broker: `ASYA_RUN_UNTIL`.

use asya_tests::plant::{Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::{Signal, wait_for};

use crate::setup::texts;

/// Notes each call.
const COUNTED: &str = r#"
def run(payload):
    with open("calls", "a") as file:
        file.write("call\n")
    return payload
"#;

/// Notes each call, and ends with the file `go-on`.
const HELD: &str = r#"
import os, time
def run(payload):
    with open("calls", "a") as file:
        file.write("call\n")
    while not os.path.exists("go-on"):
        time.sleep(0.01)
    return payload
"#;

fn job(module: &str, until: &str) -> Spec {
    Spec::python("one", module)
        .sidecar_env("ASYA_RUN_UNTIL", until)
        .runtime_env("ASYA_RUN_UNTIL", "done")
}

#[test]
fn a_job_works_until_its_queue_is_empty_and_both_programs_end_well() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(200, &["one"]);
    let pod = plant.add(&job(COUNTED, "empty"));
    assert_eq!(pod.runtime.wait(), Some(0));
    assert_eq!(pod.sidecar.wait(), Some(0));
    assert_eq!(pod.lines("calls").len(), 200);
    assert!(pod.path("work-done").exists() && pod.path("sidecar-drained").exists());
    assert_eq!(plant.depth("one"), Some(0));
    assert_eq!(plant.depth("happy-end"), Some(200));
}

#[test]
fn a_job_of_one_message_leaves_the_others_as_they_were() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(3, &["one"]);
    let pod = plant.add(&job(COUNTED, "one"));
    assert_eq!(pod.runtime.wait(), Some(0));
    assert_eq!(pod.sidecar.wait(), Some(0));
    assert_eq!(pod.lines("calls").len(), 1);
    assert_eq!(plant.depth("happy-end"), Some(1));
    wait_for("the others", || plant.depth("one").filter(|depth| *depth == 2));
}

#[test]
fn as_many_jobs_as_messages_do_one_each_and_one_more_finds_none() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(2, &["one"]);
    for _ in 0..3 {
        plant.add(&job(COUNTED, "one"));
    }
    for pod in &mut plant.pods {
        assert_eq!(pod.runtime.wait(), Some(0));
        assert_eq!(pod.sidecar.wait(), Some(0));
        assert!(pod.lines("calls").len() <= 1, "one message at most");
    }
    assert_eq!((plant.depth("one"), plant.depth("happy-end")), (Some(0), Some(2)));
}

/// A kubelet starts a native sidecar again for as long as the pod lives.
#[test]
fn a_sidecar_that_is_started_again_after_its_work_takes_nothing_more() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(2, &["one"]);
    let pod = plant.add(&job(COUNTED, "one"));
    assert_eq!(pod.runtime.wait(), Some(0));
    assert_eq!(pod.sidecar.wait(), Some(0));
    pod.sidecar.start_again();
    assert_eq!(pod.sidecar.wait(), Some(0));
    let said = texts(&pod.sidecar.log(), "INFO");
    assert!(
        said.iter()
            .any(|line| line.contains("done by the sidecar before")),
        "{said:?}"
    );
    assert_eq!(pod.lines("calls").len(), 1);
    wait_for("the other message", || {
        plant.depth("one").filter(|depth| *depth == 1)
    });
}

/// As a kubelet ends a pod with a native sidecar: first the runtime, then, when it is gone, the sidecar.
#[test]
fn a_job_that_is_stopped_before_its_end_is_no_success_and_loses_nothing() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(20, &["one"]);
    let pod = plant.add(&job(HELD, "empty"));
    wait_for("the call", || (!pod.lines("calls").is_empty()).then_some(()));
    pod.runtime.signal(Signal::TERM);
    std::fs::write(pod.path("go-on"), "").unwrap();
    assert_eq!(pod.runtime.wait(), Some(143), "there is work left");
    pod.sidecar.signal(Signal::TERM);
    assert_eq!(pod.sidecar.wait(), Some(0));
    assert!(!pod.path("work-done").exists());
    let calls = pod.lines("calls").len() as u64;
    wait_for("what ran to be at its end", || {
        plant.depth("happy-end").filter(|depth| *depth == calls)
    });
    wait_for("the rest", || {
        plant.depth("one").filter(|depth| *depth == 20 - calls)
    });
}

#[test]
fn a_runtime_that_serves_on_is_named_and_does_not_keep_the_sidecar() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(1, &["one"]);
    let spec = Spec::python("one", COUNTED)
        .sidecar_env("ASYA_RUN_UNTIL", "empty")
        .sidecar_env("ASYA_SHUTDOWN_GRACE", "500ms");
    let pod = plant.add(&spec);
    assert_eq!(pod.sidecar.wait(), Some(0));
    let warnings = texts(&pod.sidecar.log(), "WARN");
    assert!(
        warnings.iter().any(|line| line.contains("ASYA_RUN_UNTIL=done")),
        "{warnings:?}"
    );
}
