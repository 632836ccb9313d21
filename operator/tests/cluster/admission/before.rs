//! Objects that the original operator's definition let in, under ours.

use asya_manifest::check_object;
use asya_tests::kube::Cluster;
use asya_tests::wait_for;
use serde_json::{Value, json};

use super::{apply, get, good, patch, patch_status, with};
use crate::setup;

/// The status that the original operator writes (contract operator §1.3).
fn older_status() -> Value {
    json!({
        "conditions": [
            {"type": "TransportReady", "status": "True", "reason": "TransportValidated", "message": "ok", "observedGeneration": 1, "lastTransitionTime": "2025-01-02T03:04:05Z"},
            {"type": "WorkloadReady", "status": "False", "reason": "PodsNotHealthy", "message": "", "lastTransitionTime": "2025-01-02T03:04:05Z"},
            {"type": "ScalingReady", "status": "True", "reason": "ScaledObjectCreated", "message": "", "lastTransitionTime": "2025-01-02T03:04:05Z"},
        ],
        "status": "WorkloadError", "observedGeneration": 3, "replicas": 1, "readyReplicas": 1, "totalReplicas": 2,
        "desiredReplicas": 2, "pendingReplicas": 0, "failingPods": 1, "readyReplicasSummary": "1/2",
        "replicasSummary": "1/2", "readySummary": "2/3", "transportStatus": "Ready",
        "workloadRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker", "namespace": "default"},
        "scaledObjectRef": {"name": "worker", "namespace": "default"}, "scalingMode": "KEDA",
        "lastScaleTime": "2025-01-02T03:04:05Z", "lastScaleDirection": "up", "lastScaleFormatted": "5m ago (up)",
        "queuedMessages": 7, "processingMessages": 2,
    })
}

#[test]
fn a_status_of_the_original_is_kept_whole_and_never_refused_with_the_spec() {
    let Some(cluster) = setup::prepared() else { return };
    let namespace = cluster.namespace();
    apply(cluster, &namespace, &good(), &[]).unwrap();
    patch_status(cluster, &namespace, "worker", &json!({"status": older_status()})).unwrap();
    let stored = get(cluster, &namespace, "worker");
    assert_eq!(stored["status"], older_status());
    let read: asya_operator::status::Status = serde_json::from_value(stored["status"].clone()).unwrap();
    assert_eq!(
        serde_json::to_value(read).unwrap(),
        older_status(),
        "the types hold all of it"
    );
    // A status that somebody writes with the manifest is no part of it.
    let mut manifest = good();
    manifest["metadata"]["name"] = json!("copied");
    manifest["status"] = older_status();
    apply(cluster, &namespace, &manifest, &[]).unwrap();
    assert_eq!(get(cluster, &namespace, "copied").get("status"), None);
}

/// A definition as loose as the original's: the template untyped, nothing checked.
fn original_definition() -> Value {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "asyncactors.asya.sh"},
        "spec": {
            "group": "asya.sh",
            "names": {
                "kind": "AsyncActor", "listKind": "AsyncActorList", "plural": "asyncactors", "singular": "asyncactor",
                "shortNames": ["asyncactor", "asya", "asyas"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": any, "status": any}}},
            }],
        },
    })
}

/// A server of one's own: definitions are for all namespaces.
fn own_cluster() -> Option<Cluster> {
    Cluster::shared()?;
    Some(Cluster::start())
}

fn define_as_the_original(cluster: &Cluster) {
    cluster.kubectl_with(
        &["apply", "--server-side", "-f", "-"],
        &original_definition().to_string(),
    );
    cluster.kubectl(&[
        "wait",
        "--for=condition=Established",
        "crd/asyncactors.asya.sh",
        "--timeout=60s",
    ]);
}

fn define_as_now(cluster: &Cluster, namespace: &str) {
    cluster.kubectl(&[
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        setup::DEFINITION,
    ]);
    let mut probe = with("@/containers", json!([]));
    probe["metadata"]["name"] = json!("probe");
    wait_for("the server works by the new definition", || {
        apply(cluster, namespace, &probe, &["--dry-run=server"]).err()
    });
}

