//! The operator needs no more than the chart permits.

use std::path::Path;

use asya_tests::kube::{Cluster, Tools};
use asya_tests::{Signal, keda};

use crate::setup::{ACTOR, Operator, define, prepared};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/asya-operator");

/// Applies the roles and the service account of the chart, as `helm install` would, and gives a kubeconfig file of
/// that account.
fn install_roles(cluster: &Cluster, namespace: &str, values: &[&str], directory: &Path) -> String {
    // Without a cluster to ask, helm would assume a version that is long gone.
    let mut arguments = vec![
        "template",
        namespace,
        CHART,
        "--namespace",
        namespace,
        "--kube-version",
        "1.34.0",
    ];
    for template in ["rbac", "serviceaccount"] {
        arguments.extend([
            "--show-only",
            if template == "rbac" {
                "templates/rbac.yaml"
            } else {
                "templates/serviceaccount.yaml"
            },
        ]);
    }
    // The registry names the Secret, and the roles permit to read that one.
    let transports = "transports.rabbitmq.config.passwordSecretRef.name=rabbitmq";
    arguments.extend(["--set", transports]);
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    let rendered = cluster.run_tool("helm", &arguments, "");
    assert!(
        rendered.status.success(),
        "{}",
        String::from_utf8_lossy(&rendered.stderr)
    );
    let rendered = String::from_utf8(rendered.stdout).unwrap();
    cluster.kubectl_with(&["apply", "--filename", "-"], &rendered);
    let accounts = cluster.kubectl(&[
        "get",
        "serviceaccounts",
        "--namespace",
        namespace,
        "--output=name",
    ]);
    let account = accounts
        .lines()
        .filter_map(|line| line.strip_prefix("serviceaccount/"))
        .find(|name| *name != "default")
        .expect("the chart makes an account");
    let path = directory.join("kubeconfig");
    std::fs::write(
        &path,
        cluster.kubeconfig_for(&cluster.token(namespace, account), cluster.port),
    )
    .unwrap();
    path.to_str().unwrap().to_owned()
}

/// Goes through the life of actors, and asserts that nothing was forbidden.
fn live(cluster: &Cluster, namespace: &str, kubeconfig: &str, variables: &[(&str, &str)]) {
    let variables = [&[("KUBECONFIG", kubeconfig)], variables].concat();
    let operator = Operator::start_with(cluster, namespace, &["--leader-elect"], &variables);
    operator.works();
    let scaled = ACTOR.replace("name: hello", "name: scaled").replace(
        "  workload:",
        "  scaling: {enabled: true, maxReplicas: 3}\n  workload:",
    );
    let stateful = ACTOR
        .replace("name: hello", "name: stateful")
        .replace("  workload:", "  workload:\n    kind: StatefulSet");
    let job = ACTOR
        .replace("name: hello", "name: job")
        .replace("  workload:", "  workload:\n    kind: Job");
    for actor in [ACTOR, &scaled, &stateful, &job] {
        cluster.kubectl_with(&["apply", "--namespace", namespace, "--filename", "-"], actor);
    }
    for object in [
        "deployment/hello",
        "deployment/scaled",
        "statefulset/stateful",
        "job/job",
        "scaledobject.keda.sh/scaled",
    ] {
        operator.wait(object, || {
            cluster
                .try_kubectl(&["get", object, "--namespace", namespace], "")
                .status
                .success()
                .then_some(())
        });
    }
    for name in ["hello", "scaled", "stateful", "job"] {
        operator.wait("a status", || {
            let path = [
                "get",
                "asyncactor",
                name,
                "--namespace",
                namespace,
                "--output=jsonpath={.status.status}",
            ];
            Some(cluster.kubectl(&path)).filter(|status| !status.is_empty())
        });
    }
    cluster.kubectl(&[
        "delete",
        "asyncactor",
        "--all",
        "--namespace",
        namespace,
        "--wait=false",
    ]);
    operator.wait("the deletion to be looked at", || {
        let path = [
            "get",
            "asyncactor",
            "--namespace",
            namespace,
            "--output=jsonpath={.items[*].status.status}",
        ];
        let left = cluster.kubectl(&path);
        left.split_whitespace()
            .all(|status| status == "Terminating")
            .then_some(())
    });
    let forbidden = operator.metrics_lines("code=\"403\"");
    operator.signal(Signal::TERM);
    assert_eq!(operator.ended(), 0, "{}", operator.log());
    assert_eq!(forbidden, Vec::<String>::new(), "{}", operator.log());
    assert!(
        !operator.log().to_lowercase().contains("forbidden"),
        "{}",
        operator.log()
    );
}

impl Operator {
    /// The series of requests that hold a text.
    fn metrics_lines(&self, text: &str) -> Vec<String> {
        let metrics = self.metrics();
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("rest_client_requests_total") && line.contains(text));
        lines.map(str::to_owned).collect()
    }
}

#[test]
fn the_chart_s_cluster_role_is_enough_for_all_namespaces() {
    for tool in ["etcd", "kube-apiserver", "kubectl", "helm"] {
        if Tools::get().need(tool).is_none() {
            return;
        }
    }
    // A cluster of its own: an operator of all namespaces would work on the actors of other tests.
    let cluster = Cluster::start();
    if !(define(&cluster) && keda::install(&cluster)) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let namespace = cluster.namespace();
    let kubeconfig = install_roles(&cluster, &namespace, &[], directory.path());
    live(
        &cluster,
        &namespace,
        &kubeconfig,
        &[("ASYA_WATCH_NAMESPACES", "")],
    );
}

#[test]
fn roles_of_one_namespace_are_enough_for_one_namespace() {
    let Some(cluster) = prepared() else { return };
    if Tools::get().need("helm").is_none() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let namespace = cluster.namespace();
    let watched = format!("watchNamespaces={{{namespace}}}");
    let values = [watched.as_str(), "controller.clusterName=here"];
    let kubeconfig = install_roles(cluster, &namespace, &values, directory.path());
    live(cluster, &namespace, &kubeconfig, &[("ASYA_CLUSTER_NAME", "here")]);
    // Without a name for the cluster it says what to do: it may not read the uid of kube-system.
    let variables = [("KUBECONFIG", kubeconfig.as_str())];
    let nameless = Operator::start_with(cluster, &namespace, &[], &variables);
    assert_eq!(nameless.ended(), 1, "{}", nameless.log());
    assert!(nameless.log().contains("ASYA_CLUSTER_NAME"), "{}", nameless.log());
}
