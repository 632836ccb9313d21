//! Generators: items are published while the handler runs, under the ids of an answer that comes at once.

use std::sync::{Arc, Mutex};

use asya_runtime_protocol::RawJson;
use asya_sidecar::{Event, Fault, FinalReport, Part, Progress, Protocol, ReportError, Reporter};
use futures::future::BoxFuture;

use crate::common::{Message, wait_for};
use crate::python::Bench;

/// What came out, as `(message id, body)`, in order of the ids.
fn sorted(messages: Vec<Message>) -> Vec<(String, String)> {
    let mut all: Vec<_> = messages
        .into_iter()
        .map(|message| (message.id.clone(), message.text().to_owned()))
        .collect();
    all.sort();
    all
}

/// Runs the payloads under a protocol and tells everything that came of it.
async fn outputs(protocol: Protocol, module: &str, payloads: &[&str]) -> Vec<(String, String)> {
    let bench = Bench::with(protocol, module, &[]).await;
    for (index, payload) in payloads.iter().enumerate() {
        bench.send(&format!("e{index}"), payload).await;
    }
    let sidecar = bench.sidecar().await;
    bench.house.wait_empty("work").await;
    let mut all = bench.house.take_all("sink").await;
    all.extend(bench.house.take_all("error-end").await);
    all.extend(bench.house.take_all("happy-end").await);
    bench.done(sidecar).await;
    sorted(all)
}

#[tokio::test]
async fn a_stream_makes_the_messages_that_an_answer_at_once_makes() {
    const MODULE: &str = "
def run(payload):
    for item in payload:
        if item == 'raise':
            raise ValueError('no')
        yield item
";
    let payloads = [
        "[]",
        "[1]",
        "[1,2,3,4,5]",
        r#"["raise"]"#,
        r#"[1,"raise"]"#,
        r#"[1,2,3,"raise",4]"#,
    ];
    let streamed = outputs(Protocol::Auto, MODULE, &payloads).await;
    let at_once = outputs(Protocol::V1, MODULE, &payloads).await;
    let identity = |all: &[(String, String)]| all.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>();
    assert_eq!(identity(&streamed), identity(&at_once));
    for (streamed, at_once) in streamed.iter().zip(&at_once) {
        if !streamed.1.contains("traceback") {
            assert_eq!(streamed, at_once);
        }
    }
}

/// Yields three items, waits until it may go on, and yields two more.
const GATE: &str = r#"
import os, time
def run(payload):
    with open("calls", "a") as file:
        file.write("called\n")
    for item in range(3):
        yield item
    while not os.path.exists("open"):
        if os.path.exists("die"):
            os._exit(1)
        time.sleep(0.01)
    yield 3
    yield 4
"#;

#[tokio::test]
async fn items_are_published_while_the_handler_runs() {
    let bench = Bench::new(GATE, &[]).await;
    let sidecar = bench.sidecar().await;
    bench.send("e", "1").await;
    wait_for("the first items", async || bench.house.depth("sink").await == 3).await;
    assert_eq!(
        bench.house.depth("work").await,
        1,
        "the input is not settled before its end"
    );
    std::fs::write(bench.path("open"), "").unwrap();
    let results = sorted(bench.results().await);
    let ids: Vec<_> = results.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["e/1/1/0", "e/1/1/1", "e/1/1/2", "e/1/1/3", "e/1/1/4"]);
    bench.done(sidecar).await;
}

#[tokio::test]
async fn a_slot_that_is_killed_in_a_stream_loses_nothing_and_invents_nothing() {
    for fault in [Fault::Kill, Fault::Panic] {
        let bench = Bench::new(GATE, &[("ASYA_CANCEL_GRACE", "200ms")]).await;
        let sidecar = bench.sidecar().await;
        bench.send("e", "1").await;
        wait_for("the first items", async || bench.house.depth("sink").await >= 3).await;
        assert!(sidecar.inject(Part::Slot, fault));
        wait_for("the second run", async || bench.lines("calls").len() >= 2).await;
        std::fs::write(bench.path("open"), "").unwrap();
        let mut results = sorted(bench.results().await);
        results.dedup();
        let ids: Vec<_> = results.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(
            ids,
            ["e/1/1/0", "e/1/1/1", "e/1/1/2", "e/1/1/3", "e/1/1/4"],
            "{fault:?}"
        );
        bench.done(sidecar).await;
    }
}

/// What was made before is good and sent; the call failed at the next item, and is not repeated.
#[tokio::test]
async fn a_worker_that_dies_in_a_stream_fails_at_the_next_item() {
    let mut bench = Bench::new(GATE, &[]).await;
    bench.config.retry.max_attempts = std::num::NonZeroU32::new(3).unwrap();
    let sidecar = bench.sidecar().await;
    bench.send("e", "1").await;
    wait_for("the first items", async || bench.house.depth("sink").await == 3).await;
    std::fs::write(bench.path("die"), "").unwrap();
    let errors = bench.errors(1).await;
    assert_eq!(
        (errors[0].0.as_str(), errors[0].1.as_str()),
        ("e-3", "worker_died")
    );
    assert_eq!(bench.results().await.len(), 3);
    assert_eq!(bench.lines("calls").len(), 1);
    bench.done(sidecar).await;
}

/// More than may be unconfirmed at once goes through, in order and complete.
#[tokio::test]
async fn a_long_stream_of_large_items_goes_through() {
    const MODULE: &str = "
def run(payload):
    for item in range(1000):
        yield {'number': item, 'text': 'x' * 50000}
";
    let bench = Bench::new(MODULE, &[]).await;
    let sidecar = bench.sidecar().await;
    bench.send("e", "1").await;
    let results = bench.results().await;
    assert_eq!(crate::python::ids(&results).len(), 1000);
    bench.done(sidecar).await;
}

/// Keeps what is told on the way.
#[derive(Default)]
struct Notes(Mutex<Vec<Event>>);

impl Reporter for Notes {
    fn progress(&self, progress: Progress) {
        self.0.lock().unwrap().push(progress.event);
    }

    fn finish(&self, _: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn intermediate_results_and_notes_are_reported_and_only_the_last_value_is_sent() {
    const MODULE: &str = "
import asya_runtime
def run(payload):
    for item in range(4):
        yield item
";
    let bench = Bench::new(MODULE, &[("ASYA_STREAM", "true")]).await;
    let notes = Arc::new(Notes::default());
    let sidecar = bench.reporting(Arc::<Notes>::clone(&notes)).await;
    bench.send("e", "1").await;
    let results = bench.results().await;
    assert_eq!(results.len(), 1);
    assert_eq!(results[0].envelope().payload.unwrap().as_str(), "3");
    let seen = notes.0.lock().unwrap().clone();
    let partials: Vec<_> = seen
        .iter()
        .filter_map(|event| match event {
            Event::Partial { seq, value } => Some((*seq, RawJson::as_str(value).to_owned())),
            _ => None,
        })
        .collect();
    let expected: Vec<_> = (0..partials.len() as u64)
        .map(|seq| (seq, seq.to_string()))
        .collect();
    assert_eq!(partials, expected);
    assert!(partials.len() >= 3, "{seen:?}");
    bench.done(sidecar).await;
}
