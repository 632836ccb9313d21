//! Actors that change: scaling, kind, transport, template.

use std::sync::Arc;

use asya_operator::report::Nobody;
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;
use axum::http::Method;
use serde_json::{Value, json};

use crate::api_proxy::{ApiProxy, Fault};
use crate::setup::{self, Operator, Person, settings};

const SCALED: &str = "keda.sh/v1alpha1";

#[test]
fn scaling_is_switched_on_and_off_and_on_and_nobody_loses_replicas() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("worker", "rabbitmq", &json!({"workload": {"replicas": 3}}));
    person.wait_condition("worker", "WorkloadReady", "True", "WorkloadCreated");
    let deployment = person.path("apps/v1", "deployments", "worker");
    let scaled = person.path(SCALED, "scaledobjects", "worker");
    assert_eq!(person.get(&deployment).unwrap()["spec"]["replicas"], 3);
    assert!(person.get(&scaled).is_none());

    person.merge(
        &person.actor_path("worker"),
        &json!({"spec": {"scaling": {"enabled": true, "maxReplicas": 8}}}),
    );
    person.wait_condition("worker", "ScalingReady", "True", "ScaledObjectCreated");
    assert_eq!(
        person.get(&deployment).unwrap()["spec"]["replicas"],
        3,
        "they stay until the autoscaler acts"
    );
    let hpa = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "keda-hpa-worker", "labels": {"scaledobject.keda.sh/name": "worker"}},
        "spec": {"maxReplicas": 8, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}},
    });
    let hpas = person.path("autoscaling/v2", "horizontalpodautoscalers", "");
    person.create(&hpas, &hpa);
    person.merge(
        &format!("{hpas}/keda-hpa-worker/status"),
        &json!({"status": {"desiredReplicas": 5, "currentReplicas": 3}}),
    );
    person.merge(&format!("{deployment}/scale"), &json!({"spec": {"replicas": 5}}));
    person.wait("the autoscaler's number", &person.actor_path("worker"), |actor| {
        (actor["status"]["desiredReplicas"] == 5).then_some(())
    });
    let image = json!({"spec": {"timeout": {"processing": 77}}});
    person.merge(&person.actor_path("worker"), &image);
    person.wait("the new time", &deployment, |deployment| {
        deployment.to_string().contains("77s").then_some(())
    });
    assert_eq!(
        person.get(&deployment).unwrap()["spec"]["replicas"],
        5,
        "they are the autoscaler's"
    );

    person.merge(
        &person.actor_path("worker"),
        &json!({"spec": {"scaling": {"enabled": false}}}),
    );
    person.wait_gone(&scaled);
    person.wait("the manual number", &deployment, |deployment| {
        (deployment["spec"]["replicas"] == 3).then_some(())
    });
    person.wait("a status without scaler", &person.actor_path("worker"), |actor| {
        let has_condition = setup::condition(actor, "ScalingReady").is_some();
        (!has_condition
            && actor["status"].get("scaledObjectRef").is_none()
            && actor["status"]["scalingMode"] == "Manual")
            .then_some(())
    });
    person.merge(
        &person.actor_path("worker"),
        &json!({"spec": {"scaling": {"enabled": true, "maxReplicas": 9}}}),
    );
    person.wait("the scaler again", &scaled, |scaled| {
        (scaled["spec"]["maxReplicaCount"] == 9).then_some(())
    });
    person.wait_condition("worker", "ScalingReady", "True", "ScaledObjectCreated");
}

