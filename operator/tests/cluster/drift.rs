//! What others change in our objects is put right; what is not ours is left alone.

use serde_json::{Value, json};

use crate::setup::{self, Operator, Person, settings};

const SCALED: &str = "keda.sh/v1alpha1";

#[test]
fn every_object_is_put_right_and_made_again() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor(
        "steady",
        "rabbitmq",
        &json!({"scaling": {"enabled": true, "maxReplicas": 4}}),
    );
    person.wait_condition("steady", "ScalingReady", "True", "ScaledObjectCreated");
    person.wait_condition("steady", "WorkloadReady", "True", "WorkloadCreated");

    let image = "/spec/template/spec/containers/0/image";
    let cases = [
        (
            person.path("v1", "configmaps", "asya-runtime"),
            "/data/asya_runtime.py",
            json!({"data": {"asya_runtime.py": "x"}}),
        ),
        (
            person.path("apps/v1", "deployments", "steady"),
            image,
            Value::Null,
        ),
        (
            person.path("policy/v1", "poddisruptionbudgets", "steady"),
            "/spec/maxUnavailable",
            json!({"spec": {"maxUnavailable": 3}}),
        ),
        (
            person.path(SCALED, "scaledobjects", "steady"),
            "/spec/maxReplicaCount",
            json!({"spec": {"maxReplicaCount": 9}}),
        ),
    ];
    for (path, pointer, change) in cases {
        let before = person.wait("the object", &path, |object| object.pointer(pointer).cloned());
        if pointer == image {
            let change = json!([{"op": "replace", "path": image, "value": "example/evil:1"}]);
            let json_patch = "application/json-patch+json";
            person
                .send(axum::http::Method::PATCH, &path, json_patch, Some(&change))
                .unwrap();
        } else {
            person.merge(&path, &change);
        }
        person.wait("the old value", &path, |object| {
            (object.pointer(pointer) == Some(&before)).then_some(())
        });
        let old = person.get(&path).unwrap()["metadata"]["uid"].clone();
        person.delete(&path);
        person.wait("a new object", &path, |object| {
            (object["metadata"]["uid"] != old).then_some(())
        });
    }
    // What others add stays.
    let path = person.path("apps/v1", "deployments", "steady");
    person.merge(
        &path,
        &json!({"metadata": {"labels": {"asya.sh/asya": null, "theirs": "yes"}}}),
    );
    let label =
        |object: &Value| (object["metadata"]["labels"]["asya.sh/asya"] == "steady").then(|| object.clone());
    let deployment = person.wait("our label", &path, label);
    assert_eq!(deployment["metadata"]["labels"]["theirs"], "yes");
}

#[test]
fn objects_of_others_are_not_touched() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let scaled = json!({
        "apiVersion": SCALED, "kind": "ScaledObject", "metadata": {"name": "mine"},
        "spec": {"scaleTargetRef": {"name": "other"}, "triggers": [{"type": "cron", "metadata": {
            "timezone": "UTC", "start": "0 8 * * *", "end": "0 9 * * *", "desiredReplicas": "1"}}]},
    });
    person.create(&person.path(SCALED, "scaledobjects", ""), &scaled);
    let pod =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "theirs"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod},
    });
    person.create(&person.path("apps/v1", "deployments", ""), &deployment);

    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("mine", "rabbitmq", &json!({"scaling": {"enabled": true}}));
    person.create_actor("theirs", "rabbitmq", &json!({}));
    let conflict = person.wait_condition("mine", "ScalingReady", "False", "Conflict");
    assert!(
        conflict["message"].as_str().unwrap().contains("ScaledObject"),
        "{conflict}"
    );
    person.wait_condition("mine", "WorkloadReady", "True", "WorkloadCreated");
    let refused = person.wait_condition("theirs", "WorkloadReady", "False", "ReconcileError");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("Deployment \"theirs\""),
        "{refused}"
    );

    let scaled = person.get(&person.path(SCALED, "scaledobjects", "mine")).unwrap();
    assert_eq!(scaled["spec"]["scaleTargetRef"]["name"], "other");
    let path = person.path("apps/v1", "deployments", "theirs");
    let deployment = person.get(&path).unwrap();
    assert_eq!(deployment["metadata"]["generation"], 1);
    for name in ["mine", "theirs"] {
        person.delete(&person.actor_path(name));
        person.wait_gone(&person.actor_path(name));
    }
    assert_eq!(
        person.get(&path).unwrap()["spec"]["replicas"],
        1,
        "it is not stopped either"
    );
    assert!(
        person
            .get(&person.path(SCALED, "scaledobjects", "mine"))
            .is_some()
    );
}
