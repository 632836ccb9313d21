//! A real API server takes every object that we write, changes nothing the second time, and what it stores counts as no
//! drift.

use std::sync::OnceLock;

use asya_operator::desired::{Facts, Object, contains, replicas_handover, runtime_config_map};
use asya_operator::desired::{Kind, REPLICAS_MANAGER};
use asya_operator::resource::FIELD_MANAGER;
use asya_tests::keda;
use asya_tests::kube::Cluster;
use serde_json::{Value, json};

use super::scenarios::{Scenario, actor, actors};

/// The API server with KEDA's definitions; `None` where tests are skipped.
fn cluster() -> Option<&'static Cluster> {
    static HAS_KEDA: OnceLock<bool> = OnceLock::new();
    let cluster = Cluster::shared()?;
    HAS_KEDA.get_or_init(|| keda::install(cluster)).then_some(cluster)
}

/// Applies as the operator does, refusing unknown and doubled fields, and gives back what is stored.
fn apply(cluster: &Cluster, manager: &str, bodies: &[Value]) -> Vec<Value> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": bodies });
    let manager = format!("--field-manager={manager}");
    let arguments = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "--show-managed-fields"];
    let arguments: Vec<&str> = arguments.into_iter().chain([&*manager, "--output=json", "--filename=-"]).collect();
    let stored: Value = serde_json::from_str(&cluster.kubectl_with(&arguments, &list.to_string())).unwrap();
    match stored.get("items") {
        Some(items) => items.as_array().unwrap().clone(),
        None => vec![stored],
    }
}

fn bodies(objects: &[Object]) -> Vec<Value> {
    objects.iter().map(|object| object.body.clone()).collect()
}

fn everything(namespaces: [&str; 2]) -> Vec<Object> {
    let mut objects = Vec::new();
    for (namespace, transport) in namespaces.into_iter().zip(["rabbitmq", "sqs"]) {
        for mut actor in actors("examples.yaml").into_iter().chain(actors("kinds.yaml")) {
            namespace.clone_into(&mut actor.namespace);
            objects.extend(Scenario::new(actor).on(transport).objects());
        }
        let script = Scenario::new(actor("hello-actor")).defaults.script;
        objects.push(runtime_config_map(namespace, &script));
    }
    objects
}

#[test]
fn every_object_is_admitted_and_the_second_time_changes_nothing() {
    let Some(cluster) = cluster() else { return };
    let namespaces = [cluster.namespace(), cluster.namespace()];
    let objects = everything([&namespaces[0], &namespaces[1]]);
    assert!(objects.len() > 60, "{}", objects.len());

    let first = apply(cluster, FIELD_MANAGER, &bodies(&objects));
    assert_eq!(first.len(), objects.len());
    for (object, stored) in objects.iter().zip(&first) {
        assert_eq!(stored["metadata"]["name"], object.name, "the order is kept");
        assert_eq!(contains(stored, &object.body), None, "{:?} {}", object.kind, object.name);
    }

    let second = apply(cluster, FIELD_MANAGER, &bodies(&objects));
    for (first, second) in first.iter().zip(&second) {
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        assert_eq!(version(first), version(second), "{} {}", first["kind"], first["metadata"]["name"]);
    }
}

#[test]
fn what_another_hand_changes_in_a_stored_object_is_seen() {
    let Some(cluster) = cluster() else { return };
    let namespace = cluster.namespace();
    let mut actor = actor("everything-in-a-pod");
    actor.namespace.clone_from(&namespace);
    actor.spec.scaling.enabled = true;
    let objects = Scenario::new(actor).objects();
    apply(cluster, FIELD_MANAGER, &bodies(&objects));
    let changes = [
        (
            Kind::Deployment,
            json!([{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "other"}]),
            "spec.template.spec.containers[asya-runtime].image",
        ),
        (
            Kind::Deployment,
            json!([{"op": "remove", "path": "/spec/template/spec/containers/0/resources/limits/memory"}]),
            "spec.template.spec.containers[asya-runtime].resources.limits.memory",
        ),
        (
            Kind::ScaledObject,
            json!([{"op": "replace", "path": "/spec/triggers/0/metadata/value", "value": "9"}]),
            "spec.triggers[0].metadata.value",
        ),
        (Kind::ScaledObject, json!([{"op": "replace", "path": "/spec/maxReplicaCount", "value": 9}]), "spec.maxReplicaCount"),
        (
            Kind::TriggerAuthentication,
            json!([{"op": "replace", "path": "/spec/secretTargetRef/1/key", "value": "other"}]),
            "spec.secretTargetRef[1].key",
        ),
        (
            Kind::PodDisruptionBudget,
            json!([{"op": "add", "path": "/spec/selector/matchLabels/more", "value": "label"}]),
            "spec.selector.matchLabels.more",
        ),
        (
            Kind::PodDisruptionBudget,
            json!([{"op": "remove", "path": "/metadata/labels/asya.sh~1asya"}]),
            "metadata.labels.asya.sh/asya",
        ),
    ];
    for (kind, patch, path) in changes {
        let object = objects.iter().find(|object| object.kind == kind).unwrap();
        let (_, _, plural) = kind.names();
        let patch = patch.to_string();
        let arguments = ["patch", plural, &object.name, "--namespace", &namespace, "--type=json", "--patch", &patch];
        let stored = cluster.kubectl(&[&arguments[..], &["--output=json"]].concat());
        let stored: Value = serde_json::from_str(&stored).unwrap();
        assert_eq!(contains(&stored, &object.body).as_deref(), Some(path), "{patch}");
        let repaired = apply(cluster, FIELD_MANAGER, &[object.body.clone()]);
        assert_eq!(contains(&repaired[0], &object.body), None, "{patch}");
    }
}

