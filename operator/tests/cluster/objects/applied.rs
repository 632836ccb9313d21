//! A real API server takes every object that we write, changes nothing the second time, and what it stores counts as no
//! drift.

use asya_operator::desired::{
    Facts, Kind, Object, REPLICAS_MANAGER, STRATEGY_MANAGER, contains, replicas_handover, runtime_config_map,
    strategy_change,
};
use asya_operator::resource::{Actor, FIELD_MANAGER};
use axum::http::Method;
use serde_json::{Value, json};

use super::scenarios::{Scenario, actor, actors, examples};
use crate::setup::{Person, prepared};

/// Applies as the operator does, but so that unknown and doubled fields are refused; what is stored then, or why not.
fn try_apply(person: &Person, manager: &str, body: &Value) -> Result<Value, (u16, String)> {
    let text = |path: &str| body.pointer(path).and_then(Value::as_str).unwrap();
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| kind.names().1 == text("/kind"))
        .unwrap();
    let path = person.path(text("/apiVersion"), kind.names().2, text("/metadata/name"));
    let path = format!("{path}?fieldManager={manager}&force=true&fieldValidation=Strict");
    person.send(Method::PATCH, &path, "application/apply-patch+yaml", Some(body))
}

fn apply(person: &Person, body: &Value) -> Value {
    try_apply(person, FIELD_MANAGER, body).unwrap_or_else(|error| panic!("{error:?}: {body:#}"))
}

/// Patches what is stored, as `manager`.
fn patch(person: &Person, object: &Object, manager: &str, kind: &str, change: &Value) -> Value {
    let (api_version, _, plural) = object.kind.names();
    let place = person.path(api_version, plural, &object.name);
    let url = format!("{place}?fieldManager={manager}");
    person.send(Method::PATCH, &url, kind, Some(change)).unwrap()
}

/// A person with an actor of the fixtures in a namespace of its own; `None` where tests are skipped.
fn with_actor(name: &str) -> Option<(Person, Scenario)> {
    let person = Person::new(prepared()?);
    let mut actor = actor(name);
    actor.namespace.clone_from(&person.namespace);
    Some((person, Scenario::new(actor)))
}

fn workload(scenario: &Scenario) -> Object {
    scenario.desired().workload.unwrap().remove(0)
}

fn version(object: &Value) -> &Value {
    &object["metadata"]["resourceVersion"]
}

#[test]
fn every_object_is_admitted_counts_as_no_drift_and_the_second_time_changes_nothing() {
    let Some(cluster) = prepared() else { return };
    let mut count = 0;
    for transport in ["rabbitmq", "rabbitmq-tls-http", "sqs", "sqs-keys"] {
        let person = Person::new(cluster);
        let mut objects = Vec::new();
        for mut actor in examples().into_iter().chain(actors("kinds.yaml")) {
            actor.namespace.clone_from(&person.namespace);
            objects.extend(Scenario::new(actor).on(transport).objects());
        }
        objects.push(runtime_config_map(
            &person.namespace,
            &Scenario::new(actor("hello-actor")).defaults.script,
        ));
        for object in objects {
            let first = apply(&person, &object.body);
            let what = format!("{:?} {} on {transport}", object.kind, object.name);
            assert_eq!(contains(&first, &object.body), None, "{what}: {first:#}");
            let second = apply(&person, &object.body);
            assert_eq!(version(&first), version(&second), "{what}");
            count += 1;
        }
    }
    assert!(count > 150, "{count}");
}

#[test]
fn an_account_for_a_role_and_the_username_of_a_transport_are_admitted_too() {
    let Some((person, scenario)) = with_actor("llm-actor") else {
        return;
    };
    let mut alone = scenario.clone();
    alone.facts.secret_has_username = false;
    let objects = [scenario.on("sqs-role").objects(), alone.objects()].concat();
    let kinds = [Kind::ServiceAccount, Kind::ConfigMap];
    assert!(
        kinds
            .iter()
            .all(|kind| objects.iter().any(|object| object.kind == *kind))
    );
    for object in objects {
        let stored = apply(&person, &object.body);
        assert_eq!(contains(&stored, &object.body), None, "{:?}", object.kind);
    }
}

