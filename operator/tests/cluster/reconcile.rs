//! From `kubectl apply` to objects and a status.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asya_operator::report::{Nobody, Observer};
use asya_operator::resource::AsyncActor;
use asya_operator::status::Status;
use axum::http::Method;
use serde_json::{Value, json};

use crate::api_proxy::{ApiProxy, Fault};
use crate::setup::{self, Operator, Person, condition, settings};

#[test]
fn an_applied_actor_gets_queue_script_workload_scaler_and_a_status_in_that_order() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor(
        "worker",
        "rabbitmq",
        &json!({"scaling": {"enabled": true, "minReplicas": 0, "maxReplicas": 3}}),
    );

    let ready = |kind: &str, reason: &str| person.wait_condition("worker", kind, "True", reason);
    ready("TransportReady", "TransportValidated");
    ready("WorkloadReady", "WorkloadCreated");
    ready("ScalingReady", "ScaledObjectCreated");

    let broker = asya_tests::rabbitmq::Broker::shared();
    let queue: Value =
        serde_json::from_str(&broker.manage("GET", &format!("/api/queues/{vhost}/asya-worker"), "")).unwrap();
    assert_eq!(queue["durable"], true);
    let deployment = person
        .get(&person.path("apps/v1", "deployments", "worker"))
        .unwrap();
    assert_eq!(
        deployment["spec"]["replicas"], 0,
        "a scaled actor starts with its minimum"
    );
    assert_eq!(deployment["metadata"]["ownerReferences"][0]["kind"], "AsyncActor");
    let scaled = person
        .get(&person.path("keda.sh/v1alpha1", "scaledobjects", "worker"))
        .unwrap();
    assert_eq!(scaled["spec"]["maxReplicaCount"], 3);
    let script = person
        .get(&person.path("v1", "configmaps", "asya-runtime"))
        .unwrap();
    assert_eq!(script["data"]["asya_runtime.py"], "print('runtime')\n");
    assert!(
        script["metadata"].get("ownerReferences").is_none(),
        "it belongs to all actors of the namespace"
    );

    let version = |object: &Value| {
        object["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(version(&script) < version(&deployment) && version(&deployment) < version(&scaled));
    let actor = person.wait("a settled status", &person.actor_path("worker"), |actor| {
        (actor["status"]["status"] == "Napping").then(|| actor.clone())
    });
    let status = &actor["status"];
    assert_eq!(status["phase"], "Napping");
    assert_eq!(status["observedGeneration"], actor["metadata"]["generation"]);
    assert_eq!(
        status["queueRef"],
        json!({"transport": "rabbitmq", "name": "asya-worker"})
    );
    assert_eq!(status["workloadRef"]["kind"], "Deployment");
    assert_eq!(status["queuedMessages"], 0);
    assert_eq!(actor["metadata"]["finalizers"], json!(["asya.sh/finalizer"]));
    assert_eq!(actor["metadata"]["generation"], 1, "the spec is never written");
    for reason in ["QueueCreated", "WorkloadCreated", "ScaledObjectCreated"] {
        person.wait_event("worker", reason);
    }
}

#[test]
fn a_manifest_that_breaks_a_rule_is_told_so_and_harms_nobody_else() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("lost", "nowhere", &json!({}));
    person.create_actor("good", "rabbitmq", &json!({}));
    let refused = person.wait_condition("lost", "TransportReady", "False", "InvalidTransport");
    assert!(
        refused["message"].as_str().unwrap().contains("nowhere"),
        "{refused}"
    );
    person.wait_condition("good", "WorkloadReady", "True", "WorkloadCreated");
    assert!(
        person
            .get(&person.path("apps/v1", "deployments", "lost"))
            .is_none()
    );
    person.wait_event("lost", "InvalidTransport");
    let actor = person.get(&person.actor_path("lost")).unwrap();
    assert_eq!(actor["status"]["status"], "TransportError");
    assert_eq!(condition(&actor, "WorkloadReady").unwrap()["status"], "False");

    person.merge(
        &person.actor_path("lost"),
        &json!({"spec": {"transport": "rabbitmq"}}),
    );
    person.wait_condition("lost", "WorkloadReady", "True", "WorkloadCreated");
}

#[test]
fn the_second_actor_of_a_name_is_refused_until_the_first_is_gone() {
    let Some(cluster) = setup::prepared() else { return };
    let (one, two) = (Person::new(cluster), Person::new(cluster));
    let (registry, _) = setup::rabbitmq(&json!({}));
    let mut settings = settings(&one.namespace, registry);
    settings.namespaces.push(two.namespace.clone());
    let _operator = Operator::start(cluster, settings);
    one.create_actor("twin", "rabbitmq", &json!({}));
    one.wait_condition("twin", "WorkloadReady", "True", "WorkloadCreated");
    two.create_actor("twin", "rabbitmq", &json!({}));
    let refused = two.wait_condition("twin", "TransportReady", "False", "QueueNameConflict");
    assert!(
        refused["message"].as_str().unwrap().contains(&one.namespace),
        "{refused}"
    );
    assert!(
        two.get(&two.path("apps/v1", "deployments", "twin")).is_none(),
        "its pods would steal messages"
    );

    one.delete(&one.actor_path("twin"));
    one.wait_gone(&one.actor_path("twin"));
    two.wait_condition("twin", "TransportReady", "True", "TransportValidated");
    two.wait_condition("twin", "WorkloadReady", "True", "WorkloadCreated");
}