#[test]
fn a_change_of_kind_replaces_the_workload() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("worker", "rabbitmq", &json!({}));
    let workload = |kind: &str| {
        person.wait("the workload", &person.actor_path("worker"), |actor| {
            (actor["status"]["workloadRef"]["kind"] == kind).then_some(())
        });
    };
    workload("Deployment");
    let paths = [
        person.path("apps/v1", "deployments", "worker"),
        person.path("apps/v1", "statefulsets", "worker"),
        person.path("batch/v1", "jobs", "worker"),
        person.path(SCALED, "scaledjobs", "worker"),
    ];
    let exist = || paths.clone().map(|path| person.get(&path).is_some());
    let only = |index: usize| {
        let expected: [bool; 4] = std::array::from_fn(|at| at == index);
        wait_for("one workload", || (exist() == expected).then_some(()));
    };
    only(0);
    let change = |spec: Value| person.merge(&person.actor_path("worker"), &json!({"spec": spec}));
    change(json!({"workload": {"kind": "StatefulSet"}}));
    workload("StatefulSet");
    only(1);
    assert!(
        person.get(&person.path("v1", "services", "worker")).is_some(),
        "its headless service"
    );
    change(json!({"workload": {"kind": "Job"}}));
    workload("Job");
    only(2);
    wait_for("the end of the service", || {
        person
            .get(&person.path("v1", "services", "worker"))
            .is_none()
            .then_some(())
    });
    // The template of a Job cannot be changed in place.
    let uid = person.get(&paths[2]).unwrap()["metadata"]["uid"].clone();
    change(json!({"timeout": {"processing": 99}}));
    person.wait("another Job", &paths[2], |job| {
        (job["metadata"]["uid"] != uid).then_some(())
    });
    change(json!({"scaling": {"enabled": true}}));
    workload("ScaledJob");
    only(3);
    change(json!({"scaling": {"enabled": false}, "workload": {"kind": "Deployment"}}));
    workload("Deployment");
    only(0);
}

#[test]
fn one_change_of_the_spec_is_one_rollout() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    person.create_actor("worker", "rabbitmq", &json!({}));
    person.wait_condition("worker", "WorkloadReady", "True", "WorkloadCreated");
    let path = person.path("apps/v1", "deployments", "worker");
    let generation = |deployment: &Value| deployment["metadata"]["generation"].as_i64().unwrap();
    assert_eq!(generation(&person.get(&path).unwrap()), 1);
    person.merge(
        &person.actor_path("worker"),
        &json!({"spec": {"timeout": {"processing": 42}}}),
    );
    person.wait("the new time", &path, |deployment| {
        deployment.to_string().contains("42s").then_some(())
    });
    person.wait_event("worker", "WorkloadUpdated");
    person.wait("the generation", &person.actor_path("worker"), |actor| {
        (actor["status"]["observedGeneration"] == actor["metadata"]["generation"]).then_some(())
    });
    assert_eq!(generation(&person.get(&path).unwrap()), 2);
}

