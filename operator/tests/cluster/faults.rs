//! Objects that cannot be read, a cluster that refuses, and things that are missing: each actor bears its own, and
//! everything heals.

use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_operator::report::Nobody;
use asya_tests::kube::Cluster;
use asya_tests::{keda, wait_for};
use axum::http::Method;
use serde_json::json;

use crate::api_proxy::{ApiProxy, Fault};
use crate::setup::{self, Operator, Person, condition, settings};

const SCALED: &str = "keda.sh/v1alpha1";

/// The definition as a predecessor had it: the API server checks nothing.
fn define_anything(cluster: &Cluster) {
    let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let version = json!({
        "name": "v1alpha1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}},
    });
    let names = json!({"kind": "AsyncActor", "listKind": "AsyncActorList", "plural": "asyncactors", "singular": "asyncactor"});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "asyncactors.asya.sh"},
        "spec": {"group": "asya.sh", "scope": "Namespaced", "names": names, "versions": [version]},
    });
    let file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::fs::write(file.path(), definition.to_string()).unwrap();
    cluster.define(&file.path().to_string_lossy());
}

#[test]
fn one_object_that_cannot_be_read_harms_only_itself_and_keda_may_come_later() {
    if setup::prepared().is_none() {
        return;
    }
    let cluster = Cluster::start();
    define_anything(&cluster);
    let person = Person::new(&cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(&cluster, settings(&person.namespace, registry));
    let unquoted = json!([{"name": "asya-runtime", "image": "i", "env": [{"name": "PORT", "value": 8080}]}]);
    let workload = |containers| json!({"workload": {"template": {"spec": {"containers": containers}}}});
    person.create_actor("unquoted", "rabbitmq", &workload(unquoted));
    person.create_actor("number", "rabbitmq", &workload(json!(5)));
    person.create_actor(
        "shapeless",
        "rabbitmq",
        &json!({"workload": "a string", "scaling": []}),
    );
    person.create_actor("good", "rabbitmq", &json!({"scaling": {"enabled": true}}));

    person.wait_condition("good", "WorkloadReady", "True", "WorkloadCreated");
    let missing = person.wait_condition("good", "ScalingReady", "False", "ReconcileError");
    assert!(
        missing["message"].as_str().unwrap().contains("KEDA CRDs"),
        "{missing}"
    );
    for (name, word) in [
        ("unquoted", "value"),
        ("number", "containers"),
        ("shapeless", "workload"),
    ] {
        let refused = person.wait_condition(name, "WorkloadReady", "False", "ValidationError");
        assert!(refused["message"].as_str().unwrap().contains(word), "{refused}");
        assert!(person.get(&person.path("apps/v1", "deployments", name)).is_none());
        person.delete(&person.actor_path(name));
        person.wait_gone(&person.actor_path(name));
    }
    assert!(keda::install(&cluster));
    person.wait_condition("good", "ScalingReady", "True", "ScaledObjectCreated");
}

#[test]
fn an_api_server_that_was_away_is_found_again() {
    if setup::prepared().is_none() {
        return;
    }
    let cluster = Cluster::start();
    setup::define_actors(&cluster);
    let person = Person::new(&cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(&cluster, settings(&person.namespace, registry));
    person.create_actor("before", "rabbitmq", &json!({}));
    person.wait_condition("before", "WorkloadReady", "True", "WorkloadCreated");
    cluster.kill();
    cluster.run();
    person.create_actor("after", "rabbitmq", &json!({}));
    person.wait_condition("after", "WorkloadReady", "True", "WorkloadCreated");
    let path = person.path("apps/v1", "deployments", "before");
    person.delete(&path);
    person.wait("the workload again", &path, |object| object.get("spec").map(drop));
}

#[test]
fn refusals_pass_and_a_lasting_one_makes_no_hot_loop() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let proxy = ApiProxy::start(cluster);
    for (path, code, times) in [
        ("/deployments/hard", 500, 2),
        ("/asyncactors/hard/status", 409, 2),
        ("/asyncactors/hard?", 409, 1),
        ("/configmaps/asya-runtime", 429, 2),
        ("/scaledobjects/hard", 503, 2),
    ] {
        proxy.rule(path, Some(Method::PATCH), Fault::Refuse(code), times);
    }
    proxy.rule("/deployments/lossy", Some(Method::PATCH), Fault::LoseAnswer, 1);
    proxy.rule(
        "/deployments/stuck",
        Some(Method::PATCH),
        Fault::Refuse(500),
        usize::MAX,
    );
    let settings = settings(&person.namespace, registry);
    let _operator = Operator::start_with(proxy.kubeconfig(cluster), settings, Arc::new(Nobody));
    let started = Instant::now();
    for name in ["stuck", "hard", "lossy", "easy"] {
        person.create_actor(name, "rabbitmq", &json!({"scaling": {"enabled": true}}));
    }
    for name in ["easy", "lossy", "hard"] {
        person.wait_condition(name, "WorkloadReady", "True", "WorkloadCreated");
        person.wait_condition(name, "ScalingReady", "True", "ScaledObjectCreated");
    }
    let told = person.wait_condition("stuck", "WorkloadReady", "False", "ReconcileError");
    assert!(told["message"].as_str().unwrap().contains("Deployment"), "{told}");
    let tries = || {
        let seen = proxy.seen();
        let of = |method: Option<Method>| {
            let about = seen
                .iter()
                .filter(|seen| seen.path.contains("/stuck") && !seen.path.contains("/events"));
            about
                .filter(|seen| method.as_ref().is_none_or(|method| seen.method == *method))
                .count()
        };
        (of(Some(Method::PATCH)), of(None))
    };
    wait_for("some more tries", || (tries().0 >= 6).then_some(()));
    // Pauses of 1 s, 2 s, 4 s, ... less a fifth: four tries cannot be had in less than 5 s.
    assert!(
        started.elapsed() > Duration::from_secs(4),
        "the tries follow each other too fast"
    );
    assert!(tries().1 < 60, "{:?}", proxy.seen());
    assert!(
        person
            .get(&person.path(SCALED, "scaledobjects", "stuck"))
            .is_none(),
        "there is nothing to scale"
    );

    proxy.calm();
    person.wait_condition("stuck", "WorkloadReady", "True", "WorkloadCreated");
}

#[test]
fn a_missing_secret_is_named_and_found_later() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({"passwordSecretRef": {"name": "broker", "key": "password"}}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("worker", "rabbitmq", &json!({}));
    let missing = person.wait_condition("worker", "TransportReady", "False", "QueueError");
    assert!(
        missing["message"].as_str().unwrap().contains("broker"),
        "{missing}"
    );
    person.wait_condition("worker", "WorkloadReady", "True", "WorkloadCreated");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "broker"}, "stringData": {"password": "guest"}});
    person.create(&person.path("v1", "secrets", ""), &secret);
    person.wait_condition("worker", "TransportReady", "True", "TransportValidated");
}

