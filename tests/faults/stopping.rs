//! SIGTERM: what runs ends, the rest stays in its queue, and nothing happens twice.

use asya_tests::Signal;
use asya_tests::plant::{HAPPY_END, Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;

use crate::setup::{ALL_HELD, AUTO, GATE, NOT_WRITTEN, Protocol, ROUTE, node, plant, three_actors};

#[test]
fn stopping_under_load_loses_nothing_and_repeats_nothing() {
    stop_under_load(AUTO);
}

pub(crate) fn stop_under_load(protocol: Protocol) {
    let mut plant = plant(protocol);
    three_actors(&mut plant);
    for round in 0..9 {
        plant.send(250, &ROUTE);
        plant.progress(100);
        let sidecar = &mut plant.pods[round % 3].sidecar;
        sidecar.signal(Signal::TERM);
        assert_eq!(sidecar.wait(), Some(0), "{}", sidecar.log());
        sidecar.start_again();
    }
    plant.finish().assert_all_done(0);
    assert_eq!(
        plant.pods[1].lines("calls").len(),
        9 * 250,
        "no call was made twice"
    );
}

/// The original turned such a message into an error, or threw its result away (D-13).
#[test]
fn a_call_under_way_is_finished_and_settled() {
    stop_during_a_call(AUTO);
}

pub(crate) fn stop_during_a_call(protocol: Protocol) {
    let mut plant = plant(protocol);
    plant.send(5, &["one"]);
    plant.add(&Spec::python("one", GATE));
    wait_for("the call", || {
        (plant.pods[0].lines("calls").len() == 1).then_some(())
    });
    plant.pods[0].sidecar.signal(Signal::TERM);
    // What it held besides is back in the queue before the call ends.
    wait_for("the return of waiting messages", || {
        plant.depth("one").filter(|depth| *depth == 4)
    });
    plant.assert_running();
    std::fs::write(plant.pods[0].path("open"), "").unwrap();
    assert_eq!(plant.pods[0].sidecar.wait(), Some(0));
    assert_eq!((plant.depth(HAPPY_END), plant.depth("one")), (Some(1), Some(4)));
    plant.pods[0].sidecar.start_again();
    plant.finish().assert_all_done(0);
    assert_eq!(plant.pods[0].lines("calls").len(), 5, "no call was made twice");
}

#[test]
fn a_call_that_outlasts_the_grace_is_left_to_the_next_sidecar() {
    let mut plant = Plant::new(Broker::shared());
    plant.set_env("ASYA_SHUTDOWN_GRACE", "1s");
    plant.send(3, &["one"]);
    plant.add(&Spec::python("one", GATE));
    wait_for("the call", || {
        (plant.pods[0].lines("calls").len() == 1).then_some(())
    });
    plant.stop();
    assert_eq!((plant.depth(HAPPY_END), plant.depth("one")), (Some(0), Some(3)));
    std::fs::write(plant.pods[0].path("open"), "").unwrap();
    plant.pods[0].sidecar.start_again();
    plant.finish().assert_all_done(0);
    assert_eq!(
        plant.pods[0].lines("calls").len(),
        4,
        "only the call that was cut off was made again"
    );
}

#[test]
fn a_sidecar_ends_well_while_the_broker_is_away() {
    let broker = node();
    let mut plant = Plant::new(&broker);
    plant.send(2_000, &ROUTE);
    three_actors(&mut plant);
    plant.progress(100);
    broker.kill();
    for pod in &plant.pods {
        wait_for("the loss to be noticed", || {
            pod.sidecar.log().contains("is lost, reconnecting").then_some(())
        });
        pod.sidecar.signal(Signal::TERM);
    }
    for pod in &mut plant.pods {
        assert_eq!(pod.sidecar.wait(), Some(0), "{}", pod.sidecar.log());
        // A broker that is away at the start is waited for.
        pod.sidecar.start_again();
    }
    broker.run();
    plant.finish().assert_all_done(ALL_HELD + NOT_WRITTEN);
}
