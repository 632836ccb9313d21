//! Manifests that are refused, with what is said.

use serde_json::{Value, json};

use super::{apply, checked, get, set, with};
use crate::setup;

/// A pointer into a good manifest, a bad value, and what `kubectl apply` says: the field, and what to do.
#[rustfmt::skip]
fn mistakes() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let long = "a".repeat(300);
    let runtime = json!({"name": "asya-runtime", "image": "x"});
    let sidecar = json!({"name": "asya-sidecar", "image": "x"});
    vec![
        // Text that YAML reads as something else.
        ("@/containers/0/env/-", json!({"name": "PORT", "value": 8080}), &["containers[0].env[1].value", "must be of type string"]),
        ("@/containers/0/env/-", json!({"name": "DEBUG", "value": true}), &["containers[0].env[1].value", "must be of type string"]),
        ("@/containers/0/env/-", json!({"name": "RATE", "value": 0.5}), &["containers[0].env[1].value", "must be of type string"]),
        ("@/initContainers", json!([{"name": "a", "env": [{"name": "PORT", "value": 1}]}]), &["initContainers[0].env[0].value", "must be of type string"]),
        ("/spec/sidecar", json!({"env": [{"name": "PORT", "value": 1}]}), &["spec.sidecar.env[0].value", "must be of type string"]),
        // Containers.
        ("@/containers/-", runtime, &["spec.workload.template.spec.containers", "exactly one container named asya-runtime, found more: rename or remove the others"]),
        ("@/containers/0/name", json!("worker"), &["exactly one container named asya-runtime, found none: give this name to the one that holds the handler"]),
        ("@/containers", json!([]), &["spec.workload.template.spec.containers", "should have at least 1 items"]),
        ("@/containers", json!(5), &["spec.workload.template.spec.containers", "must be of type array"]),
        ("@/containers/0", json!({"image": "x"}), &["containers[0].name: Required value"]),
        ("@/containers/-", sidecar.clone(), &["the container name asya-sidecar is reserved: remove it"]),
        ("@/containers", json!([sidecar]), &["the container name asya-sidecar is reserved: remove it"]),
        ("@/initContainers", json!([sidecar]), &["spec.initContainers", "the init container name asya-sidecar is reserved: remove it"]),
        ("@/containers/0/command", json!(["python3", "app.py"]), &["the container asya-runtime must not set a command: remove it"]),
        ("@/containers/0/volumeMounts", json!([{"name": "a", "mountPath": "/var/run/asya/"}]), &["containers[0].volumeMounts", "mount yours elsewhere"]),
        ("@/volumes", json!([{"name": "tmp", "emptyDir": {}}]), &["spec.volumes", "reserved", "choose another name"]),
        ("@/restartPolicy", json!("Never"), &["spec.restartPolicy", "a Job takes OnFailure or Never, others take Always"]),
        // Numbers.
        ("/spec/scaling", json!({"enabled": true, "minReplicas": 5, "maxReplicas": 2}), &["spec.scaling.minReplicas", "raise maxReplicas or lower minReplicas"]),
        ("/spec/scaling", json!({"enabled": true, "minReplicas": 51}), &["spec.scaling.minReplicas", "raise maxReplicas or lower minReplicas"]),
        ("/spec/timeout", json!({"processing": -1}), &["spec.timeout.processing", "greater than or equal to 0"]),
        ("/spec/timeout", json!({"gracefulShutdown": -30}), &["spec.timeout.gracefulShutdown", "greater than or equal to 0"]),
        ("/spec/scaling", json!({"minReplicas": -1}), &["spec.scaling.minReplicas", "greater than or equal to 0"]),
        ("/spec/scaling", json!({"maxReplicas": 0}), &["spec.scaling.maxReplicas", "greater than or equal to 1"]),
        ("/spec/scaling", json!({"pollingInterval": -1}), &["spec.scaling.pollingInterval", "greater than or equal to 0"]),
        ("/spec/scaling", json!({"cooldownPeriod": -1}), &["spec.scaling.cooldownPeriod", "greater than or equal to 0"]),
        ("/spec/scaling", json!({"queueLength": 0}), &["spec.scaling.queueLength", "greater than or equal to 1"]),
        ("/spec/scaling", json!({"maxReplicas": 3_000_000_000_u32}), &["spec.scaling.maxReplicas", "less than or equal to 2147483647"]),
        ("/spec/workload/replicas", json!(-1), &["spec.workload.replicas", "greater than or equal to 0"]),
        ("/spec/workload/replicas", json!("3"), &["spec.workload.replicas", "must be of type integer"]),
        // Names.
        ("/metadata/name", json!(long), &["metadata.name", "no more than 253 characters"]),
        ("/metadata/name", json!(long[..64]), &["metadata.name", "at most 63 characters", "choose a shorter metadata.name"]),
        ("/metadata/name", json!("asya-worker"), &["metadata.name", "must not start with asya-: remove the prefix"]),
        ("/metadata/name", json!("My_Worker"), &["metadata.name", "lower case alphanumeric characters"]),
        // Words.
        ("/spec/transport", json!(""), &["spec.transport", "at least 1 chars"]),
        ("/spec/transport", json!(5), &["spec.transport", "must be of type string"]),
        ("/spec/workload/kind", json!("CronJob"), &["spec.workload.kind", "supported values", "\"Deployment\", \"StatefulSet\", \"Job\""]),
        ("/spec/workload/runtime", json!("java"), &["spec.workload.runtime", "supported values"]),
        ("/spec/sidecar", json!({"imagePullPolicy": "never"}), &["spec.sidecar.imagePullPolicy", "supported values"]),
        ("/spec/scaling", json!({"advanced": {"metricType": "Sum"}}), &["spec.scaling.advanced.metricType", "supported values"]),
        ("/spec/queue", json!({"deletionPolicy": "Keep"}), &["spec.queue.deletionPolicy", "\"DeleteIfEmpty\", \"Delete\", \"Retain\""]),
        ("/spec/sidecar", json!({"resources": {"limits": {"memory": "lots"}}}), &["spec.sidecar.resources.limits.memory", "should match"]),
        // Retries, batches, limits.
        ("/spec/retry", json!({"maxAttempts": 0}), &["spec.retry.maxAttempts", "greater than or equal to 1"]),
        ("/spec/retry", json!({"initialBackoff": "5 minutes"}), &["spec.retry.initialBackoff", "write it like 500ms, 30s or 1h30m"]),
        ("/spec/retry", json!({"maxDuration": 5}), &["spec.retry.maxDuration", "must be of type string"]),
        ("/spec/retry", json!({"jitter": 2}), &["spec.retry.jitter", "less than or equal to 1"]),
        ("/spec/retry", json!({"on": ["KeyError, ValueError"]}), &["spec.retry.on[0]", "one name per item"]),
        ("/spec/runtime", json!({"stream": true, "batch": {"size": 8}}), &["spec.runtime.stream", "remove stream, or set batch.size to 1"]),
        ("/spec/runtime", json!({"batch": {"wait": "soon"}}), &["spec.runtime.batch.wait", "write it like 500ms"]),
        ("/spec/runtime", json!({"workers": 0}), &["spec.runtime.workers", "greater than or equal to 1"]),
        ("/spec/limits", json!({"messageSize": "5MB"}), &["spec.limits.messageSize", "should match"]),
        ("/spec/limits", json!({"messageSize": 0}), &["spec.limits.messageSize", "greater than or equal to 1"]),
        // Shapes.
        ("/spec", json!("x"), &["spec", "must be of type object"]),
        ("/spec/workload/template", json!("x"), &["spec.workload.template", "must be of type object"]),
        ("@", json!([]), &["spec.workload.template.spec", "must be of type object"]),
        ("@", json!({}), &["spec.workload.template.spec.containers: Required value"]),
        ("/spec/workload", json!({}), &["spec.workload.template: Required value"]),
        ("/spec", json!({"transport": "rabbitmq"}), &["spec.workload: Required value"]),
    ]
}

