//! Several sidecars of one actor.

use asya_tests::plant::{Plant, Spec};
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;

const SLOW: &str = r#"
import time
def run(payload):
    with open("calls", "a") as file:
        file.write("%s\n" % payload["number"])
    time.sleep(0.3)
    return payload
"#;

/// With credit that tunes itself a slow handler hoards nothing that another pod could work on.
#[test]
fn two_pods_with_a_slow_handler_share_ten_messages_evenly() {
    let broker = Broker::shared();
    let mut plant = Plant::new(broker);
    plant.declare("slow");
    plant.add(&Spec::python("slow", SLOW));
    plant.add(&Spec::python("slow", SLOW));
    let path = format!("/api/queues/{}/asya-slow", plant.vhost);
    wait_for("both to consume", || {
        broker
            .manage("GET", &path, "")
            .contains(r#""consumers":2"#)
            .then_some(())
    });
    plant.send(10, &["slow"]);
    plant.finish().assert_all_done(0);
    let shares: Vec<_> = plant.pods.iter().map(|pod| pod.lines("calls").len()).collect();
    assert_eq!(shares, [5, 5]);
}
