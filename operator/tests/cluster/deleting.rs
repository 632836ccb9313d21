//! The end of actors, and what becomes of their queues.

use std::sync::Arc;
use std::time::Duration;

use asya_operator::report::Nobody;
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;
use axum::http::Method;
use serde_json::{Value, json};

use crate::api_proxy::{ApiProxy, Fault};
use crate::setup::{self, Operator, Person, settings};

/// The queues of a virtual host, as the broker tells them.
fn queues(vhost: &str) -> Vec<String> {
    let text = Broker::shared().manage("GET", &format!("/api/queues/{vhost}"), "");
    let queues: Vec<Value> = serde_json::from_str(&text).unwrap();
    queues
        .iter()
        .map(|queue| queue["name"].as_str().unwrap().to_owned())
        .collect()
}

fn publish(vhost: &str, queue: &str) {
    let message =
        json!({"properties": {}, "routing_key": queue, "payload": "{}", "payload_encoding": "string"});
    let path = format!("/api/exchanges/{vhost}/amq.default/publish");
    assert!(
        Broker::shared()
            .manage("POST", &path, &message.to_string())
            .contains("true"),
        "it was routed"
    );
}

fn ready(person: &Person, actor: &str) {
    person.wait_condition(actor, "WorkloadReady", "True", "WorkloadCreated");
    person.wait("a record of the queue", &person.actor_path(actor), |actor| {
        actor["status"]["queueRef"]["name"].is_string().then_some(())
    });
}

/// Deletes an actor and waits until it is gone.
fn delete(person: &Person, actor: &str) {
    person.delete(&person.actor_path(actor));
    person.wait_gone(&person.actor_path(actor));
}

#[test]
fn an_empty_queue_goes_with_its_actor_after_scaler_and_pods() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor(
        "leaving",
        "rabbitmq",
        &json!({"scaling": {"enabled": true, "minReplicas": 2}}),
    );
    person.wait_condition("leaving", "ScalingReady", "True", "ScaledObjectCreated");
    ready(&person, "leaving");
    let labels = json!({"asya.sh/asya": "leaving", "app": "leaving"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "leaving-1", "labels": labels},
        "spec": {"containers": [{"name": "asya-runtime", "image": "example/worker:1"}], "terminationGracePeriodSeconds": 0},
    });
    person.create(&person.path("v1", "pods", ""), &pod);

    person.delete(&person.actor_path("leaving"));
    person.wait(
        "no replicas",
        &person.path("apps/v1", "deployments", "leaving"),
        |deployment| (deployment["spec"]["replicas"] == 0).then_some(()),
    );
    person.wait_gone(&person.path("keda.sh/v1alpha1", "scaledobjects", "leaving"));
    let shown = person.get(&person.actor_path("leaving")).unwrap();
    assert_eq!(shown["status"]["status"], "Terminating");
    assert!(
        queues(&vhost).contains(&"asya-leaving".to_owned()),
        "a pod is still there"
    );

    person.delete(&person.path("v1", "pods", "leaving-1"));
    person.wait_gone(&person.actor_path("leaving"));
    assert_eq!(queues(&vhost), Vec::<String>::new());
    person.wait_event("leaving", "QueueDeleted");
}

#[test]
fn a_queue_with_messages_stays_unless_the_manifest_says_otherwise() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    for (actor, policy) in [
        ("full", Value::Null),
        ("kept", json!("Retain")),
        ("dropped", json!("Delete")),
    ] {
        let queue = if policy.is_null() {
            json!({})
        } else {
            json!({"queue": {"deletionPolicy": policy}})
        };
        person.create_actor(actor, "rabbitmq", &queue);
        ready(&person, actor);
    }
    for actor in ["full", "dropped"] {
        publish(&vhost, &format!("asya-{actor}"));
        wait_for("a message in the queue", || {
            let queue = Broker::shared().manage("GET", &format!("/api/queues/{vhost}/asya-{actor}"), "");
            let queue: Value = serde_json::from_str(&queue).unwrap();
            (queue["messages"] == 1).then_some(())
        });
    }
    for actor in ["full", "kept", "dropped"] {
        delete(&person, actor);
    }
    let mut left = queues(&vhost);
    left.sort();
    assert_eq!(left, ["asya-full", "asya-kept"]);
    person.wait_event("full", "QueueRetained");
    person.wait_event("kept", "QueueRetained");
    person.wait_event("dropped", "QueueDeleted");
}