#[test]
fn in_a_namespace_that_is_being_deleted_nothing_is_made_and_actors_can_go() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("worker", "rabbitmq", &json!({}));
    person.wait_condition("worker", "WorkloadReady", "True", "WorkloadCreated");
    cluster.kubectl(&["delete", "namespace", &person.namespace, "--wait=false"]);
    person.merge(
        &person.actor_path("worker"),
        &json!({"spec": {"scaling": {"enabled": true}}}),
    );
    let refused = person.wait_condition("worker", "ScalingReady", "False", "ReconcileError");
    assert!(
        refused["message"].as_str().unwrap().contains("terminat"),
        "{refused}"
    );
    let actor = person.get(&person.actor_path("worker")).unwrap();
    assert_eq!(condition(&actor, "TransportReady").unwrap()["status"], "True");
    person.delete(&person.actor_path("worker"));
    person.wait_gone(&person.actor_path("worker"));
}

#[test]
fn a_scaler_stays_when_what_stands_before_it_cannot_be_written() {
    let Some(cluster) = setup::prepared() else {
        return;
    };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({"passwordSecretRef": {"name": "broker", "key": "password"}}));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "broker"},
        "stringData": {"username": "guest", "password": "guest"},
    });
    person.create(&person.path("v1", "secrets", ""), &secret);
    let proxy = ApiProxy::start(cluster);
    let settings = settings(&person.namespace, registry);
    let _operator = Operator::start_with(proxy.kubeconfig(cluster), settings, Arc::new(Nobody));
    person.create_actor("scaled", "rabbitmq", &json!({"scaling": {"enabled": true}}));
    person.wait_condition("scaled", "ScalingReady", "True", "ScaledObjectCreated");
    let path = person.path(SCALED, "scaledobjects", "scaled");
    let auth = person.path(SCALED, "triggerauthentications", "scaled-trigger-auth");
    let uid = person.get(&path).unwrap()["metadata"]["uid"].clone();

    proxy.rule(
        "/triggerauthentications/",
        Some(Method::PATCH),
        Fault::Refuse(500),
        usize::MAX,
    );
    person.delete(&auth);
    person.wait_condition("scaled", "ScalingReady", "False", "ReconcileError");
    // Another change meanwhile: this pass too finds the scaler wanted.
    person.merge(
        &person.actor_path("scaled"),
        &json!({"spec": {"timeout": {"processing": 77}}}),
    );
    person.wait("the generation", &person.actor_path("scaled"), |actor| {
        (actor["status"]["observedGeneration"] == actor["metadata"]["generation"]).then_some(())
    });
    let scaled = person.get(&path).expect("the autoscaler is still there");
    assert_eq!(scaled["metadata"]["uid"], uid);
    assert!(
        !proxy
            .seen()
            .iter()
            .any(|seen| seen.method == Method::DELETE && seen.path.contains("/scaledobjects/"))
    );

    proxy.calm();
    person.merge(
        &person.actor_path("scaled"),
        &json!({"spec": {"scaling": {"maxReplicas": 7}}}),
    );
    person.wait("the credentials again", &auth, |auth| auth.get("spec").map(drop));
    person.wait_condition("scaled", "ScalingReady", "True", "ScaledObjectCreated");
    assert_eq!(person.get(&path).unwrap()["metadata"]["uid"], uid);
}