#[test]
fn another_transport_leaves_no_queue_behind() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let broker = Broker::shared();
    let vhosts = [broker.vhost(), broker.vhost()];
    let entry = |vhost: &str| {
        let config = json!({"host": "127.0.0.1", "port": broker.port, "vhost": vhost});
        json!({"type": "rabbitmq", "enabled": true, "config": config})
    };
    let registry = json!({"transports": {"one": entry(&vhosts[0]), "two": entry(&vhosts[1])}});
    let _operator = Operator::start(
        cluster,
        settings(&person.namespace, setup::read_registry(&registry)),
    );
    person.create_actor("mover", "one", &json!({}));
    let recorded = |transport: &str| {
        person.wait("a record of the queue", &person.actor_path("mover"), |actor| {
            (actor["status"]["queueRef"]["transport"] == transport).then_some(())
        });
    };
    recorded("one");
    let deployment = person.path("apps/v1", "deployments", "mover");
    person.merge(
        &person.actor_path("mover"),
        &json!({"spec": {"transport": "two"}}),
    );
    person.wait("the new transport", &deployment, |deployment| {
        deployment.to_string().contains(&vhosts[1]).then_some(())
    });
    let queues = |vhost: &str| {
        broker
            .manage("GET", &format!("/api/queues/{vhost}"), "")
            .contains("asya-mover")
    };
    assert!(queues(&vhosts[0]), "the old pods still use it");
    // As the controller of Deployments does when the new pods are there.
    let generation = person.get(&deployment).unwrap()["metadata"]["generation"].clone();
    person.merge(
        &format!("{deployment}/status"),
        &json!({"status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}}),
    );
    recorded("two");
    assert!(!queues(&vhosts[0]) && queues(&vhosts[1]));
    person.wait_event("mover", "QueueDeleted");
}

#[test]
fn another_script_rolls_a_few_workloads_at_a_time() {
    let Some(cluster) = setup::prepared() else {
        return;
    };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let mut settings = settings(&person.namespace, registry);
    settings.rollouts = 1;
    let operator = Operator::start(cluster, settings.clone());
    let names = ["one", "two", "three"];
    for name in names {
        person.create_actor(name, "rabbitmq", &json!({}));
    }
    for name in names {
        person.wait_condition(name, "WorkloadReady", "True", "WorkloadCreated");
    }
    drop(operator);

    let mut defaults = setup::defaults();
    defaults.script.text = "print('newer')\n".into();
    defaults.script.hash = "fedcba9876543210".into();
    settings.defaults = std::sync::Arc::new(defaults);
    let _operator = Operator::start(cluster, settings);
    let path = |name: &str| person.path("apps/v1", "deployments", name);
    let rolled = || {
        let is_new = |name: &&str| {
            person
                .get(&path(name))
                .unwrap()
                .to_string()
                .contains("fedcba9876543210")
        };
        names.into_iter().filter(is_new).collect::<Vec<_>>()
    };
    for count in 1..=3 {
        wait_for("the next rollout", || (rolled().len() >= count).then_some(()));
        for name in names.into_iter().filter(|name| !rolled().contains(name)) {
            person.wait("a word about waiting", &person.actor_path(name), |actor| {
                let condition = setup::condition(actor, "WorkloadReady")?;
                condition["message"]
                    .as_str()?
                    .contains("waits for its turn")
                    .then_some(())
            });
        }
        assert_eq!(
            rolled().len(),
            count,
            "the others wait until the pods of this one are there"
        );
        // As the controller of Deployments does when the new pods are there.
        for name in rolled() {
            let generation = person.get(&path(name)).unwrap()["metadata"]["generation"].clone();
            let status = json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1});
            person.merge(&format!("{}/status", path(name)), &json!({"status": status}));
        }
    }
}

#[test]
fn a_former_queue_stays_while_pods_or_messages_may_need_it() {
    let Some(cluster) = setup::prepared() else {
        return;
    };
    let person = Person::new(cluster);
    let broker = Broker::shared();
    let vhosts = [broker.vhost(), broker.vhost()];
    let entry = |vhost: &str| {
        let config = json!({"host": "127.0.0.1", "port": broker.port, "vhost": vhost});
        json!({"type": "rabbitmq", "enabled": true, "config": config})
    };
    let registry = json!({"transports": {"one": entry(&vhosts[0]), "two": entry(&vhosts[1])}});
    let proxy = ApiProxy::start(cluster);
    let settings = settings(&person.namespace, setup::read_registry(&registry));
    let _operator = Operator::start_with(proxy.kubeconfig(cluster), settings, Arc::new(Nobody));
    person.create_actor("mover", "one", &json!({"queue": {"deletionPolicy": "Delete"}}));
    let path = person.actor_path("mover");
    let recorded = |transport: &str| {
        person.wait("a record of the queue", &path, |actor| {
            (actor["status"]["queueRef"]["transport"] == transport).then_some(())
        });
    };
    recorded("one");
    let still_there = || {
        let actor = person.get(&path).unwrap();
        assert_eq!(actor["status"]["queueRef"]["transport"], "one", "{actor:#}");
        let queues = broker.manage("GET", &format!("/api/queues/{}", vhosts[0]), "");
        assert!(queues.contains("asya-mover"), "{queues}");
    };
    // As the controller of Deployments does when the pods are there, with other numbers of ready ones each time.
    let deployment = person.path("apps/v1", "deployments", "mover");
    let report = |ready: u32| {
        let generation = person.get(&deployment).unwrap()["metadata"]["generation"].clone();
        let status = json!({"observedGeneration": generation, "replicas": 3, "updatedReplicas": 3, "readyReplicas": ready});
        person.merge(&format!("{deployment}/status"), &json!({"status": status}));
        person.wait("a pass that saw it", &path, |actor| {
            (actor["status"]["readyReplicas"] == ready).then_some(())
        });
    };
    report(3);
    let labels = json!({"asya.sh/asya": "mover", "app": "mover"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "mover-1", "labels": labels, "finalizers": ["example.com/works"]},
        "spec": {"containers": [{"name": "asya-runtime", "image": "example/worker:1"}], "terminationGracePeriodSeconds": 0},
    });
    person.create(&person.path("v1", "pods", ""), &pod);

    // A quota or a webhook does not take the new template: the old pods go on.
    proxy.rule(
        "/deployments/mover",
        Some(Method::PATCH),
        Fault::Refuse(500),
        usize::MAX,
    );
    person.merge(&path, &json!({"spec": {"transport": "two"}}));
    person.wait_condition("mover", "WorkloadReady", "False", "ReconcileError");
    person.wait_condition("mover", "TransportReady", "True", "TransportValidated");
    report(2);
    still_there();
    proxy.calm();
    person.wait("the new transport", &deployment, |deployment| {
        deployment.to_string().contains(&vhosts[1]).then_some(())
    });

    // The pods are new ones, but an old one still works on its message.
    person.delete(&person.path("v1", "pods", "mover-1"));
    report(1);
    still_there();

    // It gives the message back.
    let message =
        json!({"properties": {}, "routing_key": "asya-mover", "payload": "{}", "payload_encoding": "string"});
    let exchange = format!("/api/exchanges/{}/amq.default/publish", vhosts[0]);
    assert!(
        broker
            .manage("POST", &exchange, &message.to_string())
            .contains("true")
    );
    let pod = person.path("v1", "pods", "mover-1");
    person.merge(&pod, &json!({"metadata": {"finalizers": null}}));
    person.wait_gone(&pod);
    person.wait_event("mover", "QueueRetained");
    still_there();

    let contents = format!("/api/queues/{}/asya-mover/contents", vhosts[0]);
    broker.manage("DELETE", &contents, "");
    recorded("two");
    person.wait_event("mover", "QueueDeleted");
    let queues = |vhost: &str| broker.manage("GET", &format!("/api/queues/{vhost}"), "");
    assert!(!queues(&vhosts[0]).contains("asya-mover") && queues(&vhosts[1]).contains("asya-mover"));
}

