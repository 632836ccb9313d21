//! Two clusters with one broker: the actor of one name in both shares one queue, and neither operator takes it away from
//! the other, in whatever order they let go.

use std::sync::Arc;

use asya_operator::registry::Registry;
use asya_operator::report::Nobody;
use asya_tests::kube::Cluster;
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;
use serde_json::{Value, json};

use crate::setup::{self, Operator, Person, settings};
use crate::takeover::predecessor::{publish, queues, wait_messages};

/// One cluster with its operator.
struct Side {
    person: Person,
    _operator: Operator,
}

impl Side {
    /// In a namespace of this name, so that the owners differ in the name of the cluster alone.
    fn start(cluster: &Cluster, name: &str, namespace: &str, registry: &Arc<Registry>) -> Self {
        let mut person = Person::new(cluster);
        cluster.kubectl(&["create", "namespace", namespace]);
        namespace.clone_into(&mut person.namespace);
        let kubeconfig = cluster.kubeconfig_for("admin-token", cluster.port);
        let operator = Operator::of_cluster(
            kubeconfig,
            settings(namespace, registry.clone()),
            Arc::new(Nobody),
            name,
        );
        Self {
            person,
            _operator: operator,
        }
    }

    fn wait_ready(&self, actor: &str) {
        self.person
            .wait_condition(actor, "TransportReady", "True", "TransportValidated");
        self.person
            .wait_condition(actor, "WorkloadReady", "True", "WorkloadCreated");
        self.person
            .wait("a record of the queue", &self.person.actor_path(actor), |actor| {
                actor["status"]["queueRef"]["name"].is_string().then_some(())
            });
    }

    fn workload(&self, actor: &str) -> Option<Value> {
        self.person
            .get(&self.person.path("apps/v1", "deployments", actor))
    }

    fn delete(&self, actors: &[&str]) {
        for actor in actors {
            self.person.delete(&self.person.actor_path(actor));
        }
        self.wait_gone(actors);
    }

    fn wait_gone(&self, actors: &[&str]) {
        for actor in actors {
            self.person.wait_gone(&self.person.actor_path(actor));
        }
    }
}

/// Takes the only message out of a queue for good.
fn consume(vhost: &str, queue: &str) {
    wait_messages(vhost, queue, 1);
    let how = json!({"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"});
    let taken = Broker::shared().manage(
        "POST",
        &format!("/api/queues/{vhost}/{queue}/get"),
        &how.to_string(),
    );
    assert_eq!(serde_json::from_str::<Vec<Value>>(&taken).unwrap().len(), 1);
    wait_messages(vhost, queue, 0);
}

#[test]
fn an_actor_in_two_clusters_keeps_its_queue_until_the_second_lets_go() {
    let Some(first) = setup::prepared() else { return };
    let second = Cluster::start();
    if !setup::prepare(&second) {
        return;
    }
    let (registry, vhost) =
        setup::rabbitmq(&json!({"queues": {"dlq": {"enabled": true, "maxRetryCount": 3}}}));
    let east = Side::start(first, "east", "shared-broker", &registry);
    let west = Side::start(&second, "west", "shared-broker", &registry);
    for (first_to_go, second_to_go, drained, laden) in [
        (&east, &west, "one-drained", "one-laden"),
        (&west, &east, "two-drained", "two-laden"),
    ] {
        for actor in [drained, laden] {
            for side in [first_to_go, second_to_go] {
                side.person.create_actor(actor, "rabbitmq", &json!({}));
            }
            for side in [first_to_go, second_to_go] {
                side.wait_ready(actor);
            }
        }
        let kept = second_to_go.workload(drained).unwrap();
        // Empty, and without consumers: nothing but the other cluster's record speaks for them.
        first_to_go.delete(&[drained, laden]);
        for actor in [drained, laden] {
            first_to_go.person.wait_event(actor, "QueueRetained");
            assert!(
                queues(&vhost).contains(&format!("asya-{actor}")),
                "the other cluster uses it"
            );
            publish(&vhost, "asya", actor);
            wait_messages(&vhost, &format!("asya-{actor}"), 1);
        }
        let now = second_to_go.workload(drained).unwrap();
        assert_eq!(
            [&now["metadata"]["uid"], &now["spec"]],
            [&kept["metadata"]["uid"], &kept["spec"]],
            "the other cluster's workload is its own"
        );
        second_to_go.wait_ready(drained);

        consume(&vhost, &format!("asya-{drained}"));
        second_to_go.delete(&[drained, laden]);
        second_to_go.person.wait_event(drained, "QueueDeleted");
        second_to_go.person.wait_event(laden, "QueueRetained");
        assert!(
            !queues(&vhost).contains(&format!("asya-{drained}")),
            "nobody uses it any more"
        );
        wait_messages(&vhost, &format!("asya-{laden}"), 1);
    }
    // Both let go at once: the last one takes the queue along, whichever that is.
    for side in [&east, &west] {
        side.person.create_actor("fleeting", "rabbitmq", &json!({}));
    }
    for side in [&east, &west] {
        side.wait_ready("fleeting");
    }
    for side in [&east, &west] {
        side.person.delete(&side.person.actor_path("fleeting"));
    }
    for side in [&east, &west] {
        side.wait_gone(&["fleeting"]);
    }
    let mut left = queues(&vhost);
    left.sort();
    assert_eq!(
        left,
        [
            "asya-one-laden",
            "asya-one-laden-dlq",
            "asya-two-laden",
            "asya-two-laden-dlq"
        ]
    );
    wait_for("the end of the owners' records", || {
        let told = Broker::shared().manage("GET", &format!("/api/exchanges/{vhost}"), "");
        (!told.contains("asya-owners.")).then_some(())
    });
}
