//! A cluster that the Go operator ran, object by object, and what becomes of it under this one (contract operator §14,
//! rulings 28): no pod restarts before its actor changes, and then once; nothing of the old template lingers; queues keep
//! their kind and their messages; what was being deleted goes.

use std::sync::Arc;
use std::time::Duration;

use asya_operator::report::Nobody;
use asya_tests::wait_for;
use axum::http::Method;
use serde_json::{Value, json};

use crate::api_proxy::ApiProxy;
use crate::setup::{self, Operator, Person, condition, settings};
use predecessor::{Predecessor, REMOVED, registry, selector};

pub(crate) mod predecessor;

/// Writes of the operator that change something for an actor of these names, by method and path.
fn writes(proxy: &ApiProxy, actors: &[&str]) -> Vec<String> {
    let concerns =
        |path: &str| actors.iter().any(|actor| path.contains(actor)) || path.contains("asya-runtime");
    let writes = proxy
        .writes()
        .into_iter()
        .filter(|seen| !seen.path.contains("/events") && concerns(&seen.path));
    writes
        .map(|seen| format!("{} {}", seen.method, seen.path))
        .collect()
}

/// Waits until nothing has been written about these actors for two seconds.
fn wait_calm(proxy: &ApiProxy, actors: &[&str]) {
    wait_for("writes to cease", || {
        proxy.forget();
        std::thread::sleep(Duration::from_secs(2));
        writes(proxy, actors).is_empty().then_some(())
    });
}

fn deployment(person: &Person, name: &str) -> Value {
    person.get(&person.path("apps/v1", "deployments", name)).unwrap()
}

fn uid(object: &Value) -> &Value {
    &object["metadata"]["uid"]
}

/// Sets the number of replicas as an HPA does.
fn autoscale(person: &Person, name: &str, replicas: u32) {
    let scale = person.path("apps/v1", "deployments", name) + "/scale?fieldManager=kube-controller-manager";
    let patch = json!({"spec": {"replicas": replicas}});
    person
        .send(
            Method::PATCH,
            &scale,
            "application/merge-patch+json",
            Some(&patch),
        )
        .unwrap();
}

/// The next version of an actor: another image, and without what [`REMOVED`] names.
fn next_version(person: &Person, name: &str) {
    let container = json!({
        "name": "asya-runtime", "image": "example/worker:2", "env": [{"name": "ASYA_HANDLER", "value": "worker.run"}],
    });
    let template = json!({"spec": {"containers": [container], "volumes": null}});
    person.merge(
        &person.actor_path(name),
        &json!({"spec": {"workload": {"template": template}}}),
    );
}

/// With an autoscaler's number, with the number of a predecessor that has just switched scaling on, without scaling.
const ACTORS: [(&str, bool, u32); 3] = [("tidal", true, 4), ("toggled", true, 3), ("manual", false, 2)];
const NAMES: [&str; 3] = [ACTORS[0].0, ACTORS[1].0, ACTORS[2].0];

/// Workload and scaler of one actor.
type Pair = (Value, Option<Value>);

fn pair(person: &Person, name: &str) -> Pair {
    let scaler = person.path("keda.sh/v1alpha1", "scaledobjects", name);
    (deployment(person, name), person.get(&scaler))
}

/// Makes [`ACTORS`] as the Go operator did, each with three messages, and gives their objects.
fn leave(old: &Predecessor<'_>, person: &Person) -> [Pair; 3] {
    for (name, is_scaled, replicas) in ACTORS {
        let actor = old.actor(name, "Deployment", is_scaled, 2);
        old.deployment(&actor, if name == "tidal" { 1 } else { replicas });
        if is_scaled {
            old.scaler(&actor);
        }
        for _ in 0..3 {
            old.publish("amq.default", &format!("asya-{name}"));
        }
        old.wait_messages(&format!("asya-{name}"), 3);
    }
    autoscale(person, "tidal", 4);
    NAMES.map(|name| pair(person, name))
}

fn wait_taken_over(person: &Person) {
    for (name, is_scaled, _) in ACTORS {
        person.wait_condition(name, "TransportReady", "True", "QueueConfigDrift");
        person.wait_condition(name, "WorkloadReady", "True", "WorkloadCreated");
        if is_scaled {
            person.wait_condition(name, "ScalingReady", "True", "ScaledObjectCreated");
        }
    }
}

