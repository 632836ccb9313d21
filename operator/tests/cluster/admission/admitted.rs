//! Manifests that are admitted, and what the server makes of them.

use std::path::Path;

use asya_manifest::check_object;
use serde_json::{Value, json};

use super::{apply, get, good, set, with};
use crate::setup;

#[test]
fn what_can_run_is_admitted() {
    let Some(cluster) = setup::prepared() else { return };
    let namespace = cluster.namespace();
    let mut native = with("/spec/workload/runtime", json!("native"));
    set(&mut native, "@/containers/0/command", json!(["/bin/worker"]));
    let mut job = with("/spec/workload/type", json!("Job"));
    set(&mut job, "@/restartPolicy", json!("Never"));
    let mut helper = with(
        "@/containers/-",
        json!({"name": "helper", "command": ["sh"], "volumeMounts": [{"name": "socket-dir", "mountPath": "/var/run/asya"}]}),
    );
    set(&mut helper, "@/containers/0/command", json!([]));
    let mut stateful = with("/spec/workload/kind", json!("StatefulSet"));
    set(&mut stateful, "/spec/workload/serviceName", json!("workers"));
    set(&mut stateful, "/metadata/name", json!("1-worker"));
    let manifests = [
        good(),
        native,
        job,
        helper,
        stateful,
        with("/metadata/name", json!("a".repeat(63))),
        with("/metadata/name", json!("0.worker-1")),
        // Manual scaling has no use for the bounds.
        with("/spec/scaling", json!({"minReplicas": 60})),
        with("/spec/timeout", json!({"processing": 0, "gracefulShutdown": 0})),
        with("/spec/limits", json!({"messageSize": "64Mi", "hops": 1})),
        with(
            "/spec/retry",
            json!({"initialBackoff": "1h30m", "maxBackoff": "0", "on": ["ValueError", "timeout_error"]}),
        ),
        with(
            "/spec/runtime",
            json!({"stream": true, "batch": {"size": 1, "wait": "1.5s"}}),
        ),
        with("/spec/queue", json!({"deletionPolicy": "Retain"})),
        with(
            "/spec/workload/strategy",
            json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "10%"}}),
        ),
        with("/spec/workload/disruptionBudget", json!(false)),
        with("@/containers/0/args", json!(["--verbose"])),
        with(
            "@/containers/0/env/-",
            json!({"name": "ASYA_HANDLER", "value": "again.run"}),
        ),
        with("@/containers/0/env", Value::Null),
        with(
            "@/containers/0/volumeMounts",
            json!([{"name": "tmp", "mountPath": "/tmp"}]),
        ),
        with(
            "/spec/sidecar",
            json!({"resources": {"limits": {"cpu": 1, "memory": "1.5Gi", "example.com/x": "2"}}}),
        ),
    ];
    for manifest in manifests {
        let name = manifest["metadata"]["name"].as_str().unwrap();
        apply(cluster, &namespace, &manifest, &[])
            .unwrap_or_else(|error| panic!("{manifest} is admitted: {error}"));
        let stored = get(cluster, &namespace, name);
        assert_eq!(check_object(name, &stored["spec"]), [""; 0], "{manifest}");
    }
}

#[test]
fn every_example_is_admitted() {
    let Some(cluster) = setup::prepared() else { return };
    let namespace = cluster.namespace();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = Vec::new();
    for directory in [
        "examples/kubernetes",
        "examples/document-pipeline",
        "examples/http-step",
        "manifest/tests/fixtures/good",
    ] {
        let mut files: Vec<_> = std::fs::read_dir(root.join(directory))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        for file in files.into_iter().filter(|file| {
            file.extension()
                .is_some_and(|suffix| suffix == "yaml" || suffix == "yml")
        }) {
            let text = std::fs::read_to_string(&file).unwrap();
            let has_actors = text.contains("kind: AsyncActor");
            let asya_manifest::Inspection { directory, problems } =
                asya_manifest::Directory::inspect_file(&file);
            assert!(problems.is_empty() || !has_actors, "{problems}");
            // The tool file and files of other programs hold no actors.
            for actor in directory.actors {
                let spec = serde_json::to_value(&actor.spec).unwrap();
                assert_eq!(check_object(&actor.name, &spec), [""; 0], "{}", file.display());
                names.push(actor.name);
            }
            if has_actors {
                let (asya, demo) = ("  namespace: asya\n", "  namespace: demo\n");
                let text = text
                    .replace(asya, "")
                    .replace(demo, "")
                    .replace("enabled: yes", "enabled: true");
                cluster.kubectl_with(&["apply", "-n", &namespace, "-f", "-"], &text);
            }
        }
    }
    for name in [
        "hello-actor",
        "fixed-replicas-actor",
        "conda-ml-actor",
        "custom-sidecar-actor",
        "fully-configured-actor",
        "llm-actor",
        "cached-actor",
        "advanced-scaling-actor",
        "preprocess",
        "inference",
        "postprocess",
    ] {
        assert!(
            names.iter().filter(|found| *found == name).count() >= 2,
            "{name} is an example and a fixture"
        );
        cluster.kubectl(&["get", "asya", name, "-n", &namespace]);
    }
}

