//! Hooks and `helm test`: what their pods would run is run here with the rights that they would have; that helm waits
//! for them is seen by writing what kubelet would write.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use asya_tests::kube::{Cluster, Tools};
use serde_json::Value;

use crate::setup::{Said, Values, chart, get, helm_in, install, prepared, template};

/// Runs each container of a pod, in order, as its service account; the first failure ends it.
fn run_pod(cluster: &Cluster, namespace: &str, pod: &Value) -> Said {
    let spec = &pod["spec"];
    let token = cluster.token(namespace, spec["serviceAccountName"].as_str().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    std::fs::write(&kubeconfig, cluster.kubeconfig_for(&token, cluster.port)).unwrap();
    let containers = [&spec["initContainers"], &spec["containers"]];
    let mut last = None;
    for container in containers.into_iter().filter_map(Value::as_array).flatten() {
        let arguments = container["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|argument| argument.as_str().unwrap());
        let output = Command::new(Tools::get().find("kubectl").unwrap())
            .args(arguments)
            .env("KUBECONFIG", &kubeconfig)
            .env("HOME", directory.path())
            .output()
            .unwrap();
        let said = Said::from(output);
        if !said.success {
            return said;
        }
        last = Some(said);
    }
    last.expect("a pod has containers")
}

/// Applies the hooks of one template, as helm would before it starts the pods.
fn apply_hooks(cluster: &Cluster, manifest: &str) {
    cluster.kubectl_with(&["apply", "--filename=-"], manifest);
}

fn available(cluster: &Cluster, namespace: &str, deployment: &str) {
    let status = r#"{"status":{"replicas":1,"updatedReplicas":1,"readyReplicas":1,"availableReplicas":1,"observedGeneration":1,
        "conditions":[{"type":"Available","status":"True","lastTransitionTime":"2025-01-01T00:00:00Z","lastUpdateTime":"2025-01-01T00:00:00Z","reason":"MinimumReplicasAvailable","message":""}]}}"#;
    cluster.kubectl(&[
        "patch",
        "--namespace",
        namespace,
        "deployment",
        deployment,
        "--subresource=status",
        "--type=merge",
        "--patch",
        status,
    ]);
}

#[test]
fn the_checks_of_the_operator_see_what_is_there_with_no_other_rights() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let release = format!("asya-operator-{namespace}");
    install(cluster, &release, "asya-operator", &namespace, &[]);
    let manifest = cluster_template(
        cluster,
        "asya-operator",
        &release,
        &namespace,
        "templates/tests/checks.yaml",
        &[],
    );
    apply_hooks(cluster, &manifest);
    let pod = |name: &str| get(cluster, &namespace, &format!("pod/{release}-{name}"));

    run_pod(cluster, &namespace, &pod("test-crd")).unwrap();

    let mut ready = pod("test-ready");
    shorten(&mut ready);
    let said = run_pod(cluster, &namespace, &ready);
    assert!(!said.success && said.error.contains("timed out"), "{said:?}");
    available(cluster, &namespace, &release);
    run_pod(cluster, &namespace, &ready).unwrap();

    let mut script = pod("test-runtime-cm");
    shorten(&mut script);
    assert!(
        !run_pod(cluster, &namespace, &script).success,
        "there is no ConfigMap yet"
    );
    cluster.kubectl(&[
        "create",
        "configmap",
        "asya-runtime",
        "--namespace",
        &namespace,
        "--from-literal=asya_runtime.py=pass",
    ]);
    run_pod(cluster, &namespace, &script).unwrap();
}

/// Lets a check give up after a second.
fn shorten(pod: &mut Value) {
    for argument in pod["spec"]["containers"][0]["args"].as_array_mut().unwrap() {
        if argument.as_str().unwrap().starts_with("--timeout=") {
            *argument = "--timeout=1s".into();
        }
    }
}

/// One template of a chart for a release and a namespace.
fn cluster_template(
    cluster: &Cluster,
    name: &str,
    release: &str,
    namespace: &str,
    file: &str,
    arguments: &[&str],
) -> String {
    let folder = chart(name);
    let mut all = vec![
        "template",
        release,
        &folder,
        "--validate",
        "--namespace",
        namespace,
        "--show-only",
        file,
    ];
    all.extend(arguments);
    helm_in(cluster, &all).unwrap()
}

