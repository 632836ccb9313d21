//! What a real API server takes and refuses, and what it says: the custom resource definition at work.

use std::path::Path;
use std::sync::OnceLock;

use asya_manifest::check_object;
use asya_tests::kube::Cluster;
use asya_tests::wait_for;
use serde_json::{Value, json};

use crate::setup;

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

/// A pointer into a good manifest, a bad value, and what `kubectl apply` says: the field, and what to do.
fn mistakes() -> Vec<(&'static str, Value, &'static [&'static str])> {
    let long = "a".repeat(300);
    let runtime = json!({"name": "asya-runtime", "image": "x"});
    let sidecar = json!({"name": "asya-sidecar", "image": "x"});
    vec![
        // Text that YAML reads as something else.
        (
            "@/containers/0/env/-",
            json!({"name": "PORT", "value": 8080}),
            &["containers[0].env[1].value", "write it in quotes"],
        ),
        (
            "@/containers/0/env/-",
            json!({"name": "DEBUG", "value": true}),
            &["containers[0].env[1].value", "must be of type"],
        ),
        (
            "@/containers/0/env/-",
            json!({"name": "RATE", "value": 0.5}),
            &["containers[0].env[1].value", "must be of type"],
        ),
        (
            "@/initContainers",
            json!([{"name": "a", "env": [{"name": "PORT", "value": 1}]}]),
            &["initContainers[0].env[0].value", "write it in quotes"],
        ),
        (
            "/spec/sidecar",
            json!({"env": [{"name": "PORT", "value": 1}]}),
            &["spec.sidecar.env[0].value", "write it in quotes"],
        ),
        // Containers.
        (
            "@/containers/-",
            runtime,
            &[
                "spec.workload.template.spec.containers",
                "exactly one container named asya-runtime, found more: rename or remove the others",
            ],
        ),
        (
            "@/containers/0/name",
            json!("worker"),
            &[
                "exactly one container named asya-runtime, found none: give this name to the one that holds the handler",
            ],
        ),
        (
            "@/containers",
            json!([]),
            &[
                "spec.workload.template.spec.containers",
                "should have at least 1 items",
            ],
        ),
        (
            "@/containers",
            json!(5),
            &["spec.workload.template.spec.containers", "must be of type array"],
        ),
        (
            "@/containers/0",
            json!({"image": "x"}),
            &["containers[0].name: Required value"],
        ),
        (
            "@/containers/-",
            sidecar.clone(),
            &["the container name asya-sidecar is reserved: remove it"],
        ),
        (
            "@/containers",
            json!([sidecar]),
            &["the container name asya-sidecar is reserved: remove it"],
        ),
        (
            "@/initContainers",
            json!([sidecar]),
            &[
                "spec.initContainers",
                "the init container name asya-sidecar is reserved: remove it",
            ],
        ),
        (
            "@/containers/0/command",
            json!(["python3", "app.py"]),
            &["the container asya-runtime must not set a command: remove it"],
        ),
        (
            "@/containers/0/volumeMounts",
            json!([{"name": "a", "mountPath": "/var/run/asya/"}]),
            &["containers[0].volumeMounts", "mount yours elsewhere"],
        ),
        (
            "@/volumes",
            json!([{"name": "tmp", "emptyDir": {}}]),
            &["spec.volumes", "reserved", "choose another name"],
        ),
        (
            "@/restartPolicy",
            json!("Never"),
            &[
                "spec.restartPolicy",
                "a Job takes OnFailure or Never, others take Always",
            ],
        ),
        // Numbers.
        (
            "/spec/scaling",
            json!({"enabled": true, "minReplicas": 5, "maxReplicas": 2}),
            &[
                "spec.scaling.minReplicas",
                "raise maxReplicas or lower minReplicas",
            ],
        ),
        (
            "/spec/scaling",
            json!({"enabled": true, "minReplicas": 51}),
            &[
                "spec.scaling.minReplicas",
                "raise maxReplicas or lower minReplicas",
            ],
        ),
        (
            "/spec/timeout",
            json!({"processing": -1}),
            &["spec.timeout.processing", "greater than or equal to 0"],
        ),
        (
            "/spec/timeout",
            json!({"gracefulShutdown": -30}),
            &["spec.timeout.gracefulShutdown", "greater than or equal to 0"],
        ),
        (
            "/spec/scaling",
            json!({"minReplicas": -1}),
            &["spec.scaling.minReplicas", "greater than or equal to 0"],
        ),
        (
            "/spec/scaling",
            json!({"maxReplicas": 0}),
            &["spec.scaling.maxReplicas", "greater than or equal to 1"],
        ),
        (
            "/spec/scaling",
            json!({"pollingInterval": -1}),
            &["spec.scaling.pollingInterval", "greater than or equal to 0"],
        ),
        (
            "/spec/scaling",
            json!({"cooldownPeriod": -1}),
            &["spec.scaling.cooldownPeriod", "greater than or equal to 0"],
        ),
        (
            "/spec/scaling",
            json!({"queueLength": 0}),
            &["spec.scaling.queueLength", "greater than or equal to 1"],
        ),
        (
            "/spec/scaling",
            json!({"maxReplicas": 3_000_000_000_u32}),
            &["spec.scaling.maxReplicas", "less than or equal to 2147483647"],
        ),
        (
            "/spec/workload/replicas",
            json!(-1),
            &["spec.workload.replicas", "greater than or equal to 0"],
        ),
        (
            "/spec/workload/replicas",
            json!("3"),
            &["spec.workload.replicas", "must be of type integer"],
        ),
        // Names.
        (
            "/metadata/name",
            json!(long),
            &["metadata.name", "no more than 253 characters"],
        ),
        (
            "/metadata/name",
            json!(long[..64]),
            &[
                "metadata.name",
                "at most 63 characters",
                "choose a shorter metadata.name",
            ],
        ),
        (
            "/metadata/name",
            json!("asya-worker"),
            &["metadata.name", "must not start with asya-: remove the prefix"],
        ),
        (
            "/metadata/name",
            json!("My_Worker"),
            &["metadata.name", "lower case alphanumeric characters"],
        ),
        // Words.
        (
            "/spec/transport",
            json!(""),
            &["spec.transport", "at least 1 chars"],
        ),
        (
            "/spec/transport",
            json!(5),
            &["spec.transport", "must be of type string"],
        ),
        (
            "/spec/workload/kind",
            json!("CronJob"),
            &[
                "spec.workload.kind",
                "supported values",
                "\"Deployment\", \"StatefulSet\", \"Job\"",
            ],
        ),
        (
            "/spec/workload/runtime",
            json!("java"),
            &["spec.workload.runtime", "supported values"],
        ),
        (
            "/spec/sidecar",
            json!({"imagePullPolicy": "never"}),
            &["spec.sidecar.imagePullPolicy", "supported values"],
        ),
        (
            "/spec/scaling",
            json!({"advanced": {"metricType": "Sum"}}),
            &["spec.scaling.advanced.metricType", "supported values"],
        ),
        (
            "/spec/queue",
            json!({"deletionPolicy": "Keep"}),
            &[
                "spec.queue.deletionPolicy",
                "\"DeleteIfEmpty\", \"Delete\", \"Retain\"",
            ],
        ),
        (
            "/spec/sidecar",
            json!({"resources": {"limits": {"memory": "lots"}}}),
            &["spec.sidecar.resources.limits.memory", "should match"],
        ),
        // Retries, batches, limits.
        (
            "/spec/retry",
            json!({"maxAttempts": 0}),
            &["spec.retry.maxAttempts", "greater than or equal to 1"],
        ),
        (
            "/spec/retry",
            json!({"initialBackoff": "5 minutes"}),
            &["spec.retry.initialBackoff", "write it like 500ms, 30s or 1h30m"],
        ),
        (
            "/spec/retry",
            json!({"maxDuration": 5}),
            &["spec.retry.maxDuration", "must be of type string"],
        ),
        (
            "/spec/retry",
            json!({"jitter": 2}),
            &["spec.retry.jitter", "less than or equal to 1"],
        ),
        (
            "/spec/retry",
            json!({"on": ["KeyError, ValueError"]}),
            &["spec.retry.on[0]", "one name per item"],
        ),
        (
            "/spec/runtime",
            json!({"stream": true, "batch": {"size": 8}}),
            &["spec.runtime.stream", "remove stream, or set batch.size to 1"],
        ),
        (
            "/spec/runtime",
            json!({"batch": {"wait": "soon"}}),
            &["spec.runtime.batch.wait", "write it like 500ms"],
        ),
        (
            "/spec/runtime",
            json!({"workers": 0}),
            &["spec.runtime.workers", "greater than or equal to 1"],
        ),
        (
            "/spec/limits",
            json!({"messageSize": "5MB"}),
            &["spec.limits.messageSize", "should match"],
        ),
        (
            "/spec/limits",
            json!({"messageSize": 0}),
            &["spec.limits.messageSize", "greater than or equal to 1"],
        ),
        // Shapes.
        ("/spec", json!("x"), &["spec", "must be of type object"]),
        (
            "/spec/workload/template",
            json!("x"),
            &["spec.workload.template", "must be of type object"],
        ),
        (
            "@",
            json!([]),
            &["spec.workload.template.spec", "must be of type object"],
        ),
        (
            "@",
            json!({}),
            &["spec.workload.template.spec.containers: Required value"],
        ),
        (
            "/spec/workload",
            json!({}),
            &["spec.workload.template: Required value"],
        ),
        (
            "/spec",
            json!({"transport": "rabbitmq"}),
            &["spec.workload: Required value"],
        ),
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
            let directory = asya_manifest::Directory::inspect_file(&file).directory;
            // The tool file and files of other programs hold no actors.
            for actor in directory.actors {
                let text = serde_json::to_value(&actor.spec).unwrap();
                assert_eq!(check_object(&actor.name, &text), [""; 0], "{}", file.display());
                names.push(actor.name);
            }
            let text = std::fs::read_to_string(&file).unwrap();
            if text.contains("kind: AsyncActor") {
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

/// The columns of contract operator §1.4 and what stands in them.
#[test]
fn kubectl_prints_the_columns_in_order() {
    let Some(cluster) = setup::prepared() else { return };
    let namespace = cluster.namespace();
    apply(cluster, &namespace, &good(), &[]).unwrap();
    let status = json!({"status": {
        "status": "Running", "replicas": 2, "failingPods": 1, "totalReplicas": 3, "desiredReplicas": 4,
        "lastScaleFormatted": "5m ago (up)", "transportStatus": "Ready", "scalingMode": "KEDA", "queuedMessages": 11,
        "processingMessages": 12,
    }});
    patch_status(cluster, &namespace, "worker", &status).unwrap();
    for word in [
        "asya",
        "asyas",
        "asyncactor",
        "asyncactors",
        "asyncactors.asya.sh",
        "asyncactors.v1alpha1.asya.sh",
    ] {
        let output = cluster.kubectl(&["get", word, "-n", &namespace]);
        let lines: Vec<&str> = output.lines().collect();
        let header: Vec<&str> = lines[0].split_whitespace().collect();
        assert_eq!(
            header,
            [
                "NAME",
                "STATUS",
                "RUNNING",
                "FAILING",
                "TOTAL",
                "DESIRED",
                "MIN",
                "MAX",
                "LAST-SCALE",
                "AGE"
            ],
            "{word}"
        );
        let row: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(
            row[..11],
            [
                "worker", "Running", "2", "1", "3", "4", "0", "50", "5m", "ago", "(up)"
            ],
            "{word}"
        );
    }
    let output = cluster.kubectl(&["get", "asya", "-n", &namespace, "-o", "wide"]);
    let lines: Vec<&str> = output.lines().collect();
    assert!(
        lines[0]
            .trim_end()
            .ends_with("WORKLOAD     TRANSPORT   SCALING   QUEUED   PROCESSING"),
        "{output}"
    );
    let row: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(
        row[row.len() - 5..],
        ["Deployment", "Ready", "KEDA", "11", "12"],
        "{output}"
    );
}

fn patch_status(cluster: &Cluster, namespace: &str, name: &str, patch: &Value) -> Result<(), String> {
    patch_with(cluster, namespace, name, patch, &["--subresource=status"])
}

fn patch_with(
    cluster: &Cluster,
    namespace: &str,
    name: &str,
    patch: &Value,
    flags: &[&str],
) -> Result<(), String> {
    let patch = patch.to_string();
    let mut arguments = vec![
        "patch",
        "asyncactor",
        name,
        "-n",
        namespace,
        "--type=merge",
        "-p",
        &patch,
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

#[test]
fn objects_of_before_can_be_listed_told_mended_and_deleted() {
    static OWN: OnceLock<Cluster> = OnceLock::new();
    if Cluster::shared().is_none() {
        return;
    }
    let cluster = OWN.get_or_init(Cluster::start);
    let namespace = cluster.namespace();
    cluster.kubectl_with(
        &["apply", "--server-side", "-f", "-"],
        &original_definition().to_string(),
    );
    let established = [
        "wait",
        "--for=condition=Established",
        "crd/asyncactors.asya.sh",
        "--timeout=60s",
    ];
    cluster.kubectl(&established);
    let bad = [
        ("two-runtimes", "@/containers/-", json!({"name": "asya-runtime"})),
        (
            "number",
            "@/containers/0/env/-",
            json!({"name": "PORT", "value": 8080}),
        ),
        (
            "boolean",
            "@/containers/0/env/-",
            json!({"name": "DEBUG", "value": true}),
        ),
        ("no-list", "@/containers", json!(5)),
        ("negative", "/spec/timeout", json!({"processing": -1})),
        (
            "bounds",
            "/spec/scaling",
            json!({"enabled": true, "minReplicas": 9, "maxReplicas": 2}),
        ),
        ("asya-prefix", "/spec/transport", json!("rabbitmq")),
        (&"long".repeat(20), "/spec/transport", json!("rabbitmq")),
        ("no-spec", "/spec", json!({})),
    ];
    for (name, path, value) in &bad {
        let mut manifest = with(path, value.clone());
        manifest["metadata"]["name"] = json!(name);
        manifest["metadata"]["finalizers"] = json!(["asya.sh/finalizer"]);
        apply(cluster, &namespace, &manifest, &[]).unwrap();
    }
    let force = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "-f",
        setup::DEFINITION,
    ];
    cluster.kubectl(&force);
    wait_for("the server works by the new definition", || {
        apply(
            cluster,
            &namespace,
            &with("@/containers", json!([])),
            &["--dry-run=server"],
        )
        .err()
    });
    let listed = cluster.kubectl(&["get", "asya", "-n", &namespace, "-o", "name"]);
    assert_eq!(listed.lines().count(), bad.len());
    for (name, ..) in &bad {
        let told = json!({"status": {"status": "WorkloadError", "conditions": [{
            "type": "WorkloadReady", "status": "False", "reason": "ValidationError", "message": "x",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }]}});
        patch_status(cluster, &namespace, name, &told)
            .unwrap_or_else(|error| panic!("{name} takes a status: {error}"));
        let again = json!({"status": {"status": "Terminating"}});
        patch_status(cluster, &namespace, name, &again)
            .unwrap_or_else(|error| panic!("{name} takes a second: {error}"));
        let released = json!({"metadata": {"finalizers": null, "annotations": {"a": "b"}}});
        patch_with(cluster, &namespace, name, &released, &[])
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // A change of the broken part must mend it.
    let worse = json!({"spec": {"scaling": {"minReplicas": 8}}});
    let answer = patch_with(cluster, &namespace, "bounds", &worse, &[]).unwrap_err();
    assert!(
        answer.contains("raise maxReplicas or lower minReplicas"),
        "{answer}"
    );
    let better = json!({"spec": {"scaling": {"minReplicas": 1}}});
    patch_with(cluster, &namespace, "bounds", &better, &[]).unwrap();
    cluster.kubectl(&[
        "delete",
        "asya",
        "--all",
        "-n",
        &namespace,
        "--wait=true",
        "--timeout=30s",
    ]);
}

#[test]
fn fields_are_explained_on_the_command_line() {
    let Some(cluster) = setup::prepared() else { return };
    let text = cluster.kubectl(&["explain", "asyncactor.spec.retry.maxAttempts"]);
    assert!(
        text.contains("FIELD: maxAttempts <integer>") && text.contains("the first included"),
        "{text}"
    );
    let text = cluster.kubectl(&["explain", "asyncactor.spec.workload"]);
    for part in [
        "enum: Deployment, StatefulSet, Job",
        "template\t<Object> -required-",
    ] {
        assert!(text.contains(part), "{text}");
    }
}
