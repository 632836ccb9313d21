//! Envelopes that a gateway has cancelled: not run, asked to end, never published on, acknowledged and counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use asya_runtime_protocol::{HandlerError, HandlerItem, RequestEnvelope};
use asya_sidecar::{Config, Credit, Fault, Part, Role, SidecarBuilder, Stage as Where};
use tokio::sync::Notify;

use crate::Scene;
use crate::common::{PATIENCE, echo, envelope, wait_for};
use crate::server::{Gateway, Reply};
use crate::stage::{Offer, Stage};

/// A handler that runs until it is let go, and counts its calls.
#[derive(Clone, Default)]
struct Gate {
    calls: Arc<AtomicUsize>,
    open: Arc<Notify>,
}

impl Gate {
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn handler(
        &self,
    ) -> impl Fn(
        RequestEnvelope,
    ) -> futures::future::BoxFuture<'static, Result<Vec<HandlerItem>, HandlerError>>
    + Send
    + Sync
    + 'static {
        let gate = self.clone();
        move |request| {
            gate.calls.fetch_add(1, Ordering::SeqCst);
            let open = Arc::clone(&gate.open);
            Box::pin(async move {
                open.notified().await;
                echo(request).await
            })
        }
    }
}

async fn notice(stage: &Stage, scene: &Scene, id: &str) {
    let before = scene.reporter.figures().cancelled;
    stage.cancel(id);
    wait_for("the notice", async || scene.reporter.figures().cancelled > before).await;
}

async fn nothing_is_left(scene: &Scene) {
    scene.house.wait_empty("work").await;
    wait_for("all credits back", async || {
        let snapshot = scene.sidecar.snapshot();
        snapshot.credits_taken == 0 && snapshot.stages.is_empty()
    })
    .await;
    assert_eq!(scene.house.depth("error-end").await, 0);
}

#[tokio::test]
async fn an_envelope_that_was_cancelled_before_it_came_is_not_run() {
    let stage = Stage::start(Offer::Both).await;
    let gate = Gate::default();
    let scene = Scene::step(stage.options(), gate.handler()).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    notice(&stage, &scene, "x").await;
    scene
        .house
        .publish("work", envelope("x", &["work", "sink"], "1"))
        .await;
    // Neither is one that would have failed here.
    scene
        .house
        .publish("work", envelope("x", &["elsewhere"], "1"))
        .await;
    nothing_is_left(&scene).await;
    assert_eq!((gate.calls(), scene.house.depth("sink").await), (0, 0));
    // Its children have notices of their own; a redrive lives.
    gate.open.notify_one();
    scene
        .house
        .publish("work", envelope("x-1", &["work", "sink"], "1"))
        .await;
    assert_eq!(scene.house.take("sink", 1).await[0].envelope().id, "x-1");
    gate.open.notify_one();
    let redriven = r#"{"id":"x","route":{"actors":["work","sink"],"current":0,"metadata":{"asya_attempt":2}},"payload":1}"#;
    scene.house.publish("work", redriven).await;
    let arrived = scene.house.take("sink", 1).await;
    assert_eq!(arrived[0].envelope().route.attempt(), 2, "it keeps its attempt");
    nothing_is_left(&scene).await;
    scene.end().await;
}

#[tokio::test]
async fn the_head_of_the_queue_a_running_handler_and_a_finished_result_go_nowhere() {
    let stage = Stage::start(Offer::Both).await;
    let gate = Gate::default();
    let two = |config: &mut Config| config.credit = Credit::Fixed(2);
    let scene = Scene::step_with(stage.options(), gate.handler(), two, |tree| tree).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    for id in ["runs", "waits"] {
        scene
            .house
            .publish("work", envelope(id, &["work", "sink"], "1"))
            .await;
    }
    wait_for("one to run", async || gate.calls() == 1).await;
    wait_for("the other to wait", async || {
        scene.sidecar.snapshot().stages.values().sum::<usize>() == 2
    })
    .await;
    notice(&stage, &scene, "waits").await;
    wait_for("it to be gone", async || {
        scene.sidecar.snapshot().stages.values().sum::<usize>() == 1
    })
    .await;
    notice(&stage, &scene, "runs").await;
    gate.open.notify_one();
    nothing_is_left(&scene).await;
    assert_eq!((gate.calls(), scene.house.depth("sink").await), (1, 0));
    // The tree works on.
    gate.open.notify_one();
    scene
        .house
        .publish("work", envelope("next", &["work", "sink"], "1"))
        .await;
    scene.house.take("sink", 1).await;
    scene.end().await;
}

/// What waits for the broker when the notice comes is not published either.
#[tokio::test]
async fn a_result_that_waits_to_be_published_is_not() {
    let stage = Stage::start(Offer::Both).await;
    let hold = Arc::new(Hold::default());
    let faults = Arc::clone(&hold);
    let scene = Scene::step_with(stage.options(), echo, |_| {}, |tree| tree.faults(faults)).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    scene
        .house
        .publish("work", envelope("x", &["work", "sink"], "1"))
        .await;
    hold.reached.notified().await;
    assert_eq!(scene.sidecar.snapshot().stages.get(&Where::Publishing), Some(&1));
    notice(&stage, &scene, "x").await;
    hold.open.notify_one();
    nothing_is_left(&scene).await;
    assert_eq!(scene.house.depth("sink").await, 0);
    scene.end().await;
}

