//! A broker that is short of memory and takes no messages.

use asya_tests::plant::Plant;
use asya_tests::wait_for;

use crate::setup::{ROUTE, node, three_actors};

#[test]
fn a_memory_alarm_holds_messages_up_and_repeats_none() {
    let broker = node();
    let mut plant = Plant::new(&broker);
    three_actors(&mut plant);
    // Connected, but nothing moves until the alarm is there.
    for pod in &mut plant.pods {
        pod.runtime.kill();
    }
    plant.send(500, &ROUTE);
    broker.control(&["set_vm_memory_high_watermark", "0.0000001"]);
    for pod in &mut plant.pods {
        pod.runtime.start_again();
    }
    // The broker tells who publishes, and nobody gets so far but the first.
    wait_for("the alarm to be noticed", || {
        let log = plant.pods[0].sidecar.log();
        log.contains("takes no messages").then_some(())
    });
    assert_eq!(plant.ended(), Some(0));
    plant.assert_running();
    broker.control(&["set_vm_memory_high_watermark", "absolute", "1GB"]);
    plant.finish().assert_all_done(0);
}