/// Manifests that the original's definition let in: a name, what is changed, and how.
fn broken() -> Vec<(String, &'static str, Value)> {
    let variable = |value: Value| json!({"name": "X", "value": value});
    let cases = [
        ("two-runtimes", "@/containers/-", json!({"name": "asya-runtime"})),
        ("number", "@/containers/0/env/-", variable(json!(8080))),
        ("boolean", "@/containers/0/env/-", variable(json!(true))),
        ("no-containers", "@", json!({})),
        ("no-pod", "/spec/workload/template", json!({})),
        ("no-name", "@/containers/0/name", Value::Null),
        ("command", "@/containers/0/command", json!(["x"])),
        ("volume", "@/volumes", json!([{"name": "tmp"}, {}])),
        (
            "mount",
            "@/containers/0/volumeMounts",
            json!([{}, {"mountPath": "/var/run/asya"}]),
        ),
        ("negative", "/spec/timeout", json!({"processing": -1})),
        (
            "bounds",
            "/spec/scaling",
            json!({"enabled": true, "minReplicas": 9, "maxReplicas": 2}),
        ),
        ("asya-prefix", "/spec/transport", json!("rabbitmq")),
        ("no-workload", "/spec", json!({"transport": "rabbitmq"})),
        ("empty-spec", "/spec", json!({})),
    ];
    let cases = cases.map(|(name, path, value)| (name.to_owned(), path, value));
    let long = ("long".repeat(20), "/spec/transport", json!("rabbitmq"));
    cases.into_iter().chain([long]).collect()
}

#[test]
fn objects_of_before_can_be_listed_told_mended_and_deleted() {
    let Some(cluster) = &own_cluster() else { return };
    let namespace = &cluster.namespace();
    define_as_the_original(cluster);
    for (name, path, value) in broken() {
        let mut manifest = with(path, value);
        manifest["metadata"]["name"] = json!(name);
        manifest["metadata"]["finalizers"] = json!(["asya.sh/finalizer"]);
        apply(cluster, namespace, &manifest, &[]).unwrap();
    }
    define_as_now(cluster, namespace);
    let listed = cluster.kubectl(&["get", "asya", "-n", namespace, "-o", "name"]);
    assert_eq!(listed.lines().count(), broken().len());
    for (name, ..) in broken() {
        let spec = &get(cluster, namespace, &name)["spec"];
        assert!(
            !check_object(&name, spec).is_empty(),
            "{name} is told what is wrong"
        );
        let told = json!({"status": {"status": "WorkloadError", "conditions": [{
            "type": "WorkloadReady", "status": "False", "reason": "ValidationError", "message": "x",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }]}});
        let said = patch_status(cluster, namespace, &name, &told);
        said.unwrap_or_else(|error| panic!("{name} takes a status: {error}"));
        let released = json!({"metadata": {"finalizers": null, "annotations": {"a": "b"}}});
        let done = patch(cluster, namespace, &name, &released, &[]);
        done.unwrap_or_else(|error| panic!("{name} loses its finalizer: {error}"));
        let again = patch_status(
            cluster,
            namespace,
            &name,
            &json!({"status": {"status": "Terminating"}}),
        );
        again.unwrap_or_else(|error| panic!("{name} takes a second status: {error}"));
    }
    // A change of the broken part must mend it.
    let worse = json!({"spec": {"scaling": {"minReplicas": 8}}});
    let answer = patch(cluster, namespace, "bounds", &worse, &[]).unwrap_err();
    assert!(
        answer.contains("raise maxReplicas or lower minReplicas"),
        "{answer}"
    );
    let better = json!({"spec": {"scaling": {"minReplicas": 1}}});
    patch(cluster, namespace, "bounds", &better, &[]).unwrap();
    cluster.kubectl(&[
        "delete",
        "asya",
        "--all",
        "-n",
        namespace,
        "--wait=true",
        "--timeout=60s",
    ]);
}

/// What the server cannot even look at it does not let pass, unchanged or not: a limit of its own, met here on purpose.
#[test]
fn an_object_of_before_whose_containers_are_no_list_waits_for_its_mending() {
    let Some(cluster) = &own_cluster() else { return };
    let namespace = &cluster.namespace();
    define_as_the_original(cluster);
    let mut manifest = with("@/containers", json!(5));
    manifest["metadata"]["finalizers"] = json!(["asya.sh/finalizer"]);
    apply(cluster, namespace, &manifest, &["--server-side"]).unwrap();
    define_as_now(cluster, namespace);
    let told = json!({"status": {"status": "WorkloadError"}});
    let answer = patch_status(cluster, namespace, "worker", &told).unwrap_err();
    assert!(
        answer.contains("spec.workload.template.spec"),
        "the place is named: {answer}"
    );
    assert!(!check_object("worker", &get(cluster, namespace, "worker")["spec"]).is_empty());
    // Whoever takes the finalizer away can mend it in the same breath.
    let containers = good()["spec"]["workload"]["template"]["spec"]["containers"].clone();
    let released = json!({
        "metadata": {"finalizers": null},
        "spec": {"workload": {"template": {"spec": {"containers": containers}}}},
    });
    patch(cluster, namespace, "worker", &released, &[]).unwrap();
    patch_status(cluster, namespace, "worker", &told).unwrap();
}