/// Mistakes that take two fields.
fn contradictions() -> Vec<(Value, &'static [&'static str])> {
    let mut kinds = with("/spec/workload/kind", json!("StatefulSet"));
    set(&mut kinds, "/spec/workload/type", json!("Job"));
    let mut restarts = with("/spec/workload/type", json!("Job"));
    set(&mut restarts, "@/restartPolicy", json!("Always"));
    let mut dots = with("/spec/workload/kind", json!("StatefulSet"));
    set(&mut dots, "/metadata/name", json!("a.worker"));
    let mut long = with("/spec/workload/type", json!("StatefulSet"));
    set(&mut long, "/metadata/name", json!("a".repeat(53)));
    let mut digit = with("/spec/workload/kind", json!("StatefulSet"));
    set(&mut digit, "/metadata/name", json!("1worker"));
    let name = &["metadata.name", "the name of a StatefulSet", "choose another"];
    vec![
        (
            kinds,
            &["spec.workload.type", "contradicts kind StatefulSet: remove type"],
        ),
        (
            restarts,
            &["spec.restartPolicy", "a Job takes OnFailure or Never"],
        ),
        (dots, name),
        (long, name),
        (digit, name),
    ]
}

#[test]
fn bad_manifests_are_refused_with_what_to_do() {
    let Some(cluster) = setup::prepared() else { return };
    let namespace = cluster.namespace();
    let simple = mistakes()
        .into_iter()
        .map(|(path, value, says)| (with(path, value), says));
    for (manifest, says) in simple.chain(contradictions()) {
        let answer = apply(cluster, &namespace, &manifest, &[]);
        let answer = answer.expect_err(&format!("{manifest} is refused"));
        for part in says {
            assert!(
                answer.contains(part),
                "{part:?} is in the answer to {manifest}:\n{answer}"
            );
        }
        // Objects of before this definition are told the same by the controller.
        let own = checked(&manifest);
        assert!(!own.is_empty(), "check_object refuses {manifest} as well");
    }
    let without_spec =
        json!({"apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor", "metadata": {"name": "a"}});
    let answer = apply(cluster, &namespace, &without_spec, &[]).unwrap_err();
    assert!(answer.contains("spec: Required value"), "{answer}");
    let left = cluster.kubectl(&["get", "asya", "-n", &namespace, "-o", "name"]);
    assert_eq!(left, "", "nothing was stored");
}