#[test]
fn another_script_makes_no_job_anew() {
    let Some(cluster) = setup::prepared() else {
        return;
    };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let mut settings = settings(&person.namespace, registry);
    let operator = Operator::start(cluster, settings.clone());
    person.create_actor("once", "rabbitmq", &json!({"workload": {"kind": "Job"}}));
    person.wait_condition("once", "WorkloadReady", "True", "WorkloadCreated");
    let path = person.path("batch/v1", "jobs", "once");
    let uid = person.get(&path).unwrap()["metadata"]["uid"].clone();
    drop(operator);

    let mut defaults = setup::defaults();
    defaults.script.text = "print('newer')\n".into();
    defaults.script.hash = "fedcba9876543210".into();
    settings.defaults = Arc::new(defaults);
    let _operator = Operator::start(cluster, settings);
    person.wait("a word about staying", &person.actor_path("once"), |actor| {
        let condition = setup::condition(actor, "WorkloadReady")?;
        condition["message"]
            .as_str()?
            .contains("stays as it is")
            .then_some(())
    });
    assert_eq!(person.get(&path).unwrap()["metadata"]["uid"], uid);
    person.merge(
        &person.actor_path("once"),
        &json!({"spec": {"timeout": {"processing": 99}}}),
    );
    person.wait("another Job", &path, |job| {
        (job["metadata"]["uid"] != uid && job.to_string().contains("fedcba9876543210")).then_some(())
    });
}

#[test]
fn what_is_odd_about_a_manifest_is_told() {
    let Some(cluster) = setup::prepared() else {
        return;
    };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let _operator = Operator::start(cluster, settings(&person.namespace, registry));
    let fields = json!({"timeout": {"processing": 60, "gracefulShutdown": 30}, "socket": {"path": "/tmp/s"}});
    person.create_actor("odd", "rabbitmq", &fields);
    person.wait_condition("odd", "WorkloadReady", "True", "WorkloadCreated");
    person.wait_event("odd", "GracePeriodTooShort");
    person.wait_event("odd", "IneffectiveField");
}
