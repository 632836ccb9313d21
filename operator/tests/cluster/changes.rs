//! Actors that change: scaling, kind, transport, template.

use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;
use serde_json::{Value, json};

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
