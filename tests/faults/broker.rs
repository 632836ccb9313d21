//! A broker that is killed or stopped and comes back.

use asya_tests::plant::Plant;

use crate::setup::{ALL_HELD, NOT_WRITTEN, ROUTE, node, three_actors};

#[test]
fn a_broker_that_is_killed_or_stopped_and_comes_back_has_every_message() {
    let broker = node();
    let mut plant = Plant::new(&broker);
    plant.send(2_500, &ROUTE);
    three_actors(&mut plant);
    for _ in 0..2 {
        plant.progress(150);
        broker.kill();
        broker.run();
    }
    plant.progress(150);
    broker.control(&["stop_app"]);
    broker.control(&["start_app"]);
    plant.finish().assert_all_done(3 * ALL_HELD + 2 * NOT_WRITTEN);
}
