//! Every actor of the tree is made to end at every state of a delivery, in every way an actor can end. Each time the
//! tree must heal by itself: every message arrives, under the same ids, every delivery is settled, all credits return.

#![expect(clippy::expect_used, reason = "a test fails where it stands")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use asya_sidecar::{Fault, Faults, Part, Point, Protocol, Role, Sidecar};
use common::{House, PATIENCE, Runtime, echo, envelope, wait_for};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use tokio::sync::Notify;

const PARTS: [Part; 7] = [
    Part::Consumer,
    Part::Router,
    Part::Slot,
    Part::Publisher,
    Part::Acker,
    Part::Probe,
    Part::Reaper,
];
const POINTS: [(Point, Part); 9] = [
    (Point::Received, Part::Consumer),
    (Point::Admitting, Part::Router),
    (Point::Assigned, Part::Slot),
    (Point::Replied, Part::Slot),
    (Point::Routing, Part::Router),
    (Point::Planned, Part::Publisher),
    (Point::Confirmed, Part::Publisher),
    (Point::Settling, Part::Acker),
    (Point::Settled, Part::Acker),
];
const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Panic, Fault::Error];

/// Holds the first actor that comes to `point`. When let go it goes on, or ends as `strike` says.
struct Gate {
    point: Point,
    strike: Option<Fault>,
    used: AtomicBool,
    reached: Notify,
    open: Notify,
}

impl Faults for Gate {
    fn at(&self, point: Point) -> BoxFuture<'_, Result<(), ractor::ActorProcessingErr>> {
        Box::pin(async move {
            if point != self.point || self.used.swap(true, Ordering::SeqCst) {
                return Ok(());
            }
            self.reached.notify_one();
            match self.strike {
                Some(Fault::Panic) => std::panic::resume_unwind(Box::new("struck at a checkpoint")),
                Some(Fault::Error) => Err("struck at a checkpoint".into()),
                Some(Fault::Kill) | None => {
                    self.open.notified().await;
                    Ok(())
                }
            }
        })
    }
}