#[test]
fn a_takeover_that_stopped_half_way_is_finished() {
    let Some(cluster) = setup::prepared() else {
        return;
    };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let actor = person.create_actor("half", "rabbitmq", &json!({"scaling": {"enabled": true}}));
    let owner = json!([{
        "apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor", "name": "half", "uid": actor["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    }]);
    let create = |path: &str, object: &serde_json::Value| {
        let path = format!("{path}?fieldManager=manager");
        person
            .send(Method::POST, &path, "application/json", Some(object))
            .unwrap();
    };
    let labels = json!({"app": "half", "asya.sh/asya": "half"});
    let template = json!({
        "metadata": {"labels": labels}, "spec": {"containers": [{"name": "asya-runtime", "image": "example/worker:1"}]},
    });
    create(
        &person.path("apps/v1", "deployments", ""),
        &json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "half", "ownerReferences": owner},
            "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
        }),
    );
    let trigger = json!({"type": "rabbitmq", "metadata": {
        "queueName": "asya-half", "mode": "QueueLength", "value": "5", "host": "amqp://guest@127.0.0.1:5672"}});
    create(
        &person.path(SCALED, "scaledobjects", ""),
        &json!({
            "apiVersion": SCALED, "kind": "ScaledObject", "metadata": {"name": "half", "ownerReferences": owner},
            "spec": {"scaleTargetRef": {"name": "half"}, "initialCooldownPeriod": 123, "triggers": [trigger]},
        }),
    );

    let proxy = ApiProxy::start(cluster);
    let settings = settings(&person.namespace, registry);
    let _operator = Operator::start_with(proxy.kubeconfig(cluster), settings, Arc::new(Nobody));
    person.wait_condition("half", "ScalingReady", "True", "ScaledObjectCreated");
    let path = person.path(SCALED, "scaledobjects", "half");
    person.wait("the mark of the takeover", &path, |scaled| {
        scaled["metadata"]["annotations"]["asya.sh/adopted-generation"]
            .is_string()
            .then_some(())
    });
    // The predecessor's hold on the workload ends, that on the scaler does not at first.
    proxy.rule("/scaledobjects/half", Some(Method::PATCH), Fault::Refuse(409), 1);
    person.merge(
        &person.actor_path("half"),
        &json!({"spec": {"timeout": {"processing": 77}}}),
    );
    let scaled = person.wait("our scaler", &path, |scaled| {
        scaled["metadata"]["annotations"]["asya.sh/applied"]
            .is_string()
            .then(|| scaled.clone())
    });
    assert_eq!(
        scaled["spec"].get("initialCooldownPeriod"),
        None,
        "what it wrote and nobody wants goes"
    );
    let managers = scaled["metadata"]["managedFields"].to_string();
    assert!(!managers.contains(r#""manager":"manager""#), "{managers}");
}