#[test]
fn a_broker_that_is_away_holds_up_neither_rollouts_nor_for_ever_a_deletion() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("stranded", "rabbitmq", &json!({}));
    ready(&person, "stranded");
    drop(operator);

    // Nobody listens on this port.
    let (registry, _) = setup::rabbitmq(&json!({"port": 1, "managementPort": null, "vhost": vhost}));
    let mut settings = settings(&person.namespace, registry);
    settings.deletion_patience = Duration::from_secs(3);
    let proxy = ApiProxy::start(cluster);
    let _operator = Operator::start_with(proxy.kubeconfig(cluster), settings, Arc::new(Nobody));
    person.wait_condition("stranded", "TransportReady", "False", "QueueError");
    person.merge(
        &person.actor_path("stranded"),
        &json!({"spec": {"workload": {"replicas": 7}}}),
    );
    person.wait(
        "the new number of replicas",
        &person.path("apps/v1", "deployments", "stranded"),
        |deployment| (deployment["spec"]["replicas"] == 7).then_some(()),
    );
    proxy.forget();
    delete(&person, "stranded");
    person.wait_event("stranded", "DeletionBlocked");
    person.wait_event("stranded", "QueueRetained");
    assert_eq!(queues(&vhost), ["asya-stranded"]);
    // Said once, and not taken back and said again at each look.
    let told = proxy.writes();
    let told = told.iter().filter(|seen| seen.path.contains("/stranded/status"));
    assert!(told.clone().count() <= 6, "{:?}", told.collect::<Vec<_>>());
}

#[test]
fn an_actor_whose_transport_is_unknown_and_one_with_other_finalizers_can_be_deleted() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("lost", "nowhere", &json!({}));
    person.wait_condition("lost", "TransportReady", "False", "InvalidTransport");
    delete(&person, "lost");

    let mut held = setup::actor("held", "rabbitmq", &json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    person.create(&person.actor_path(""), &held);
    ready(&person, "held");
    person.delete(&person.actor_path("held"));
    let ours_is_gone =
        |actor: &Value| (actor["metadata"]["finalizers"] == json!(["example.com/hold"])).then_some(());
    person.wait(
        "only the other finalizer",
        &person.actor_path("held"),
        ours_is_gone,
    );
    assert_eq!(queues(&vhost), Vec::<String>::new());
    person.merge(
        &person.actor_path("held"),
        &json!({"metadata": {"finalizers": null}}),
    );
    person.wait_gone(&person.actor_path("held"));
}

#[test]
fn a_queue_that_somebody_deleted_comes_back_although_nobody_looks_after_queues() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let mut settings = settings(&person.namespace, registry);
    settings.queue_check_interval = None;
    settings.status_refresh = Duration::from_millis(500);
    let _operator = Operator::start(cluster, settings);
    person.create_actor("returning", "rabbitmq", &json!({}));
    ready(&person, "returning");
    let queue = format!("/api/queues/{vhost}/asya-returning");
    let bindings = || -> Value {
        let text = Broker::shared().manage("GET", &format!("{queue}/bindings"), "");
        serde_json::from_str(&text).unwrap_or_default()
    };
    let before = bindings();
    assert!(before.as_array().is_some_and(|all| all.len() > 1), "{before}");
    assert!(
        !person
            .event_reasons("returning")
            .contains(&"QueueRecreated".to_owned())
    );

    Broker::shared().manage("DELETE", &queue, "");
    person.wait_event("returning", "QueueRecreated");
    assert_eq!(queues(&vhost), ["asya-returning"]);
    assert_eq!(bindings(), before, "messages find it again");
    person.wait_condition("returning", "TransportReady", "True", "TransportValidated");
    person.wait("its messages", &person.actor_path("returning"), |actor| {
        (actor["status"]["queuedMessages"] == 0).then_some(())
    });
}

#[test]
fn a_deletion_goes_on_after_somebody_refused_a_part_of_it() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let proxy = ApiProxy::start(cluster);
    let settings = settings(&person.namespace, registry);
    let _operator = Operator::start_with(proxy.kubeconfig(cluster), settings, Arc::new(Nobody));
    person.create_actor("guarded", "rabbitmq", &json!({}));
    ready(&person, "guarded");
    // As a webhook may, for a while.
    proxy.rule("/deployments/guarded", Some(Method::PATCH), Fault::Refuse(422), 2);
    delete(&person, "guarded");
    assert_eq!(queues(&vhost), Vec::<String>::new());
    let refused = proxy
        .writes()
        .into_iter()
        .filter(|seen| seen.code == Some(422))
        .count();
    assert_eq!(refused, 2);
}