#[test]
fn huge_specs_are_refused_or_kept_whole() {
    let Some(cluster) = setup::prepared() else { return };
    let namespace = cluster.namespace();
    let megabyte = "x".repeat(1_000_000);
    let variable = with("@/containers/0/env/-", json!({"name": "BIG", "value": megabyte}));
    let answer = apply(cluster, &namespace, &variable, &["--server-side"]).unwrap_err();
    assert!(
        answer.contains("env[1].value: Too long: may not be more than 131072 bytes"),
        "{answer}"
    );
    let many: Vec<Value> = (0..9000)
        .map(|index| json!({"name": format!("VARIABLE_{index}"), "value": "x".repeat(80)}))
        .collect();
    let answer = apply(
        cluster,
        &namespace,
        &with("@/containers/0/env", json!(many)),
        &["--server-side"],
    )
    .unwrap_err();
    assert!(
        answer.contains("env: Too many: 9000: must have at most 2000 items"),
        "{answer}"
    );
    let unknown = with("@/futureField", json!(megabyte));
    apply(cluster, &namespace, &unknown, &["--server-side"]).unwrap();
    assert_eq!(
        get(cluster, &namespace, "worker")["spec"]["workload"]["template"]["spec"]["futureField"],
        megabyte.as_str()
    );
    let larger = with("@/futureField", json!(megabyte.repeat(4)));
    let answer = apply(cluster, &namespace, &larger, &["--server-side"]).unwrap_err();
    assert!(answer.contains("too large"), "{answer}");
}