const READY: &str = r#"{"status":{"conditions":[
    {"type":"TransportReady","status":"True","reason":"TransportValidated","message":"","lastTransitionTime":"2025-01-01T00:00:00Z"},
    {"type":"WorkloadReady","status":"True","reason":"WorkloadCreated","message":"","lastTransitionTime":"2025-01-01T00:00:00Z"},
    {"type":"Ready","status":"True","reason":"Ready","message":"","lastTransitionTime":"2025-01-01T00:00:00Z"}]}}"#;

#[test]
fn the_checks_of_actors_follow_their_conditions_with_no_other_rights() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let values = Values::read("actor-e2e", &namespace);
    let release = format!("actors-{namespace}");
    let arguments = ["--values", values.path()];
    install(cluster, &release, "asya-actor", &namespace, &arguments);
    let manifest = cluster_template(
        cluster,
        "asya-actor",
        &release,
        &namespace,
        "templates/tests/checks.yaml",
        &arguments,
    );
    apply_hooks(cluster, &manifest);
    let pods = get(cluster, &namespace, "pods");
    let pods = pods["items"].as_array().unwrap();
    assert_eq!(pods.len(), 1, "an actor without checks has no pod");

    let said = run_pod(cluster, &namespace, &pods[0]);
    assert!(!said.success && said.error.contains("timed out"), "{said:?}");
    cluster.kubectl(&[
        "patch",
        "--namespace",
        &namespace,
        "asyncactor/test-echo",
        "--subresource=status",
        "--type=merge",
        "--patch",
        READY,
    ]);
    run_pod(cluster, &namespace, &pods[0]).unwrap();

    let account = format!("system:serviceaccount:{namespace}:{release}-asya-actor-test");
    for question in [
        ["list", "secrets"],
        ["list", "asyncactors"],
        ["get", "asyncactors/test-timeout"],
    ] {
        let output = cluster.try_kubectl(
            &[
                &["auth", "can-i", "--as", &account, "--namespace", &namespace],
                &question[..],
            ]
            .concat(),
            "",
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "no",
            "{question:?}"
        );
    }
}

/// Runs helm beside the test, which meanwhile writes what kubelet would write; gives helm's answer.
fn beside(cluster: &Cluster, arguments: &[&str], mut kubelet: impl FnMut(&Cluster)) -> Said {
    let child = Command::new(Tools::get().find("helm").unwrap())
        .args(arguments)
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("HOME", cluster.kubeconfig().parent().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let waiting = std::thread::spawn(move || child.wait_with_output().unwrap());
    let started = Instant::now();
    while !waiting.is_finished() {
        assert!(
            started.elapsed() < Duration::from_mins(2),
            "helm {arguments:?} does not end"
        );
        kubelet(cluster);
        std::thread::sleep(Duration::from_millis(50));
    }
    waiting.join().unwrap().into()
}

/// Ends every pod of a namespace that has not ended, in this phase.
fn end_pods(cluster: &Cluster, namespace: &str, phase: &str) {
    let pods = get(cluster, namespace, "pods");
    for pod in pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|pod| pod["status"]["phase"] == "Pending")
    {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let patch = format!(r#"{{"status":{{"phase":"{phase}"}}}}"#);
        // Helm may have deleted it meanwhile.
        cluster.try_kubectl(
            &[
                "patch",
                "--namespace",
                namespace,
                "pod",
                name,
                "--subresource=status",
                "--type=merge",
                "--patch",
                &patch,
            ],
            "",
        );
    }
}

#[test]
fn helm_test_succeeds_and_cleans_up_when_the_pods_do_and_fails_when_they_do() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let release = format!("asya-operator-{namespace}");
    install(cluster, &release, "asya-operator", &namespace, &[]);
    let arguments = ["test", &release, "--namespace", &namespace, "--timeout=60s"];
    let said = beside(cluster, &arguments, |cluster| {
        end_pods(cluster, &namespace, "Succeeded");
    });
    assert!(said.success, "{said:?}");
    let left = cluster.kubectl(&[
        "get",
        "--namespace",
        &namespace,
        "pods,serviceaccounts,roles",
        "--output=name",
    ]);
    assert!(!left.contains(&format!("{release}-test")), "{left}");

    let said = beside(cluster, &arguments, |cluster| {
        end_pods(cluster, &namespace, "Failed");
    });
    assert!(!said.success, "{said:?}");
    let left = cluster.kubectl(&["get", "--namespace", &namespace, "pods", "--output=name"]);
    assert!(
        left.contains(&format!("{release}-test-")),
        "what failed stays for its log: {left}"
    );
}