/// Else the test above would say nothing.
#[test]
fn an_unknown_field_and_a_wrong_type_would_be_refused() {
    let Some((person, scenario)) = with_actor("cached-actor") else {
        return;
    };
    for object in scenario.objects() {
        let mut body = object.body.clone();
        body["spec"]["unheardOf"] = json!(1);
        let (code, message) = try_apply(&person, FIELD_MANAGER, &body).unwrap_err();
        assert!(
            code >= 400 && message.contains("unheardOf"),
            "{:?}: {message}",
            object.kind
        );
    }
    for path in [
        "/spec/minReplicaCount",
        "/spec/triggers/0/metadata/value",
        "/spec/scaleTargetRef",
    ] {
        let objects = scenario.desired().scaler.unwrap();
        let mut body = objects
            .into_iter()
            .find(|object| object.kind == Kind::ScaledObject)
            .unwrap()
            .body;
        *body.pointer_mut(path).unwrap() = json!([true]);
        let (code, message) = try_apply(&person, FIELD_MANAGER, &body).unwrap_err();
        assert!(code >= 400, "{path}: {message}");
    }
}

#[test]
fn what_another_hand_changes_in_a_stored_object_is_seen_and_repaired() {
    let Some((person, mut scenario)) = with_actor("everything-in-a-pod") else {
        return;
    };
    scenario.actor.spec.scaling.enabled = true;
    let objects = scenario.objects();
    for object in &objects {
        apply(&person, &object.body);
    }
    let replace = |path: &str, value: Value| json!([{ "op": "replace", "path": path, "value": value }]);
    let remove = |path: &str| json!([{ "op": "remove", "path": path }]);
    let pod = "spec.template.spec.containers[asya-runtime]";
    let changes = [
        (
            Kind::Deployment,
            replace("/spec/template/spec/containers/0/image", json!("other")),
            format!("{pod}.image"),
        ),
        (
            Kind::Deployment,
            remove("/spec/template/spec/containers/0/resources/limits/memory"),
            format!("{pod}.resources.limits.memory"),
        ),
        (
            Kind::ScaledObject,
            replace("/spec/triggers/0/metadata/value", json!("9")),
            "spec.triggers[0].metadata.value".into(),
        ),
        (
            Kind::ScaledObject,
            replace("/spec/maxReplicaCount", json!(9)),
            "spec.maxReplicaCount".into(),
        ),
        (
            Kind::TriggerAuthentication,
            replace("/spec/secretTargetRef/1/key", json!("other")),
            "spec.secretTargetRef[1].key".into(),
        ),
        (
            Kind::PodDisruptionBudget,
            json!([{ "op": "add", "path": "/spec/selector/matchLabels/more", "value": "label" }]),
            "spec.selector.matchLabels.more".into(),
        ),
        (
            Kind::PodDisruptionBudget,
            remove("/metadata/labels/asya.sh~1asya"),
            "metadata.labels.asya.sh/asya".into(),
        ),
    ];
    for (kind, change, path) in changes {
        let object = objects.iter().find(|object| object.kind == kind).unwrap();
        let stored = patch(
            &person,
            object,
            "somebody",
            "application/json-patch+json",
            &change,
        );
        assert_eq!(contains(&stored, &object.body), Some(path), "{change}");
        let repaired = apply(&person, &object.body);
        assert_eq!(contains(&repaired, &object.body), None, "{change}");
    }
}

#[test]
fn the_number_of_replicas_outlives_that_we_no_longer_write_it() {
    for name in ["llm-actor", "statefulset-scaled"] {
        let Some((person, mut scenario)) = with_actor(name) else {
            return;
        };
        let hand_over = |live: &Value, scenario: &Scenario| {
            let part = replicas_handover(live, &workload(scenario).body).expect("the number is ours alone");
            try_apply(&person, REPLICAS_MANAGER, &part).unwrap();
        };
        let born = apply(&person, &workload(&scenario).body);
        assert_eq!(born["spec"]["replicas"], 0, "no pod is wasted on an empty queue");

        scenario.facts = Facts {
            workload_exists: true,
            ..scenario.facts
        };
        hand_over(&born, &scenario);
        let live = apply(&person, &workload(&scenario).body);
        assert_eq!(live["spec"]["replicas"], 0);
        assert_eq!(
            replicas_handover(&live, &workload(&scenario).body),
            None,
            "it is handed over once"
        );

        // The autoscaler's way.
        let scale = json!({ "spec": { "replicas": 3 } });
        patch(
            &person,
            &workload(&scenario),
            "keda",
            "application/merge-patch+json",
            &scale,
        );
        let live = apply(&person, &workload(&scenario).body);
        assert_eq!(live["spec"]["replicas"], 3);
        assert_eq!(replicas_handover(&live, &workload(&scenario).body), None);

        scenario.actor.spec.scaling.enabled = false;
        scenario.actor.spec.workload.replicas = 2;
        let live = apply(&person, &workload(&scenario).body);
        assert_eq!(
            live["spec"]["replicas"], 2,
            "without scaling the number is the actor's"
        );

        scenario.actor.spec.scaling.enabled = true;
        hand_over(&live, &scenario);
        let live = apply(&person, &workload(&scenario).body);
        assert_eq!(
            live["spec"]["replicas"], 2,
            "replicas stay until the autoscaler acts"
        );
    }
}

