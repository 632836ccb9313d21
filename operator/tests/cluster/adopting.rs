//! A cluster that the Go operator ran is taken over: no pod restarts, no selector changes, no queue is lost.

use asya_tests::rabbitmq::Broker;
use axum::http::Method;
use serde_json::{Value, json};

use crate::setup::{self, Operator, Person, settings};

const SCALED: &str = "keda.sh/v1alpha1";

/// Writes as the Go operator did: whole objects, under the name of its binary.
fn create(person: &Person, path: &str, object: &Value) -> Value {
    let path = format!("{path}?fieldManager=manager");
    person
        .send(Method::POST, &path, "application/json", Some(object))
        .unwrap()
}

#[test]
fn objects_of_the_go_operator_are_kept_until_the_actor_changes() {
    let Some(cluster) = setup::prepared() else {
        return;
    };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let broker = Broker::shared();
    // Its queues were classic ones without arguments.
    broker.manage(
        "PUT",
        &format!("/api/queues/{vhost}/asya-old"),
        r#"{"durable": true}"#,
    );
    let actor = person.create_actor("old", "rabbitmq", &json!({"scaling": {"enabled": true}}));
    let owner = json!([{
        "apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor", "name": "old", "uid": actor["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let labels = json!({"app": "old", "asya.sh/asya": "old", "asya.sh/workload": "deployment"});
    let containers = json!([
        {"name": "asya-runtime", "image": "example/worker:1", "env": [{"name": "LEFT_OVER", "value": "yes"}]},
        {"name": "asya-sidecar", "image": "example/go-sidecar:1"},
    ]);
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "old", "ownerReferences": owner},
        "spec": {
            "replicas": 4, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    });
    let path = person.path("apps/v1", "deployments", "old");
    let made = create(&person, &person.path("apps/v1", "deployments", ""), &deployment);
    let trigger = json!({"type": "rabbitmq", "metadata": {
        "queueName": "asya-old", "mode": "QueueLength", "value": "5", "host": "amqp://guest@127.0.0.1:5672"}});
    let scaled = json!({
        "apiVersion": SCALED, "kind": "ScaledObject", "metadata": {"name": "old", "ownerReferences": owner},
        "spec": {"scaleTargetRef": {"name": "old"}, "cooldownPeriod": 300, "triggers": [trigger]},
    });
    let scaled_path = person.path(SCALED, "scaledobjects", "old");
    let made_scaled = create(&person, &person.path(SCALED, "scaledobjects", ""), &scaled);

    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.wait_event("old", "WorkloadAdopted");
    person.wait_condition("old", "WorkloadReady", "True", "WorkloadCreated");
    person.wait_condition("old", "ScalingReady", "True", "ScaledObjectCreated");
    person.wait_condition("old", "TransportReady", "True", "QueueConfigDrift");
    let kept = person.get(&path).unwrap();
    assert_eq!(kept["spec"], made["spec"], "no pod restarts");
    assert_eq!(kept["metadata"]["labels"]["asya.sh/asya"], "old");
    assert_eq!(person.get(&scaled_path).unwrap()["spec"], made_scaled["spec"]);
    let queue: Value =
        serde_json::from_str(&broker.manage("GET", &format!("/api/queues/{vhost}/asya-old"), "")).unwrap();
    assert_eq!(
        queue["arguments"]["x-queue-type"].as_str().unwrap_or("classic"),
        "classic"
    );

    person.merge(
        &person.actor_path("old"),
        &json!({"spec": {"timeout": {"processing": 123}}}),
    );
    let written = person.wait("the new time", &path, |deployment| {
        deployment
            .to_string()
            .contains("123s")
            .then(|| deployment.clone())
    });
    assert!(
        !written["spec"].to_string().contains("LEFT_OVER"),
        "what it wrote and nobody wants goes"
    );
    assert!(!written["spec"].to_string().contains("go-sidecar"), "{written:#}");
    assert_eq!(written["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(written["spec"]["replicas"], 4, "the autoscaler's number stays");
    person.wait("our scaler", &scaled_path, |scaled| {
        scaled["metadata"]["annotations"]["asya.sh/source-generation"]
            .is_string()
            .then_some(())
    });
    assert_eq!(written["metadata"]["uid"], kept["metadata"]["uid"]);
}