#[test]
fn an_actor_waits_for_its_operator_when_it_is_told_to() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let release = format!("actors-{namespace}");
    let values = Values::read("actor-e2e", &namespace);
    let folder = chart("asya-actor");
    let arguments = [
        "install",
        &release,
        &folder,
        "--namespace",
        &namespace,
        "--values",
        values.path(),
        "--timeout=60s",
    ];
    let mut outcome = None;
    let said = beside(cluster, &arguments, |cluster| {
        let pods = get(cluster, &namespace, "pods");
        if let Some(pod) = pods["items"].as_array().unwrap().first()
            && outcome.is_none()
        {
            // The operator is not there, which the pod must find out with the rights that it has.
            let before = run_pod(cluster, &namespace, pod);
            let operator = format!("asya-operator-{namespace}");
            install(cluster, &operator, "asya-operator", &namespace, &[]);
            available(cluster, &namespace, &operator);
            outcome = Some((before, run_pod(cluster, &namespace, pod)));
            end_pods(cluster, &namespace, "Succeeded");
        }
    });
    assert!(said.success, "{said:?}");
    let (before, after) = outcome.expect("there was a pod");
    assert!(before.error.contains("no matching resources found"), "{before:?}");
    after.unwrap();
    cluster.kubectl(&["get", "--namespace", &namespace, "asyncactor/test-echo"]);
    let left = cluster.kubectl(&[
        "get",
        "--namespace",
        &namespace,
        "pods,roles,serviceaccounts",
        "--output=name",
    ]);
    assert!(!left.contains("pre-install"), "{left}");
}

#[test]
fn the_gateway_is_installed_after_its_database_was_migrated() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let folder = chart("asya-gateway");
    let values = Values::read("gateway-old", &namespace);
    let arguments = [
        "install",
        "asya-gateway",
        &folder,
        "--namespace",
        &namespace,
        "--values",
        values.path(),
        "--timeout=60s",
    ];
    let mut job = None;
    let said = beside(cluster, &arguments, |cluster| {
        let jobs = get(cluster, &namespace, "jobs");
        if let Some(found) = jobs["items"].as_array().unwrap().first()
            && job.is_none()
        {
            let secret = get(cluster, &namespace, "secret/asya-gateway-db-migration");
            let deployment =
                cluster.try_kubectl(&["get", "--namespace", &namespace, "deployment/asya-gateway"], "");
            job = Some((found.clone(), secret, deployment.status.success()));
            let done = r#"{"status":{"startTime":"2025-01-01T00:00:00Z","completionTime":"2025-01-01T00:00:01Z","succeeded":1,"uncountedTerminatedPods":{},
                "conditions":[{"type":"SuccessCriteriaMet","status":"True","lastTransitionTime":"2025-01-01T00:00:00Z"},{"type":"Complete","status":"True","lastTransitionTime":"2025-01-01T00:00:00Z"}]}}"#;
            cluster.kubectl(&[
                "patch",
                "--namespace",
                &namespace,
                "job/asya-gateway-db-migration",
                "--subresource=status",
                "--type=merge",
                "--patch",
                done,
            ]);
        }
    });
    assert!(said.success, "{said:?}");
    let (job, secret, was_there) = job.expect("there was a Job");
    assert!(!was_there, "nothing is installed before");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["args"], serde_json::json!(["migrate"]));
    assert_eq!(
        container["env"][0]["value"],
        "postgres://asya%20gateway@db.example.com:5432/jobs?sslmode=prefer"
    );
    assert_eq!(
        container["env"][1]["valueFrom"]["secretKeyRef"]["name"],
        secret["metadata"]["name"]
    );
    cluster.kubectl(&["get", "--namespace", &namespace, "deployment/asya-gateway"]);
    let left = cluster.kubectl(&["get", "--namespace", &namespace, "jobs,secrets", "--output=name"]);
    assert!(!left.contains("migration"), "{left}");
    let kept = get(cluster, &namespace, "secret/asya-gateway-db");
    assert_eq!(kept["data"]["password"], secret["data"]["password"]);
}

#[test]
fn the_checks_of_the_gateway_use_its_own_images() {
    let values = Values::read("gateway-e2e", "asya-e2e");
    let Some(said) = template(
        "asya-gateway",
        &[
            "--values",
            values.path(),
            "--show-only=templates/tests/checks.yaml",
        ],
    ) else {
        return;
    };
    let text = said.unwrap();
    for word in [
        "image: \"asya:0.1.0\"",
        "image: \"asya-gateway:dev\"",
        "- http://asya-gateway.asya-system.svc:8080",
        "- --status",
    ] {
        assert!(text.contains(word), "no {word} in {text}");
    }
}