/// Why [`replicas_handover`] is there.
#[test]
fn without_a_handover_the_api_server_would_start_a_pod() {
    let Some((person, mut scenario)) = with_actor("llm-actor") else {
        return;
    };
    apply(&person, &workload(&scenario).body);
    scenario.facts = Facts {
        workload_exists: true,
        ..scenario.facts
    };
    assert_eq!(apply(&person, &workload(&scenario).body)["spec"]["replicas"], 1);
}

#[test]
fn a_strategy_can_change_its_type_in_place_and_be_taken_back() {
    let cases = [
        ("hello-actor", "strategy", "Recreate", "maxUnavailable"),
        ("statefulset-fixed", "updateStrategy", "OnDelete", "partition"),
    ];
    for (name, field, other, how) in cases {
        let Some((person, mut scenario)) = with_actor(name) else {
            return;
        };
        let set = |kind: &str| Some(json!({ "type": kind }));
        let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { how: 1 } });
        let steps = [
            (None, "RollingUpdate"),
            (set(other), other),
            (Some(rolling), "RollingUpdate"),
            (set(other), other),
            (Some(json!({})), "RollingUpdate"),
            (set(other), other),
            (None, "RollingUpdate"),
        ];
        for (strategy, expected) in steps {
            scenario.actor.spec.workload.strategy = strategy;
            let object = workload(&scenario);
            let (api_version, _, plural) = object.kind.names();
            if let Some(live) = person.get(&person.path(api_version, plural, &object.name))
                && let Some(change) = strategy_change(&live, &object.body)
            {
                patch(
                    &person,
                    &object,
                    STRATEGY_MANAGER,
                    "application/merge-patch+json",
                    &change,
                );
            }
            let stored = apply(&person, &object.body);
            assert_eq!(stored["spec"][field]["type"], expected);
            assert_eq!(contains(&stored, &object.body), None);
            assert_eq!(strategy_change(&stored, &object.body), None, "once is enough");
        }
    }
}

#[test]
fn a_strategy_that_somebody_else_has_set_is_left_alone() {
    let Some((person, scenario)) = with_actor("hello-actor") else {
        return;
    };
    let object = workload(&scenario);
    apply(&person, &object.body);
    let change = json!({ "spec": { "strategy": { "type": "Recreate", "rollingUpdate": null } } });
    let live = patch(
        &person,
        &object,
        "somebody",
        "application/merge-patch+json",
        &change,
    );
    assert_eq!(strategy_change(&live, &object.body), None);
    assert_eq!(
        apply(&person, &object.body)["spec"]["strategy"]["type"],
        "Recreate"
    );
}

#[test]
fn an_existing_selector_can_be_applied_again_whatever_the_actor_says_now() {
    let Some((person, mut scenario)) = with_actor("hello-actor") else {
        return;
    };
    let stored = apply(&person, &workload(&scenario).body);
    let labels = stored.pointer("/spec/selector/matchLabels").unwrap().clone();
    assert_eq!(
        labels,
        json!({ "app": "hello-actor", "asya.sh/asya": "hello-actor", "asya.sh/workload": "deployment" })
    );

    let rename = |actor: &mut Actor| {
        actor.spec.workload.template.metadata =
            json!({ "labels": { "app": "renamed", "asya.sh/workload": "mine" } });
    };
    rename(&mut scenario.actor);
    scenario.facts = Facts {
        workload_exists: true,
        selector: Some(serde_json::from_value(labels.clone()).unwrap()),
        ..scenario.facts
    };
    let stored = apply(&person, &workload(&scenario).body);
    assert_eq!(stored.pointer("/spec/selector/matchLabels"), Some(&labels));
    assert_eq!(
        stored.pointer("/spec/template/metadata/labels/app"),
        Some(&json!("hello-actor"))
    );
}
