//! Requests that a worker runs though they were called back: the commands come too late, since what passes them on is
//! stopped for a while.

use std::time::Duration;

use asya_sidecar::Sidecar;

use crate::common::wait_for;
use crate::python::{Bench, ids};

/// `first` waits for long enough that `second`, which was written ahead, is called back.
const LATE: &str = r#"
import time
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    if payload == "first":
        time.sleep(0.8)
    if payload == "second":
        second()
    return payload
"#;

/// Many short calls, after which there is writing ahead, and the two.
async fn start(second: &str, bench: impl FnOnce(&mut Bench)) -> (Bench, Sidecar) {
    let module = format!("{LATE}{second}");
    let mut made = Bench::new(&module, &[("ASYA_CANCEL_GRACE", "200ms")]).await;
    bench(&mut made);
    for index in 0..300 {
        made.send(&index.to_string(), &index.to_string()).await;
    }
    made.send("first", r#""first""#).await;
    made.send("second", r#""second""#).await;
    let sidecar = made.sidecar().await;
    made.wait_for_line("calls", "first").await;
    made.python.signal("STOP");
    made.wait_for_line("calls", "second").await;
    (made, sidecar)
}

/// What was called back and runs all the same holds up what is sent after it, whose time does not run meanwhile.
#[tokio::test]
async fn who_waits_behind_a_ghost_loses_no_time_by_it() {
    const SECOND: &str = "
def second():
    time.sleep(2)
";
    let (bench, sidecar) = start(SECOND, |bench| {
        bench.config.runtime_timeout = Duration::from_secs(3);
    })
    .await;
    bench.python.signal("CONT");
    assert_eq!(ids(&bench.results().await).len(), 302);
    bench.done(sidecar).await;
}

#[tokio::test]
async fn a_ghost_that_hangs_is_killed_and_is_nobodys_fault() {
    const SECOND: &str = r#"
def second():
    with open("calls") as file:
        ran_before = file.read().count("second") > 1
    while not ran_before:
        time.sleep(1)
"#;
    let (bench, sidecar) = start(SECOND, |bench| {
        bench.config.runtime_timeout = Duration::from_millis(1500);
    })
    .await;
    bench.python.signal("CONT");
    wait_for("the second run", async || {
        bench
            .lines("calls")
            .iter()
            .filter(|call| *call == "second")
            .count()
            == 2
    })
    .await;
    assert_eq!(ids(&bench.results().await).len(), 302);
    bench.done(sidecar).await;
}
