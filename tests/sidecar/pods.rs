//! Both programs of a pod ended as a kubelet ends them, in either mode of the sidecar (contract operator §6.5).

use std::process::{Child, Command, Stdio};

use asya_tests::plant::{Plant, Pod, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::{Signal, real_python, wait_for};

const RUNTIME: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../runtime-protocol/python/asya_runtime.py"
);

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

const MESSAGES: usize = 20;

/// A pod in the middle of a call, with more work waiting.
fn busy<'a>(plant: &'a mut Plant<'_>, grace: &str) -> &'a mut Pod {
    plant.send(MESSAGES, &["one"]);
    let spec = Spec::python("one", HELD)
        .sidecar_env("ASYA_SHUTDOWN_GRACE", "10m")
        .runtime_env("ASYA_SHUTDOWN_GRACE", grace);
    let pod = plant.add(&spec);
    wait_for("the call", || (!pod.lines("calls").is_empty()).then_some(()));
    pod
}

/// Everything that was begun is at its end, once, and the rest is in the queue.
fn assert_nothing_lost(plant: &Plant<'_>) {
    let calls = plant.pods[0].lines("calls").len();
    assert!(calls < MESSAGES, "it was stopped in the middle");
    let (ended, left) = (calls as u64, (MESSAGES - calls) as u64);
    wait_for("the end of what ran", || {
        plant.depth("happy-end").filter(|depth| *depth == ended)
    });
    wait_for("the rest", || plant.depth("one").filter(|depth| *depth == left));
    assert_eq!(plant.depth("error-end"), Some(0));
}

/// The hook that the operator gives the runtime's container.
fn hook(pod: &Pod) -> Child {
    Command::new(real_python())
        .args([RUNTIME, "--drain"])
        .env("ASYA_SOCKET_DIR", pod.path(""))
        .env("ASYA_SHUTDOWN_GRACE", "10m")
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn ended(child: &mut Child) -> Option<i32> {
    wait_for("the end of the hook", || child.try_wait().unwrap()).code()
}

/// The hook and the sidecar's signal at the same time, the runtime's signal when the hook has ended.
#[test]
fn the_hook_holds_the_runtime_until_the_sidecar_has_drained() {
    let mut plant = Plant::new(Broker::shared());
    let pod = busy(&mut plant, "10m");
    let mut hook = hook(pod);
    pod.sidecar.signal(Signal::TERM);
    wait_for("the drain", || {
        pod.path("sidecar-draining").exists().then_some(())
    });
    assert_eq!(hook.try_wait().unwrap(), None, "a call is under way");
    pod.runtime.assert_running();
    std::fs::write(pod.path("go-on"), "").unwrap();
    assert_eq!(ended(&mut hook), Some(0));
    assert!(pod.path("sidecar-drained").exists());
    pod.runtime.signal(Signal::TERM);
    assert_eq!((pod.sidecar.wait(), pod.runtime.wait()), (Some(0), Some(0)));
    assert_nothing_lost(&plant);
}

/// A runtime whose container alone is restarted: its hook must not wait for a sidecar that goes on.
#[test]
fn the_hook_of_a_container_that_is_restarted_alone_does_not_wait() {
    let mut plant = Plant::new(Broker::shared());
    let pod = busy(&mut plant, "10m");
    assert_eq!(ended(&mut hook(pod)), Some(0));
    pod.runtime.signal(Signal::TERM);
    std::fs::write(pod.path("go-on"), "").unwrap();
    assert_eq!(pod.runtime.wait(), Some(0), "it needs not wait for its grace");
    pod.runtime.start_again();
    wait_for("the rest", || {
        plant.depth("happy-end").filter(|depth| *depth == MESSAGES as u64)
    });
    assert_eq!(plant.pods[0].lines("calls").len(), MESSAGES, "nothing ran twice");
    assert_eq!(plant.depth("error-end"), Some(0));
}

/// First the runtime is told, and the sidecar only when that has ended.
#[test]
fn a_native_sidecar_takes_the_end_of_its_runtime_for_a_drain() {
    for grace in ["0", "10m"] {
        let mut plant = Plant::new(Broker::shared());
        let pod = busy(&mut plant, grace);
        pod.runtime.signal(Signal::TERM);
        std::fs::write(pod.path("go-on"), "").unwrap();
        assert_eq!(pod.runtime.wait(), Some(0), "grace {grace}");
        pod.sidecar.signal(Signal::TERM);
        assert_eq!(pod.sidecar.wait(), Some(0), "grace {grace}");
        assert_nothing_lost(&plant);
    }
}
