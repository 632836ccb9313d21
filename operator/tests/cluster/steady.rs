//! Nothing is written while nothing has to change.

use std::sync::Arc;
use std::time::Duration;

use asya_operator::report::Nobody;
use asya_tests::wait_for;
use serde_json::json;

use crate::api_proxy::{ApiProxy, Seen};
use crate::setup::{self, Operator, Person, settings};

/// Writes about other actors than `sentinel`, which is made to know that everything before it has been seen.
fn writes(proxy: &ApiProxy, sentinel: &str) -> Vec<Seen> {
    let mut writes = proxy.writes();
    writes.retain(|seen| !seen.path.contains(sentinel) && !seen.path.contains("/events"));
    writes
}

#[test]
fn looking_again_and_starting_again_write_nothing() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let proxy = ApiProxy::start(cluster);
    let mut settings = settings(&person.namespace, registry);
    // Queues are asked and looked after all the time.
    settings.status_refresh = Duration::from_millis(500);
    settings.queue_check_interval = Some(Duration::from_secs(1));
    let start = || Operator::start_with(proxy.kubeconfig(cluster), settings.clone(), Arc::new(Nobody));
    let operator = start();
    // Values that the API server writes in another way than they were given.
    let container = json!({
        "name": "asya-runtime", "image": "example/worker:1",
        "env": [{"name": "ASYA_HANDLER", "value": "worker.run"}, {"name": "EMPTY", "value": ""}],
        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
        "ports": [{"containerPort": 9000}],
    });
    let template =
        json!({"workload": {"template": {"spec": {"containers": [container], "tolerations": []}}}});
    person.create_actor("calm", "rabbitmq", &template);
    person.create_actor("scaled", "rabbitmq", &json!({"scaling": {"enabled": true}}));
    person.create_actor(
        "stateful",
        "rabbitmq",
        &json!({"workload": {"kind": "StatefulSet"}}),
    );
    person.create_actor("once", "rabbitmq", &json!({"workload": {"kind": "Job"}}));
    person.create_actor("lost", "nowhere", &json!({}));
    for name in ["calm", "scaled", "stateful", "once"] {
        person.wait_condition(name, "WorkloadReady", "True", "WorkloadCreated");
    }
    person.wait_condition("scaled", "ScalingReady", "True", "ScaledObjectCreated");
    person.wait_condition("lost", "TransportReady", "False", "InvalidTransport");
    wait_for("writes to cease", || {
        proxy.forget();
        std::thread::sleep(Duration::from_secs(2));
        writes(&proxy, "sentinel").is_empty().then_some(())
    });

    // Every actor is looked at for reasons that matter nothing.
    for round in 0..3 {
        for name in ["calm", "scaled", "stateful", "once", "lost"] {
            person.merge(
                &person.actor_path(name),
                &json!({"metadata": {"labels": {"round": round.to_string()}}}),
            );
        }
    }
    person.create_actor("sentinel-one", "rabbitmq", &json!({}));
    person.wait_condition("sentinel-one", "WorkloadReady", "True", "WorkloadCreated");
    assert_eq!(format!("{:?}", writes(&proxy, "sentinel")), "[]");

    drop(operator);
    proxy.forget();
    let _operator = start();
    person.create_actor("sentinel-two", "rabbitmq", &json!({}));
    person.wait_condition("sentinel-two", "WorkloadReady", "True", "WorkloadCreated");
    assert_eq!(
        format!("{:?}", writes(&proxy, "sentinel")),
        "[]",
        "a new operator finds everything as it should be"
    );
    let of_the_lost = proxy
        .seen()
        .into_iter()
        .filter(|seen| seen.path.contains("/lost"))
        .count();
    assert_eq!(of_the_lost, 0, "what is refused waits for a change");
}
