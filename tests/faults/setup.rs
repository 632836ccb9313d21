//! What the tests share: handlers, and a route of three actors.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use asya_tests::plant::{Plant, Spec};
use asya_tests::rabbitmq::Broker;

/// Messages that each sidecar of [`three_actors`] may hold: what one kill may repeat.
pub(crate) const PREFETCH: usize = 16;

/// How often messages may be repeated when all three sidecars lose their connections: each message in hand comes
/// again, and its result may have been on its way without a confirm, so that it is sent again too.
pub(crate) const ALL_HELD: usize = 3 * PREFETCH * 2;

/// Classic queues write acknowledgements down with the next confirmed message, or when they have nothing else to do
/// (measured: within 300 ms). A node that is killed before gives again what was acknowledged since: more than what
/// the sidecars held. Our first queue is filled before the work begins, so it has only acknowledgements to write.
pub(crate) const NOT_WRITTEN: usize = 600;

/// The route of [`three_actors`].
pub(crate) const ROUTE: [&str; 3] = ["one", "two", "three"];

/// Answers each payload with itself and writes its number to the file `calls`.
pub(crate) const COUNT: &str = r#"
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload["number"])
    return payload
"#;

/// As [`COUNT`], but waits until the file `open` exists.
pub(crate) const GATE: &str = r#"
import os, time
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload["number"])
    while not os.path.exists("open"):
        time.sleep(0.01)
    return payload
"#;

/// Always fails, and counts as [`COUNT`] does.
pub(crate) const FAIL: &str = r#"
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload["number"])
    raise ValueError("never")
"#;

/// The protocol between sidecars and runtimes, as the variable `ASYA_RUNTIME_PROTOCOL` names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol(pub(crate) &'static str);

/// v2, as all tests that do not say otherwise.
pub(crate) const AUTO: Protocol = Protocol("auto");
/// v1, as with runtimes of the original.
pub(crate) const V1: Protocol = Protocol("v1");

/// An installation whose sidecars speak so with their runtimes.
pub(crate) fn plant(protocol: Protocol) -> Plant<'static> {
    let mut plant = Plant::new(Broker::shared());
    plant.set_env("ASYA_RUNTIME_PROTOCOL", protocol.0);
    plant
}

/// Starts three actors, the second one in Python.
pub(crate) fn three_actors(plant: &mut Plant) {
    plant.set_env("ASYA_RABBITMQ_PREFETCH", &PREFETCH.to_string());
    plant.add(&Spec::native("one"));
    plant.add(&Spec::python("two", COUNT));
    plant.add(&Spec::native("three"));
}

/// A node that tests may kill, for one test at a time: until the guard is dropped.
pub(crate) fn node() -> MutexGuard<'static, Broker> {
    static NODE: OnceLock<Mutex<Broker>> = OnceLock::new();
    let node = NODE.get_or_init(|| Mutex::new(Broker::start(None)));
    node.lock().unwrap_or_else(PoisonError::into_inner)
}