#[test]
fn the_server_writes_the_defaults() {
    let Some(cluster) = setup::prepared() else { return };
    let namespace = cluster.namespace();
    apply(cluster, &namespace, &good(), &[]).unwrap();
    let mut expected = good()["spec"].clone();
    let defaults = [
        ("sidecar", json!({"imagePullPolicy": "IfNotPresent"})),
        ("timeout", json!({"processing": 300})),
        (
            "scaling",
            json!({
                "enabled": false, "minReplicas": 0, "maxReplicas": 50, "pollingInterval": 10, "cooldownPeriod": 60,
                "queueLength": 5,
            }),
        ),
    ];
    for (field, value) in defaults {
        expected[field] = value;
    }
    for (field, value) in [
        ("kind", json!("Deployment")),
        ("replicas", json!(1)),
        ("pythonExecutable", json!("python3")),
        ("runtime", json!("python")),
    ] {
        expected["workload"][field] = value;
    }
    assert_eq!(
        get(cluster, &namespace, "worker")["spec"],
        expected,
        "no default of gracefulShutdown"
    );
    let partial = with("/spec/scaling", json!({"enabled": true, "maxReplicas": 7}));
    apply(cluster, &namespace, &partial, &[]).unwrap();
    let scaling = &get(cluster, &namespace, "worker")["spec"]["scaling"];
    assert_eq!(
        (&scaling["maxReplicas"], &scaling["cooldownPeriod"]),
        (&json!(7), &json!(60))
    );
}

#[test]
fn unknown_fields_are_told_and_dropped_but_not_in_the_pod() {
    let Some(cluster) = setup::prepared() else { return };
    let namespace = cluster.namespace();
    let mut manifest = with("/spec/minReplicas", json!(3));
    set(&mut manifest, "@/futureField", json!({"deep": [1]}));
    set(
        &mut manifest,
        "@/containers/0/resizePolicyOfTomorrow",
        json!("Always"),
    );
    set(&mut manifest, "@/containers/0/env/0/hint", json!("x"));
    set(&mut manifest, "/spec/socket", json!({"path": "/tmp/app.sock"}));
    set(
        &mut manifest,
        "/spec/workload/volumeClaimTemplates",
        json!([{"metadata": {"name": "data"}, "spec": {"x": 1}}]),
    );
    let answer = apply(cluster, &namespace, &manifest, &[]).unwrap_err();
    assert!(answer.contains(r#"unknown field "spec.minReplicas""#), "{answer}");
    let answer = apply(cluster, &namespace, &manifest, &["--validate=warn"]).unwrap();
    assert!(
        answer.contains(r#"Warning: unknown field "spec.minReplicas""#),
        "{answer}"
    );

    let stored = get(cluster, &namespace, "worker");
    assert_eq!(stored["spec"].get("minReplicas"), None);
    let pod = &stored["spec"]["workload"]["template"]["spec"];
    assert_eq!(pod["futureField"], json!({"deep": [1]}));
    assert_eq!(pod["containers"][0]["resizePolicyOfTomorrow"], "Always");
    assert_eq!(pod["containers"][0]["env"][0]["hint"], "x");
    assert_eq!(
        stored["spec"]["workload"]["volumeClaimTemplates"],
        manifest["spec"]["workload"]["volumeClaimTemplates"]
    );
    // Older documents show this field: it is no reason to refuse, and the controller can name it.
    assert_eq!(
        asya_manifest::ineffective_fields(&stored["spec"]),
        ["spec.socket"]
    );
    assert_eq!(check_object("worker", &stored["spec"]), [""; 0]);
}