/// Holds the publisher before it publishes its first plan.
#[derive(Default)]
struct Hold {
    used: std::sync::atomic::AtomicBool,
    reached: Notify,
    open: Notify,
}

impl asya_sidecar::Faults for Hold {
    fn at(
        &self,
        point: asya_sidecar::Point,
    ) -> futures::future::BoxFuture<'_, Result<(), ractor::ActorProcessingErr>> {
        Box::pin(async move {
            if point == asya_sidecar::Point::Planned && !self.used.swap(true, Ordering::SeqCst) {
                self.reached.notify_one();
                self.open.notified().await;
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn an_end_actor_neither_runs_nor_reports_a_cancelled_envelope() {
    let stage = Stage::start(Offer::Both).await;
    let gate = Gate::default();
    let scene = Scene::start("happy-end", Role::HappyEnd, stage.options(), gate.handler()).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    notice(&stage, &scene, "x").await;
    scene
        .house
        .publish("happy-end", r#"{"id":"x","payload":1}"#)
        .await;
    scene.house.wait_empty("happy-end").await;
    assert_eq!(gate.calls(), 0);
    assert!(stage.events("x").is_empty());
    scene.end().await;
}

#[tokio::test]
async fn a_gateway_that_is_told_over_http_cancels_with_its_answers() {
    let gateway = Gateway::start(|request| {
        if request.line.contains("/bad/") {
            Reply::Cancelled
        } else {
            Reply::Status(200)
        }
    })
    .await;
    let gate = Gate::default();
    let scene = Scene::step(gateway.options(), gate.handler()).await;
    scene
        .house
        .publish("work", envelope("bad", &["work", "sink"], "1"))
        .await;
    wait_for("it to be known", async || scene.reporter.figures().cancelled == 1).await;
    gate.open.notify_one();
    nothing_is_left(&scene).await;
    assert_eq!(scene.house.depth("sink").await, 0);
    gate.open.notify_one();
    scene
        .house
        .publish("work", envelope("good", &["work", "sink"], "1"))
        .await;
    scene.house.take("sink", 1).await;
    scene.end().await;
}

/// Without a gateway that keeps the record, what somebody ends becomes a failure.
#[tokio::test]
async fn what_is_ended_here_and_not_by_the_gateway_goes_to_error_end() {
    let stage = Stage::start(Offer::Both).await;
    let gate = Gate::default();
    let scene = Scene::step(stage.options(), gate.handler()).await;
    scene
        .house
        .publish("work", envelope("x", &["work", "sink"], "1"))
        .await;
    wait_for("it to run", async || gate.calls() == 1).await;
    assert!(scene.sidecar.cancel("x"));
    gate.open.notify_one();
    let failed = scene.house.take("error-end", 1).await;
    assert!(
        failed[0].text().contains(r#""error":"cancelled""#),
        "{}",
        failed[0].text()
    );
    scene.end().await;
}

/// Actors of the tree are killed, streams are cut, envelopes are cancelled at random: what was not cancelled arrives under
/// its id, what was arrives or does not, and nothing is condemned or left behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_faults_cuts_and_cancellations_loses_nothing_that_is_wanted() {
    const MESSAGES: usize = 1_000;
    const PARTS: [Part; 6] = [
        Part::Consumer,
        Part::Router,
        Part::Slot,
        Part::Publisher,
        Part::Acker,
        Part::Reaper,
    ];
    let stage = Stage::start(Offer::Both).await;
    let hardy = |tree: SidecarBuilder| tree.budget_factor(100_000);
    let scene = Scene::step_with(stage.options(), echo, |_| {}, hardy).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    let mut strikes = 0;
    let mut strike = || {
        scene.sidecar.inject(PARTS[strikes % PARTS.len()], Fault::Kill);
        strikes += 1;
    };
    for n in 0..MESSAGES {
        if n % 5 == 0 {
            stage.cancel(&n.to_string());
        }
        if n % 40 == 39 {
            strike();
        }
        if n % 150 == 149 {
            stage.proxy.cut();
        }
        scene
            .house
            .publish("work", envelope(&n.to_string(), &["work", "sink"], "7"))
            .await;
    }
    wait_for("the queue to be empty", async || {
        strike();
        scene.house.depth("work").await == 0
    })
    .await;
    nothing_is_left(&scene).await;
    let arrived: BTreeSet<_> = scene
        .house
        .take_all("sink")
        .await
        .into_iter()
        .map(|message| message.id)
        .collect();
    for n in (0..MESSAGES).filter(|n| n % 5 != 0) {
        assert!(arrived.contains(&format!("{n}/1/1/0")), "{n} is lost");
    }
    let cancelled = MESSAGES.div_ceil(5);
    assert!(
        arrived.len() < MESSAGES,
        "some of {cancelled} were cancelled in time"
    );
    let drained = scene.sidecar.drain(PATIENCE).await;
    assert_eq!(drained.returned, 0);
    scene.reporter.close(PATIENCE).await;
    scene.runtime.stop().await;
}