/// Nothing of an actor changed but that its queue is bound; a message is published to see that.
fn assert_untouched(old: &Predecessor<'_>, person: &Person, name: &str, (workload, scaled): &Pair) {
    let (now, autoscaler) = pair(person, name);
    assert_eq!(uid(&now), uid(workload));
    assert_eq!(now["spec"], workload["spec"], "{name}: no pod restarts");
    assert_eq!(autoscaler.as_ref().map(uid), scaled.as_ref().map(uid));
    // Sidecars publish to the exchange; what was in the queue stays, and the queue what it was.
    old.publish("asya", name);
    let queue = old.wait_messages(&format!("asya-{name}"), 4);
    assert_eq!(queue["type"], "classic");
    assert_eq!(
        queue["arguments"]["x-dead-letter-routing-key"],
        format!("asya-{name}-dlq")
    );
    let actor = person.wait("the number of messages", &person.actor_path(name), |actor| {
        (actor["status"]["queuedMessages"] == 4).then(|| actor.clone())
    });
    assert_eq!(actor["metadata"]["generation"], 1, "the spec is never written");
}

/// An actor has the template that a new one has, and everything else that it had before.
fn assert_written_anew(person: &Person, name: &str, (workload, scaled): &Pair, novel: &str) {
    let now = deployment(person, name);
    assert_eq!(uid(&now), uid(workload));
    assert_eq!(now["spec"]["selector"]["matchLabels"], selector(name));
    let template: Value = serde_json::from_str(&novel.replace("novel", name)).unwrap();
    assert_eq!(
        now["spec"]["template"], template,
        "{name}: nothing of the old template lingers"
    );
    for removed in REMOVED {
        assert!(!now["spec"].to_string().contains(removed), "{removed}");
    }
    let Some(scaled) = scaled else { return };
    let path = person.path("keda.sh/v1alpha1", "scaledobjects", name);
    let written = person.wait("our scaler", &path, |scaled| {
        (scaled["spec"]["triggers"][0]["name"] == "queueLength").then(|| scaled.clone())
    });
    assert_eq!(uid(&written), uid(scaled));
    assert_eq!(written["spec"]["triggers"].as_array().unwrap().len(), 1);
    assert_eq!(
        written["metadata"]["annotations"]["asya.sh/source-generation"],
        "2"
    );
}

fn wait_version(person: &Person, name: &str) -> Value {
    let path = person.path("apps/v1", "deployments", name);
    person.wait("the new image", &path, |deployment| {
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        (image == "example/worker:2").then(|| deployment.clone())
    })
}

#[test]
fn a_cluster_of_the_go_operator_is_taken_over_without_a_restart_and_rolls_each_actor_once_when_it_changes() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&registry());
    let old = Predecessor::new(cluster, &person, &vhost);
    let before = leave(&old, &person);

    let proxy = ApiProxy::start(cluster);
    let mut settings = settings(&person.namespace, registry);
    settings.status_refresh = Duration::from_millis(500);
    settings.queue_check_interval = Some(Duration::from_secs(1));
    let start = || Operator::start_with(proxy.kubeconfig(cluster), settings.clone(), Arc::new(Nobody));
    let operator = start();
    wait_taken_over(&person);
    wait_calm(&proxy, &NAMES);
    for (name, before) in NAMES.into_iter().zip(&before) {
        assert_untouched(&old, &person, name, before);
    }
    let script = person
        .get(&person.path("v1", "configmaps", "asya-runtime"))
        .unwrap();
    assert_eq!(
        script["data"],
        json!({"asya_runtime.py": "print('runtime')\n", "notes.txt": "somebody's"})
    );

    wait_calm(&proxy, &NAMES);
    for name in NAMES {
        let look = json!({"metadata": {"labels": {"looked": "again"}}});
        person.merge(&person.actor_path(name), &look);
    }
    drop(operator);
    let _operator = start();
    // Made new with what the others will say: what a template should be.
    person.create_actor("novel", "rabbitmq", &predecessor::spec("Deployment", false, 2));
    person.wait_condition("novel", "WorkloadReady", "True", "WorkloadCreated");
    next_version(&person, "novel");
    let novel = wait_version(&person, "novel")["spec"]["template"].to_string();
    assert_eq!(
        writes(&proxy, &NAMES),
        Vec::<String>::new(),
        "nothing is written in a steady state"
    );

    // An annotation counts as a generation too: the mark of the takeover has been one.
    let generation = |name: &str| deployment(&person, name)["metadata"]["generation"].as_i64();
    let generations = NAMES.map(|name| generation(name).unwrap() + 1);
    for name in NAMES {
        next_version(&person, name);
    }
    for ((name, _, replicas), before) in ACTORS.into_iter().zip(&before) {
        wait_version(&person, name);
        assert_written_anew(&person, name, before, &novel);
        assert_eq!(deployment(&person, name)["spec"]["replicas"], replicas, "{name}");
    }
    wait_calm(&proxy, &NAMES);
    assert_eq!(NAMES.map(generation), generations.map(Some), "each rolls once");
    for (name, _, replicas) in ACTORS {
        old.wait_messages(&format!("asya-{name}"), 4);
        assert_eq!(deployment(&person, name)["spec"]["replicas"], replicas, "{name}");
    }
}