async fn one_case(house: &House, case: usize, part: Part, point: Point, owner: Part, fault: Fault) {
    let label = format!("{:?}: {fault:?} of {part:?} at {point:?}", house.protocol);
    let actor = format!("work-{case}");
    let sink = format!("sink-{case}");
    house.declare(&[&actor, &sink]).await;
    let config = house.config(&actor, Role::Step);
    let runtime = Runtime::start(&config.socket_dir, echo);
    let gate = Arc::new(Gate {
        point,
        strike: (part == owner).then_some(fault),
        used: AtomicBool::new(false),
        reached: Notify::new(),
        open: Notify::new(),
    });
    let faults: Arc<dyn Faults> = Arc::<Gate>::clone(&gate);
    let sidecar = Sidecar::builder(config, Arc::clone(&house.transport))
        .faults(faults)
        .start()
        .await
        .expect("the sidecar starts");
    let ids: BTreeSet<_> = (0..5).map(|index| format!("{case}-{index}")).collect();
    for id in &ids {
        house.publish(&actor, envelope(id, &[&actor, &sink], "7")).await;
    }

    tokio::time::timeout(PATIENCE, gate.reached.notified())
        .await
        .unwrap_or_else(|_| panic!("{label}: never reached"));
    if part != owner || fault == Fault::Kill {
        // The first message may be here before the last actor of the tree is.
        wait_for(&format!("{label}: the part to be there"), async || {
            sidecar.inject(part, fault)
        })
        .await;
    }
    wait_for(&format!("{label}: a restart"), async || {
        sidecar.snapshot().restarts > 0
    })
    .await;
    gate.open.notify_one();

    house.wait_empty(&actor).await;
    wait_for(&format!("{label}: all credits back"), async || {
        let snapshot = sidecar.snapshot();
        snapshot.credits_taken == 0 && snapshot.stages.is_empty() && snapshot.bytes_held == 0
    })
    .await;
    let arrived = house.take_all(&sink).await;
    let arrived_ids: BTreeSet<_> = arrived.iter().map(|message| message.envelope().id).collect();
    assert_eq!(arrived_ids, ids, "{label}: lost or invented");
    let message_ids: BTreeSet<_> = arrived.iter().map(|message| message.id.clone()).collect();
    assert_eq!(
        message_ids.len(),
        ids.len(),
        "{label}: a repeated message has another id"
    );
    assert!(
        arrived.len() <= 2 * ids.len(),
        "{label}: one fault repeats what was in flight, once: {} messages",
        arrived.len()
    );
    assert_eq!(
        house.depth("error-end").await,
        0,
        "{label}: a healthy message was condemned"
    );
    assert_eq!(sidecar.drain(PATIENCE).await.returned, 0, "{label}");
    runtime.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_actor_may_end_in_any_way_at_any_state_of_a_delivery() {
    every_actor_may_end_in_any_way_at_any_state_of_a_delivery_with(Protocol::Auto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_actor_may_end_in_any_way_at_any_state_of_a_delivery_over_v1() {
    every_actor_may_end_in_any_way_at_any_state_of_a_delivery_with(Protocol::V1).await;
}

async fn every_actor_may_end_in_any_way_at_any_state_of_a_delivery_with(protocol: Protocol) {
    let house = House::with(protocol);
    let mut cases = Vec::new();
    for part in PARTS {
        for (point, owner) in POINTS {
            cases.extend(FAULTS.map(|fault| (cases.len(), part, point, owner, fault)));
        }
    }
    let cases = cases.into_iter().enumerate();
    futures::stream::iter(cases)
        .for_each_concurrent(8, |(case, (_, part, point, owner, fault))| {
            one_case(&house, case, part, point, owner, fault)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_faults_loses_nothing_and_condemns_nothing() {
    a_storm_of_faults_loses_nothing_and_condemns_nothing_with(Protocol::Auto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_faults_loses_nothing_and_condemns_nothing_over_v1() {
    a_storm_of_faults_loses_nothing_and_condemns_nothing_with(Protocol::V1).await;
}

async fn a_storm_of_faults_loses_nothing_and_condemns_nothing_with(protocol: Protocol) {
    const MESSAGES: usize = 2_000;
    let house = House::with(protocol);
    house.declare(&["work", "sink"]).await;
    let config = house.config("work", Role::Step);
    let runtime = Runtime::start(&config.socket_dir, echo);
    let sidecar = Sidecar::builder(config, Arc::clone(&house.transport))
        .budget_factor(100_000)
        .start()
        .await
        .expect("the sidecar starts");
    sidecar.ready().await;
    // Kills only: an actor that fails by itself charges what it holds, as it should, and that is another test.
    let mut strikes = 0;
    let mut strike = || {
        sidecar.inject(PARTS[strikes % PARTS.len()], Fault::Kill);
        strikes += 1;
    };
    for index in 0..MESSAGES {
        if index % 50 == 49 {
            strike();
        }
        house
            .publish("work", envelope(&index.to_string(), &["work", "sink"], "7"))
            .await;
    }
    wait_for("the queue to be empty", async || {
        strike();
        house.depth("work").await == 0
    })
    .await;
    wait_for("all credits back", async || sidecar.snapshot().credits_taken == 0).await;
    let arrived = house.take_all("sink").await;
    let unique: BTreeSet<_> = arrived.iter().map(|message| message.id.clone()).collect();
    assert_eq!(unique.len(), MESSAGES, "lost or invented");
    assert_eq!(
        house.depth("error-end").await,
        0,
        "a healthy message was condemned"
    );
    sidecar.drain(PATIENCE).await;
    runtime.stop().await;
}

/// Panics at one point, every time.
struct Always(Point, AtomicU32);

impl Faults for Always {
    fn at(&self, point: Point) -> BoxFuture<'_, Result<(), ractor::ActorProcessingErr>> {
        Box::pin(async move {
            if point == self.0 {
                self.1.fetch_add(1, Ordering::SeqCst);
                std::panic::resume_unwind(Box::new("poison"));
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn a_message_that_crashes_a_slot_or_the_router_goes_to_error_end_and_the_tree_lives() {
    let points = [Point::Assigned, Point::Replied];
    for (point, protocol) in points
        .iter()
        .flat_map(|point| [(*point, Protocol::Auto), (*point, Protocol::V1)])
    {
        let house = House::with(protocol);
        house.declare(&["work", "sink"]).await;
        let config = house.config("work", Role::Step);
        let runtime = Runtime::start(&config.socket_dir, echo);
        let faults = Arc::new(Always(point, AtomicU32::new(0)));
        let sidecar = Sidecar::builder(config, Arc::clone(&house.transport))
            .faults(Arc::<Always>::clone(&faults) as Arc<dyn Faults>)
            .start()
            .await
            .expect("the sidecar starts");
        house
            .publish(
                "work",
                envelope("poison", &["work", "sink"], r#"{"big":12345678901234567890}"#),
            )
            .await;
        let failed = house.take("error-end", 1).await;
        assert!(failed[0].text().contains("crashed"), "{}", failed[0].text());
        assert!(
            failed[0].text().contains("12345678901234567890"),
            "{}",
            failed[0].text()
        );
        assert_eq!(failed[0].envelope().id, "poison");
        assert_eq!(faults.1.load(Ordering::SeqCst), 2, "it was tried twice");
        house.wait_empty("work").await;
        sidecar.drain(PATIENCE).await;
        runtime.stop().await;
    }
}

#[tokio::test]
async fn a_spent_restart_budget_ends_the_sidecar_with_the_cause() {
    let house = House::new();
    house.declare(&["work"]).await;
    let config = house.config("work", Role::Step);
    let runtime = Runtime::start(&config.socket_dir, echo);
    let sidecar = common::start(&house, config).await;
    sidecar.ready().await;
    let mut strikes = 0_u32;
    let cause = tokio::time::timeout(PATIENCE * 2, async {
        loop {
            let before = sidecar.snapshot().restarts;
            strikes += 1;
            let restarted = wait_for("a restart", async || {
                sidecar.inject(Part::Router, Fault::Panic); // Reaches nobody while a restart is being delayed.
                sidecar.snapshot().restarts > before
            });
            tokio::select! {
                cause = sidecar.failed() => return cause,
                () = restarted => {}
            }
        }
    })
    .await
    .expect("the budget is finite");
    assert!(
        cause.contains("router") && cause.contains("restarts in 60 s"),
        "{cause}"
    );
    assert!(strikes > 5, "gave up after {strikes} restarts");
    runtime.stop().await;
}
