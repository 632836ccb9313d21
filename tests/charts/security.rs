//! Everything that the charts run is admitted where the Pod Security level *restricted* is enforced.

use asya_tests::kube::Cluster;
use serde_json::{Value, json};

use crate::setup::{Values, prepared, stored, template};

fn restricted(cluster: &Cluster) -> String {
    let namespace = cluster.namespace();
    cluster.kubectl(&[
        "label",
        "namespace",
        &namespace,
        "pod-security.kubernetes.io/enforce=restricted",
        "pod-security.kubernetes.io/enforce-version=latest",
    ]);
    namespace
}

/// The pods of an object, as pods.
fn pods(object: &Value) -> Option<Value> {
    let name = &object["metadata"]["name"];
    let spec = match object["kind"].as_str()? {
        "Pod" => &object["spec"],
        "Deployment" | "StatefulSet" | "Job" | "AsyncActor" => match object["spec"].get("workload") {
            Some(workload) => &workload["template"]["spec"],
            None => &object["spec"]["template"]["spec"],
        },
        _ => return None,
    };
    let mut spec = spec.clone();
    for container in spec["containers"].as_array_mut()? {
        container.as_object_mut()?.remove("volumeMounts");
    }
    spec["volumes"] = json!([]);
    Some(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}))
}

fn check(chart: &str, values: &str, expected: usize) {
    let Some(cluster) = prepared() else { return };
    let namespace = restricted(cluster);
    let file = Values::read(values, &namespace);
    let arguments = ["--namespace", &namespace, "--values", file.path()];
    let manifest = template(chart, &arguments).unwrap().unwrap();
    let mut seen = 0;
    for pod in manifest
        .split("\n---\n")
        .filter(|document| {
            ["Pod", "Deployment", "StatefulSet", "Job", "AsyncActor"]
                .iter()
                .any(|kind| document.contains(&format!("\nkind: {kind}\n")))
        })
        .flat_map(|document| stored(cluster, document))
        .filter_map(|object| pods(&object))
    {
        let output = cluster.try_kubectl(
            &[
                "create",
                "--dry-run=server",
                "--namespace",
                &namespace,
                "--filename=-",
            ],
            &pod.to_string(),
        );
        assert!(
            output.status.success(),
            "{pod:#}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        seen += 1;
    }
    assert_eq!(seen, expected);
}

#[test]
fn pods_of_the_operator_and_its_checks_are_admitted_where_restricted_is_enforced() {
    check("asya-operator", "operator-e2e", 4);
}

#[test]
fn pods_of_the_gateway_its_database_and_its_checks_are_admitted_where_restricted_is_enforced() {
    check("asya-gateway", "gateway-bundled", 3);
}

#[test]
fn the_migration_is_admitted_where_restricted_is_enforced() {
    check("asya-gateway", "gateway-e2e", 4);
}

#[test]
fn the_native_crew_is_admitted_where_restricted_is_enforced() {
    check("asya-crew", "crew-results", 2);
}

#[test]
fn an_actor_that_says_nothing_about_security_is_not_admitted_there() {
    let Some(cluster) = prepared() else { return };
    let namespace = restricted(cluster);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "asya-runtime", "image": "i"}]}});
    let output = cluster.try_kubectl(
        &[
            "create",
            "--dry-run=server",
            "--namespace",
            &namespace,
            "--filename=-",
        ],
        &pod.to_string(),
    );
    assert!(
        !output.status.success(),
        "the level is enforced, or the other tests would show nothing"
    );
}
