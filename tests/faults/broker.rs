//! A broker that is killed or stopped and comes back.

use asya_tests::plant::Plant;

use crate::setup::{ALL_HELD, NOT_WRITTEN, ROUTE, node, three_actors};

#[test]
fn a_broker_that_is_killed_or_stopped_and_comes_back_has_every_message() {
    let broker = node();
    let mut plant = Plant::new(&broker);
    plant.send(2_000, &ROUTE);
    three_actors(&mut plant);
    plant.progress(150);
    broker.kill();
    broker.run();
    plant.progress(150);
    broker.control(&["stop_app"]);
    broker.control(&["start_app"]);
    plant.finish().assert_all_done(2 * ALL_HELD + NOT_WRITTEN);
}
