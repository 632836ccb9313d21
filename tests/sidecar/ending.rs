//! How it ends: signals and exit codes. That nothing is lost by that is shown in `faults`.

use asya_tests::plant::{Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::{Signal, wait_for};

use crate::setup::{address, get, serving, texts, unready};

/// Never ends.
const HANG: &str = r#"
import time
def run(payload):
    open("called", "w").close()
    time.sleep(3600)
"#;

#[test]
fn a_signal_before_the_broker_is_there_is_a_good_end() {
    let (mut plant, proxy) = Plant::behind_proxy(Broker::shared());
    proxy.swallow();
    let pod = plant.add(&serving(Spec::native("one")));
    address(&mut pod.sidecar);
    pod.sidecar.signal(Signal::INT);
    assert_eq!(pod.sidecar.wait(), Some(0));
}

#[test]
fn a_signal_before_the_runtime_is_there_is_a_good_end() {
    let mut plant = Plant::new(Broker::shared());
    let pod = plant.add(&Spec::native("one").sidecar_env("ASYA_SOCKET_DIR", "/nowhere"));
    wait_for("the connection", || {
        texts(&pod.sidecar.log(), "INFO")
            .iter()
            .any(|line| line.contains("waiting for the runtime"))
            .then_some(())
    });
    pod.sidecar.signal(Signal::TERM);
    assert_eq!(pod.sidecar.wait(), Some(0));
}

#[test]
fn a_runtime_that_never_comes_is_a_bad_end() {
    let mut plant = Plant::new(Broker::shared());
    let spec = Spec::native("one")
        .sidecar_env("ASYA_SOCKET_DIR", "/nowhere")
        .sidecar_env("ASYA_RUNTIME_READY_TIMEOUT", "500ms");
    let sidecar = &mut plant.add(&spec).sidecar;
    assert_eq!(sidecar.wait(), Some(1));
    let errors = texts(&sidecar.log(), "ERROR");
    assert!(errors.len() == 1 && errors[0].contains("/nowhere"), "{errors:?}");
}

#[test]
fn draining_is_shown_and_ends_with_the_grace() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(1, &["one"]);
    let pod = plant.add(&serving(Spec::python("one", HANG)).sidecar_env("ASYA_SHUTDOWN_GRACE", "1s"));
    let at = address(&mut pod.sidecar);
    wait_for("the call", || pod.path("called").exists().then_some(()));
    pod.sidecar.signal(Signal::TERM);
    wait_for("the drain", || {
        unready(&at).first().filter(|it| it.contains("draining")).cloned()
    });
    assert_eq!(get(&at, "/livez").0, 200);
    assert_eq!(pod.sidecar.wait(), Some(0));
    let lines = texts(&plant.pods[0].sidecar.log(), "INFO");
    assert!(lines.iter().any(|line| line == "drained"), "{lines:?}");
    let mark = plant.pods[0].path("sidecar-drained");
    assert!(mark.exists(), "the runtime is told");
    wait_for("the return of the message", || {
        plant.depth("one").filter(|depth| *depth == 1)
    });
    plant.pods[0].sidecar.start_again();
    wait_for("the mark to be removed", || (!mark.exists()).then_some(()));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut plant = Plant::new(Broker::shared());
    plant.send(1, &["one"]);
    let pod = plant.add(&serving(Spec::python("one", HANG)).sidecar_env("ASYA_SHUTDOWN_GRACE", "10m"));
    let at = address(&mut pod.sidecar);
    wait_for("the call", || pod.path("called").exists().then_some(()));
    pod.sidecar.signal(Signal::TERM);
    wait_for("the drain", || {
        unready(&at).first().filter(|it| it.contains("draining")).cloned()
    });
    pod.sidecar.signal(Signal::TERM);
    assert_eq!(pod.sidecar.wait(), Some(143));
    wait_for("the return of the message", || {
        plant.depth("one").filter(|depth| *depth == 1)
    });
}
