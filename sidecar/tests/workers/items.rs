//! Items of streams that cannot be sent at once, or not at all.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asya_sidecar::{Event, Fault, FinalReport, Part, Progress, ReportError, Reporter};
use asya_transport::QueueName;
use futures::future::BoxFuture;

use crate::common::{PATIENCE, envelope, wait_for};
use crate::python::{Bench, ids};

/// Longer than any test waits.
const FOR_EVER: Duration = Duration::from_hours(1);

/// Keeps the ids of the children that it was told about.
#[derive(Default)]
struct Children(Mutex<BTreeSet<String>>);

impl Children {
    fn seen(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Reporter for Children {
    fn progress(&self, progress: Progress) {
        if let Event::Child { id, .. } = progress.event {
            self.0.lock().unwrap().insert(id);
        }
    }

    fn finish(&self, _: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        Box::pin(async { Ok(()) })
    }
}

async fn declare(bench: &Bench, actor: &str) {
    let administration = bench.house.transport.administration();
    administration
        .declare(&QueueName::for_actor(actor))
        .await
        .unwrap();
}

/// The first run makes eight items and ends its worker as soon as it may, the second makes two.
const LESS_AND_LESS: &str = r#"
import asyncio, os
async def run(payload):
    if payload != "stream":
        with open("neighbours", "a") as file:
            file.write("called\n")
        while not os.path.exists("open"):
            await asyncio.sleep(0.01)
        yield payload
        return
    with open("calls", "a") as file:
        file.write("stream\n")
    with open("calls") as file:
        is_first = len(file.readlines()) == 1
    for item in range(8 if is_first else 2):
        yield item
    while is_first:
        if os.path.exists("die"):
            os._exit(1)
        await asyncio.sleep(0.01)
"#;

/// Whoever was told of a child waits for it, also if no later run makes it again.
#[tokio::test]
async fn what_was_announced_is_published_whatever_becomes_of_the_worker_or_the_slot() {
    for is_killed in [false, true] {
        let environment = [("ASYA_CONCURRENCY", "2"), ("ASYA_CANCEL_GRACE", "200ms")];
        let mut bench = Bench::new(LESS_AND_LESS, &environment).await;
        bench.config.unroutable_patience = FOR_EVER;
        let children = Arc::new(Children::default());
        let sidecar = bench.reporting(Arc::<Children>::clone(&children)).await;
        bench.send("neighbour", r#""neighbour""#).await;
        wait_for("the neighbour to run", async || sidecar.snapshot().calls == 1).await;
        let stream = envelope("e", &["work", "later"], r#""stream""#);
        bench.house.publish("work", stream).await;
        wait_for("the items", async || children.seen().len() == 7).await;
        if is_killed {
            assert!(sidecar.inject(Part::Slot, Fault::Kill));
        } else {
            std::fs::write(bench.path("die"), "").unwrap();
        }
        // Only then both are lost together: a call that is alone when its worker ends has failed of it.
        wait_for("the neighbour's second run", async || {
            bench.lines("neighbours").len() == 2
        })
        .await;
        std::fs::write(bench.path("open"), "").unwrap();
        wait_for("the second run", async || bench.lines("calls").len() == 2).await;
        wait_for("the neighbour", async || bench.house.depth("work").await == 1).await;
        declare(&bench, "later").await;
        bench.house.wait_empty("work").await;
        let mut expected = children.seen();
        expected.insert("e".to_owned());
        assert_eq!(ids(&bench.house.take_all("later").await), expected, "{is_killed}");
        bench.done(sidecar).await;
    }
}

#[tokio::test]
async fn a_slot_serves_on_while_items_of_a_lost_worker_wait_for_their_queue() {
    const MODULE: &str = r#"
import os
def run(payload):
    for item in range(3):
        yield item
    if payload == "die":
        os._exit(1)
"#;
    let mut bench = Bench::new(MODULE, &[]).await;
    bench.config.unroutable_patience = FOR_EVER;
    let sidecar = bench.sidecar().await;
    let die = envelope("e", &["work", "later"], r#""die""#);
    bench.house.publish("work", die).await;
    bench.send("next", "1").await;
    wait_for("the next one", async || bench.house.depth("sink").await == 3).await;
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("e-3", "worker_died")
    );
    wait_for("the next one to be settled, and it alone", async || {
        bench.house.depth("work").await == 1
    })
    .await;
    declare(&bench, "later").await;
    bench.house.wait_empty("work").await;
    assert_eq!(bench.house.take_all("later").await.len(), 3);
    assert_eq!(bench.results().await.len(), 3);
    bench.done(sidecar).await;
}

/// Its handler goes on for long, in one case without looking up; who comes after it must not pay for that.
#[tokio::test]
async fn items_that_are_too_large_cost_their_own_message_and_no_other() {
    const MODULE: &str = r#"
import time
def run(payload):
    yield payload
    if payload in ("listens", "deaf"):
        yield "x" * 300000
    for _ in range(1000):
        if payload == "listens":
            time.sleep(0.06)
            yield payload
    if payload == "deaf":
        time.sleep(60)
"#;
    let mut bench = Bench::new(MODULE, &[("ASYA_CANCEL_GRACE", "500ms")]).await;
    bench.config.max_message_size = 100_000;
    bench.config.runtime_timeout = Duration::from_secs(3);
    let sidecar = bench.sidecar().await;
    for id in ["listens", "healthy", "deaf", "other"] {
        bench.send(id, &format!("\"{id}\"")).await;
    }
    let mut errors = bench.errors(2).await;
    errors.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(
        (errors[0].0.as_str(), errors[1].0.as_str()),
        ("deaf-1", "listens-1")
    );
    for (_, error, _) in &errors {
        assert!(error.contains("over the limit of 100000 bytes"), "{errors:?}");
    }
    let results = ids(&bench.results().await);
    assert!(
        results.contains("healthy") && results.contains("other"),
        "{results:?}"
    );
    bench.done(sidecar).await;
}

/// The worker reads on in the middle of a request while nobody reads what it says.
#[tokio::test]
async fn a_worker_that_is_held_up_is_still_written_to() {
    const MODULE: &str = r#"
def run(payload):
    for item in range(400 if payload == "stream" else 1):
        yield "x" * 100
"#;
    let mut bench = Bench::new(MODULE, &[("ASYA_FRAME_TIMEOUT", "1s")]).await;
    bench.config.unroutable_patience = Duration::from_secs(3);
    for index in 0..300 {
        bench.send(&index.to_string(), "1").await;
    }
    let stream = envelope("stream", &["work", "nowhere"], r#""stream""#);
    bench.house.publish("work", stream).await;
    bench
        .send("large", &format!("\"{}\"", "y".repeat(3_000_000)))
        .await;
    let sidecar = bench.sidecar().await;
    let errors = bench.errors(400).await;
    let is_unroutable = |(_, error, _): &(String, String, serde_json::Value)| error.starts_with("unroutable");
    assert!(errors.iter().all(is_unroutable), "{errors:?}");
    assert_eq!(ids(&bench.results().await).len(), 301);
    assert_eq!(sidecar.drain(PATIENCE).await.returned, 0);
}
