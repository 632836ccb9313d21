//! Runtimes that end as a whole and come back.

use crate::common::{PATIENCE, wait_for};
use crate::python::{Bench, ids};

const COUNT: &str = r#"
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    return payload
"#;

#[tokio::test]
async fn a_killed_runtime_that_comes_back_costs_at_most_the_message_in_its_hands() {
    let mut bench = Bench::new(COUNT, &[]).await;
    let sidecar = bench.sidecar().await;
    for round in 0..3 {
        let done = bench.house.depth("sink").await + bench.house.depth("error-end").await;
        for index in 0..200 {
            bench
                .send(&format!("{round}-{index}"), &format!("\"{round}-{index}\""))
                .await;
        }
        wait_for("some of it", async || bench.house.depth("sink").await > done + 20).await;
        bench.python.signal("KILL");
        bench.python.start_again().await;
    }
    bench.house.wait_empty("work").await;
    let errors = bench.house.take_all("error-end").await;
    let results = bench.results().await;
    assert!(errors.len() <= 3, "{} errors", errors.len());
    assert_eq!(ids(&results).len() + errors.len(), 600, "each has one end");
    assert_eq!(results.len() + errors.len(), 600, "and only one");
    bench.done(sidecar).await;
}

#[tokio::test]
async fn a_runtime_that_is_asked_to_end_waits_for_the_goodbye() {
    let mut bench = Bench::new(COUNT, &[("ASYA_SHUTDOWN_GRACE", "60s")]).await;
    let sidecar = bench.sidecar().await;
    bench.send("before", "1").await;
    wait_for("the first", async || bench.house.depth("sink").await == 1).await;
    bench.python.signal("TERM");
    for index in 0..100 {
        bench.send(&index.to_string(), "1").await;
    }
    assert_eq!(bench.results().await.len(), 101, "it serves on");
    assert_eq!(sidecar.drain(PATIENCE).await.returned, 0);
    assert_eq!(bench.python.ended().await, Some(0));
}