#[test]
fn the_number_of_replicas_outlives_that_we_no_longer_write_it() {
    let Some(cluster) = cluster() else { return };
    for name in ["llm-actor", "statefulset-scaled"] {
        let mut actor = actor(name);
        actor.namespace = cluster.namespace();
        let mut scenario = Scenario::new(actor);
        let workload = |scenario: &Scenario| scenario.desired().workload.unwrap().remove(0).body;
        let apply_as = |manager: &str, body: Value| apply(cluster, manager, &[body]).remove(0);

        let born = apply_as(FIELD_MANAGER, workload(&scenario));
        assert_eq!(born["spec"]["replicas"], 0, "no pod is wasted on an empty queue");

        scenario.facts = Facts { workload_exists: true, ..scenario.facts };
        let handover = replicas_handover(&born, &workload(&scenario)).expect("nobody else holds the number yet");
        apply_as(REPLICAS_MANAGER, handover);
        let live = apply_as(FIELD_MANAGER, workload(&scenario));
        assert_eq!(live["spec"]["replicas"], 0);
        assert_eq!(replicas_handover(&live, &workload(&scenario)), None, "it is handed over once");

        // The autoscaler's way.
        let (kind, namespace) = (live["kind"].as_str().unwrap().to_lowercase(), &scenario.actor.namespace);
        cluster.kubectl(&["scale", &kind, name, "--replicas=3", "--namespace", namespace]);
        let live = apply_as(FIELD_MANAGER, workload(&scenario));
        assert_eq!(live["spec"]["replicas"], 3);
        assert_eq!(replicas_handover(&live, &workload(&scenario)), None);

        scenario.actor.spec.scaling.enabled = false;
        scenario.actor.spec.workload.replicas = 2;
        let live = apply_as(FIELD_MANAGER, workload(&scenario));
        assert_eq!(live["spec"]["replicas"], 2, "without scaling the number is the actor's");

        scenario.actor.spec.scaling.enabled = true;
        let handover = replicas_handover(&live, &workload(&scenario)).expect("the number is ours alone again");
        apply_as(REPLICAS_MANAGER, handover);
        let live = apply_as(FIELD_MANAGER, workload(&scenario));
        assert_eq!(live["spec"]["replicas"], 2, "replicas stay until the autoscaler acts");
    }
}

#[test]
fn a_strategy_can_change_its_type_in_place() {
    let Some(cluster) = cluster() else { return };
    for (name, field, kinds) in [
        ("hello-actor", "strategy", ["RollingUpdate", "Recreate", "RollingUpdate"]),
        ("statefulset-fixed", "updateStrategy", ["RollingUpdate", "OnDelete", "RollingUpdate"]),
    ] {
        let mut actor = actor(name);
        actor.namespace = cluster.namespace();
        let mut scenario = Scenario::new(actor);
        for kind in kinds {
            scenario.actor.spec.workload.strategy = Some(json!({ "type": kind }));
            let object = scenario.desired().workload.unwrap().remove(0);
            let stored = apply(cluster, FIELD_MANAGER, std::slice::from_ref(&object.body)).remove(0);
            assert_eq!(stored["spec"][field]["type"], kind);
            assert_eq!(contains(&stored, &object.body), None);
        }
    }
}

#[test]
fn an_existing_selector_can_be_applied_again_whatever_the_actor_says_now() {
    let Some(cluster) = cluster() else { return };
    let mut actor = actor("hello-actor");
    actor.namespace = cluster.namespace();
    let mut scenario = Scenario::new(actor);
    let first = scenario.desired().workload.unwrap().remove(0).body;
    apply(cluster, FIELD_MANAGER, std::slice::from_ref(&first));
    let labels = first.pointer("/spec/selector/matchLabels").unwrap().clone();
    assert_eq!(labels, json!({ "app": "hello-actor", "asya.sh/asya": "hello-actor", "asya.sh/workload": "deployment" }));

    scenario.actor.spec.workload.template.metadata = json!({ "labels": { "app": "renamed", "asya.sh/workload": "mine" } });
    scenario.facts = Facts {
        workload_exists: true,
        selector: Some(serde_json::from_value(labels.clone()).unwrap()),
        ..scenario.facts
    };
    let second = scenario.desired().workload.unwrap().remove(0).body;
    let stored = apply(cluster, FIELD_MANAGER, &[second]).remove(0);
    assert_eq!(stored.pointer("/spec/selector/matchLabels"), Some(&labels));
    assert_eq!(stored.pointer("/spec/template/metadata/labels/app"), Some(&json!("hello-actor")));
}
