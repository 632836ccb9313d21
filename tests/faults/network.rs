//! Connections to a healthy broker that end, or go silent.

use asya_tests::plant::Plant;
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;

use crate::setup::{ALL_HELD, ROUTE, three_actors};

#[test]
fn connections_that_the_broker_closes_are_opened_again() {
    let broker = Broker::shared();
    let mut plant = Plant::new(broker);
    three_actors(&mut plant);
    let rounds = 3;
    for _ in 0..rounds {
        // `rabbitmqctl` takes its time to start.
        plant.send(1_200, &ROUTE);
        plant.progress(200);
        broker.control(&["close_all_connections", "--vhost", &plant.vhost, "test"]);
    }
    plant.finish().assert_all_done(rounds * ALL_HELD);
}

#[test]
fn connections_that_the_network_cuts_are_opened_again() {
    let (mut plant, proxy) = Plant::behind_proxy(Broker::shared());
    three_actors(&mut plant);
    let rounds = 10;
    for _ in 0..rounds {
        plant.send(250, &ROUTE);
        plant.progress(100);
        proxy.cut();
    }
    plant.finish().assert_all_done(rounds * ALL_HELD);
}

#[test]
fn a_silent_network_is_noticed_by_its_heartbeats() {
    let broker = Broker::shared();
    // The broker asks for what the sidecar would only get to after 20 s.
    broker.control(&["eval", "application:set_env(rabbit, heartbeat, 1)."]);
    let (mut plant, proxy) = Plant::behind_proxy(broker);
    plant.send(1_000, &ROUTE);
    three_actors(&mut plant);
    plant.progress(200);
    proxy.swallow();
    for pod in &plant.pods {
        wait_for("the silence to be noticed", || {
            pod.sidecar.log().contains("is lost, reconnecting").then_some(())
        });
    }
    proxy.heal();
    // One connection lost to the silence, and perhaps one to the healing.
    plant.finish().assert_all_done(2 * ALL_HELD);
}