#[test]
fn two_namespaces_share_a_queue_if_both_want_to() {
    let Some(cluster) = setup::prepared() else { return };
    let (one, two) = (Person::new(cluster), Person::new(cluster));
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let mut settings = settings(&one.namespace, registry);
    settings.namespaces.push(two.namespace.clone());
    let _operator = Operator::start(cluster, settings);
    for person in [&one, &two] {
        let mut shared = setup::actor("shared", "rabbitmq", &json!({}));
        shared["metadata"]["annotations"] = json!({"asya.sh/queue-sharing": "true"});
        person.create(&person.actor_path(""), &shared);
    }
    for person in [&one, &two] {
        person.wait_condition("shared", "TransportReady", "True", "TransportValidated");
        person.wait("a record of the queue", &person.actor_path("shared"), |actor| {
            (actor["status"]["queueRef"]["name"] == "asya-shared").then_some(())
        });
    }
    one.delete(&one.actor_path("shared"));
    one.wait_gone(&one.actor_path("shared"));
    let broker = asya_tests::rabbitmq::Broker::shared();
    let queue = broker.manage("GET", &format!("/api/queues/{vhost}/asya-shared"), "");
    assert!(queue.contains("asya-shared"), "the other one still uses it");
}

/// Falls over the actor `fateful`, this many times.
struct Clumsy(AtomicUsize);

impl Observer for Clumsy {
    fn observed(&self, actor: &AsyncActor, _: &Status) {
        let is_fateful = actor.metadata.name.as_deref() == Some("fateful");
        let fewer = |left: usize| left.checked_sub(1);
        let falls = is_fateful
            && self
                .0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, fewer)
                .is_ok();
        assert!(!falls, "a defect that one actor brings to light");
    }

    fn deleted(&self, _: &str, _: &str) {}

    fn synced(&self) {}
}

#[test]
fn a_pass_that_panics_is_made_again_and_harms_nobody_else() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let kubeconfig = cluster.kubeconfig_for("admin-token", cluster.port);
    let observer = Arc::new(Clumsy(AtomicUsize::new(2)));
    let _operator = Operator::start_with(
        kubeconfig,
        settings(&person.namespace, registry),
        observer.clone(),
    );
    person.create_actor("fateful", "rabbitmq", &json!({}));
    person.create_actor("other", "rabbitmq", &json!({}));
    person.wait_condition("other", "WorkloadReady", "True", "WorkloadCreated");
    person.wait_condition("fateful", "WorkloadReady", "True", "WorkloadCreated");
    assert_eq!(observer.0.load(Ordering::SeqCst), 0, "it did panic");
}

#[test]
fn a_namespace_whose_config_maps_hang_does_not_hold_up_others() {
    let Some(cluster) = setup::prepared() else { return };
    let (slow, quick) = (Person::new(cluster), Person::new(cluster));
    let (registry, _) = setup::rabbitmq(&json!({}));
    let mut settings = settings(&slow.namespace, registry);
    settings.namespaces.push(quick.namespace.clone());
    let proxy = ApiProxy::start(cluster);
    let script = slow.path("v1", "configmaps", "asya-runtime");
    proxy.rule(
        &script,
        Some(Method::PATCH),
        Fault::Delay(Duration::from_mins(2)),
        usize::MAX,
    );
    let _operator = Operator::start_with(proxy.kubeconfig(cluster), settings, Arc::new(Nobody));
    slow.create_actor("hanging", "rabbitmq", &json!({}));
    asya_tests::wait_for("the request that hangs", || {
        let seen = proxy.writes();
        seen.iter()
            .any(|seen| seen.path.starts_with(&script))
            .then_some(())
    });
    quick.create_actor("quick", "rabbitmq", &json!({}));
    quick.wait_condition("quick", "WorkloadReady", "True", "WorkloadCreated");
    let of_the_slow = proxy.writes();
    let mut answers = of_the_slow.iter().filter(|seen| seen.path.starts_with(&script));
    assert!(answers.all(|seen| seen.code.is_none()), "it still hangs");
}

#[test]
fn an_operator_that_leaves_queues_alone_says_what_it_sees_of_them() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, vhost) = setup::rabbitmq(&json!({}));
    let mut settings = settings(&person.namespace, registry);
    settings.status_refresh = Duration::from_millis(500);
    let mut defaults = setup::defaults();
    defaults.manages_queues = false;
    settings.defaults = Arc::new(defaults);
    let _operator = Operator::start(cluster, settings);
    person.create_actor("watched", "rabbitmq", &json!({}));
    person.wait_condition("watched", "WorkloadReady", "True", "WorkloadCreated");
    let says = |what: &str, is_right: &dyn Fn(&str) -> bool| {
        person.wait(what, &person.actor_path("watched"), |actor| {
            let transport = condition(actor, "TransportReady")?;
            let message = transport["message"].as_str()?;
            (transport["status"] == "True" && message.contains("not managed") && is_right(message))
                .then_some(())
        });
    };
    says("that there is none", &|message| {
        message.contains("\"asya-watched\" does not exist")
    });
    let broker = asya_tests::rabbitmq::Broker::shared();
    broker.manage(
        "PUT",
        &format!("/api/queues/{vhost}/asya-watched"),
        "{\"durable\":true}",
    );
    says("that there is one", &|message| !message.contains("not exist"));
}
