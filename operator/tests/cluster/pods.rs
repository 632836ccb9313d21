//! Pods as we make them before a real API server that enforces the Pod Security Standard *restricted*.

use std::collections::BTreeMap;
use std::process::Output;

use asya_operator::desired::{Defaults, Facts, Inputs, Script, SidecarMode, pod};
use asya_operator::registry;
use asya_operator::resource::{Actor, AsyncActor};
use asya_tests::kube::Cluster;
use serde_json::{Value, json};

/// What the standard asks of a container of the user's own.
fn compliant() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// An actor whose runtime has this security context.
fn actor(spec: &Value, context: &Value) -> Value {
    let mut spec = spec.clone();
    spec["transport"] = json!("rabbitmq");
    let runtime = json!({"name": "asya-runtime", "image": "app", "securityContext": context});
    spec["workload"]["template"] = json!({"spec": {"containers": [runtime]}});
    json!({"metadata": {"name": "worker"}, "spec": spec})
}

/// The pod of an actor, as a workload would make it.
fn pod_of(actor: &Value, mode: SidecarMode, name: &str) -> Value {
    let object: AsyncActor = serde_json::from_value(actor.clone()).unwrap();
    let actor = Actor::read(&object).unwrap();
    let transports = json!({"transports": {"rabbitmq": {
        "type": "rabbitmq", "enabled": true,
        "config": {"host": "rabbitmq", "passwordSecretRef": {"name": "broker", "key": "password"}},
    }}});
    let (registry, _) = registry::read(&transports.to_string()).unwrap();
    let defaults = Defaults {
        sidecar_image: "example/asya-sidecar:1".to_owned(),
        sidecar_resources: None,
        sidecar_security: pod::hardened(),
        sidecar_mode: mode,
        gateway_url: String::new(),
        script: Script {
            text: asya_runtime_protocol::PYTHON_RUNTIME.to_owned(),
            hash: "0123456789abcdef".to_owned(),
        },
        disruption_budgets: true,
        manages_queues: true,
    };
    let inputs = Inputs {
        actor: &actor,
        transport: registry.find("rabbitmq").unwrap(),
        defaults: &defaults,
        facts: &Facts {
            server_minor: 34,
            ..Facts::default()
        },
    };
    let labels = BTreeMap::from([("asya.sh/asya".to_owned(), actor.name.clone())]);
    let mut template = pod::template(&inputs, &labels).unwrap();
    template["apiVersion"] = json!("v1");
    template["kind"] = json!("Pod");
    template["metadata"]["name"] = json!(name);
    template
}

/// A namespace that enforces the standard.
fn restricted(cluster: &Cluster) -> String {
    let namespace = cluster.namespace();
    cluster.kubectl(&[
        "label",
        "namespace",
        &namespace,
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    namespace
}

/// Creates a pod, refusing fields that the API server does not know.
fn create(cluster: &Cluster, namespace: &str, pod: &Value) -> Output {
    let arguments = [
        "create",
        "--validate=strict",
        "--namespace",
        namespace,
        "--filename=-",
    ];
    cluster.try_kubectl(&arguments, &pod.to_string())
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_actor_whose_own_container_complies_is_admitted_where_pods_are_restricted() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = restricted(cluster);
    let specs = [
        ("python", json!({"workload": {}})),
        ("program", json!({"workload": {"runtime": "native"}})),
        ("job", json!({"workload": {"kind": "Job"}})),
        (
            "scaled-job",
            json!({"workload": {"kind": "Job"}, "scaling": {"enabled": true}}),
        ),
    ];
    for (name, spec) in specs {
        for (mode, suffix) in [
            (SidecarMode::Container, "container"),
            (SidecarMode::Native, "native"),
        ] {
            let pod = pod_of(&actor(&spec, &compliant()), mode, &format!("{name}-{suffix}"));
            let created = create(cluster, &namespace, &pod);
            let errors = errors(&created);
            assert!(created.status.success(), "{name} {suffix}: {errors}");
            assert!(!errors.contains("Warning"), "{name} {suffix}: {errors}");
        }
    }
}

#[test]
fn the_users_own_container_is_what_is_refused_and_not_the_sidecar() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = restricted(cluster);
    for mode in [SidecarMode::Container, SidecarMode::Native] {
        let spec = json!({"workload": {}});
        let refused = create(
            cluster,
            &namespace,
            &pod_of(&actor(&spec, &json!({})), mode, "refused"),
        );
        let errors = errors(&refused);
        assert!(!refused.status.success(), "the standard is enforced");
        assert!(
            errors.contains("violates PodSecurity") && errors.contains("\"asya-runtime\""),
            "{errors}"
        );
        assert!(!errors.contains("asya-sidecar"), "{errors}");
    }
}

#[test]
fn a_pod_that_names_a_user_for_all_its_containers_is_admitted_too() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = restricted(cluster);
    let mut actor = actor(&json!({"workload": {}}), &compliant());
    actor["spec"]["workload"]["template"]["spec"]["securityContext"] =
        json!({"runAsUser": 5000, "fsGroup": 5000});
    let created = create(
        cluster,
        &namespace,
        &pod_of(&actor, SidecarMode::Container, "own-user"),
    );
    assert!(created.status.success(), "{}", errors(&created));
}