#[test]
fn a_change_that_the_go_operator_never_saw_is_rolled_out() {
    let Some(cluster) = setup::prepared() else {
        return;
    };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&registry());
    let old = Predecessor::new(cluster, &person, &vhost);
    let actor = old.actor("unseen", "Deployment", true, 1);
    let made = old.deployment(&actor, 3);
    let scaled = old.scaler(&actor);
    next_version(&person, "unseen");

    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    let written = wait_version(&person, "unseen");
    assert_eq!(uid(&written), uid(&made));
    assert_eq!(written["spec"]["replicas"], 3);
    assert_eq!(written["spec"]["selector"], made["spec"]["selector"]);
    for removed in REMOVED {
        assert!(!written["spec"].to_string().contains(removed), "{removed}");
    }
    let path = person.path("keda.sh/v1alpha1", "scaledobjects", "unseen");
    let written = person.wait("our scaler", &path, |scaled| {
        (scaled["spec"]["triggers"][0]["name"] == "queueLength").then(|| scaled.clone())
    });
    assert_eq!(uid(&written), uid(&scaled));
}

#[test]
fn what_the_go_operator_was_deleting_goes_and_a_queue_with_messages_stays() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&registry());
    let old = Predecessor::new(cluster, &person, &vhost);
    for name in ["leaving", "laden"] {
        let actor = old.actor(name, "Deployment", true, 1);
        old.deployment(&actor, 1);
        old.scaler(&actor);
        autoscale(&person, name, 4);
    }
    old.publish("amq.default", "asya-laden");
    old.wait_messages("asya-laden", 1);
    for name in ["leaving", "laden"] {
        person.delete(&person.actor_path(name));
        let actor = person.get(&person.actor_path(name)).unwrap();
        assert!(
            actor["metadata"]["deletionTimestamp"].is_string(),
            "its finalizer holds it"
        );
    }

    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    for name in ["leaving", "laden"] {
        person.wait_gone(&person.actor_path(name));
        assert_eq!(
            deployment(&person, name)["spec"]["replicas"],
            0,
            "consumption stops first"
        );
        assert_eq!(
            person.get(&person.path("keda.sh/v1alpha1", "scaledobjects", name)),
            None
        );
    }
    person.wait_event("leaving", "QueueDeleted");
    person.wait_event("laden", "QueueRetained");
    let mut left = old.queues();
    left.sort();
    assert_eq!(left, ["asya-laden", "asya-laden-dlq"]);
    old.wait_messages("asya-laden", 1);
}

#[test]
fn a_stateful_set_that_the_go_operator_could_not_make_is_made_and_the_deployment_before_it_goes() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&registry());
    let old = Predecessor::new(cluster, &person, &vhost);
    let actor = old.actor("stateful", "StatefulSet", false, 2);
    // Left running when the actor's kind changed (O-30).
    old.deployment(&actor, 2);
    old.publish("amq.default", "asya-stateful");

    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    let set = person.wait(
        "a stateful set",
        &person.path("apps/v1", "statefulsets", "stateful"),
        |set| Some(set.clone()),
    );
    assert_eq!(set["spec"]["replicas"], 2);
    person.wait_condition("stateful", "WorkloadReady", "True", "WorkloadCreated");
    person.wait_gone(&person.path("apps/v1", "deployments", "stateful"));
    let actor = person.wait("a status of our own", &person.actor_path("stateful"), |actor| {
        (actor["status"]["workloadRef"]["kind"] == "StatefulSet").then(|| actor.clone())
    });
    assert_eq!(
        condition(&actor, "TransportReady").unwrap()["reason"],
        "QueueConfigDrift"
    );
    assert!(
        !actor["status"].to_string().contains("not yet implemented"),
        "{:#}",
        actor["status"]
    );
    old.wait_messages("asya-stateful", 1);
}
