//! What a real API server takes and refuses, and what it says: the custom resource definition at work.

use asya_manifest::check_object;
use asya_tests::kube::Cluster;
use serde_json::{Value, json};

mod admitted;
mod before;
mod refused;
mod shown;

/// A manifest that is admitted.
fn good() -> Value {
    json!({
        "apiVersion": "asya.sh/v1alpha1",
        "kind": "AsyncActor",
        "metadata": {"name": "worker"},
        "spec": {
            "transport": "rabbitmq",
            "workload": {"template": {"spec": {"containers": [{
                "name": "asya-runtime",
                "image": "example/worker:1",
                "env": [{"name": "ASYA_HANDLER", "value": "worker.run"}],
            }]}}},
        },
    })
}

/// A good manifest with one value changed; `path` is a JSON pointer below it, where `@` stands for the pod's spec.
fn with(path: &str, value: Value) -> Value {
    let mut manifest = good();
    set(&mut manifest, path, value);
    manifest
}

fn set(manifest: &mut Value, path: &str, value: Value) {
    let path = path.replace('@', "/spec/workload/template/spec");
    let (parent, key) = path.rsplit_once('/').unwrap();
    let mut place = manifest;
    for key in parent.split('/').skip(1) {
        place = match place {
            Value::Array(items) => &mut items[key.parse::<usize>().unwrap()],
            object => &mut object[key],
        };
    }
    match place {
        Value::Array(items) if key == "-" => items.push(value),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        object => object[key] = value,
    }
}

/// Applies a manifest: `Ok` with what was printed, or `Err` with what `kubectl` complains about.
fn apply(cluster: &Cluster, namespace: &str, manifest: &Value, flags: &[&str]) -> Result<String, String> {
    let mut arguments = vec!["apply", "-n", namespace, "-f", "-"];
    arguments.extend(flags);
    let output = cluster.try_kubectl(&arguments, &manifest.to_string());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout) + &text(&output.stderr))
    } else {
        Err(text(&output.stderr))
    }
}

fn get(cluster: &Cluster, namespace: &str, name: &str) -> Value {
    let text = cluster.kubectl(&["get", "asya", name, "-n", namespace, "-o", "json"]);
    serde_json::from_str(&text).unwrap()
}

/// What `check_object` says of a manifest.
fn checked(manifest: &Value) -> Vec<String> {
    let name = manifest["metadata"]["name"].as_str().unwrap();
    check_object(name, &manifest["spec"])
}

fn patch_status(cluster: &Cluster, namespace: &str, name: &str, change: &Value) -> Result<(), String> {
    patch(cluster, namespace, name, change, &["--subresource=status"])
}

fn patch(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    change: &Value,
    flags: &[&str],
) -> Result<(), String> {
    let change = change.to_string();
    let mut arguments = vec![
        "patch",
        "asyncactor",
        name,
        "-n",
        namespace,
        "--type=merge",
        "-p",
        &change,
    ];
    arguments.extend(flags);
    let output = cluster.try_kubectl(&arguments, "");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        Ok(())
    } else {
        Err(error)
    }
}
