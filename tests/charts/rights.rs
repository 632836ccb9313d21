//! What the operator's service account may do, and may not, as the API server decides it.

use asya_tests::kube::Cluster;
use serde_json::json;

use crate::setup::{Values, install, prepared};

/// Whether an account may do something, asked with `kubectl auth can-i`; about resources of KEDA, which need not be
/// there, with a review of our own.
fn may(cluster: &Cluster, account: &str, question: &[&str]) -> bool {
    if let [verb, resource, "--namespace", namespace] = question
        && let Some(plural) = resource.strip_suffix(".keda.sh")
    {
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": account,
            "resourceAttributes": {"verb": verb, "group": "keda.sh", "resource": plural, "namespace": namespace}}});
        let arguments = ["create", "--output=jsonpath={.status.allowed}", "--filename=-"];
        return cluster.kubectl_with(&arguments, &review.to_string()) == "true";
    }
    let mut arguments = vec!["auth", "can-i", "--as", account];
    arguments.extend(question);
    let output = cluster.try_kubectl(&arguments, "");
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => true,
        "no" => false,
        other => panic!(
            "{question:?}: {other} {}",
            String::from_utf8_lossy(&output.stderr)
        ),
    }
}

fn check(cluster: &Cluster, account: &str, namespace: &str, allowed: &[&str], refused: &[&str]) {
    for (questions, expected) in [(allowed, true), (refused, false)] {
        for question in questions {
            let mut words: Vec<&str> = question.split(' ').collect();
            words.extend(["--namespace", namespace]);
            assert_eq!(
                may(cluster, account, &words),
                expected,
                "{question} in {namespace}"
            );
        }
    }
}

const NEEDED: &[&str] = &[
    "list asyncactors.asya.sh",
    "watch asyncactors.asya.sh",
    "patch asyncactors.asya.sh",
    "patch asyncactors.asya.sh --subresource=status",
    "update asyncactors.asya.sh --subresource=finalizers",
    "create deployments.apps",
    "delete statefulsets.apps",
    "patch jobs.batch",
    "patch scaledobjects.keda.sh",
    "patch scaledjobs.keda.sh",
    "patch triggerauthentications.keda.sh",
    "patch poddisruptionbudgets.policy",
    "watch horizontalpodautoscalers.autoscaling",
    "patch services",
    "delete serviceaccounts",
    "watch serviceaccounts",
    "watch configmaps",
    "delete configmaps",
    "watch pods",
    "get secrets/rabbitmq-secret",
    "create events.events.k8s.io",
    "patch events",
];

const REFUSED: &[&str] = &[
    "create asyncactors.asya.sh",
    "delete asyncactors.asya.sh",
    "list secrets",
    "watch secrets",
    "get secrets/somebody-elses",
    "create secrets",
    "delete pods",
    "create pods --subresource=exec",
    "patch horizontalpodautoscalers.autoscaling",
    "create rolebindings.rbac.authorization.k8s.io",
    "get nodes",
    "update asyncactors.asya.sh",
    "update deployments.apps",
    "update configmaps",
];

/// What is needed where a transport is SQS, whose actors may have a role.
const ACCOUNTS: &[&str] = &["create serviceaccounts", "patch serviceaccounts"];

#[test]
fn the_operator_may_do_what_it_needs_everywhere_and_list_no_secret() {
    let Some(cluster) = prepared() else { return };
    let (home, elsewhere) = (cluster.namespace(), cluster.namespace());
    install(
        cluster,
        &format!("asya-operator-{home}"),
        "asya-operator",
        &home,
        &[],
    );
    let account = format!("system:serviceaccount:{home}:asya-operator-{home}");
    check(cluster, &account, &elsewhere, NEEDED, REFUSED);
    check(cluster, &account, &elsewhere, &[], ACCOUNTS);
    let leases = &[
        "create leases.coordination.k8s.io",
        "update leases.coordination.k8s.io/asya-operator.asya.sh",
    ];
    check(
        cluster,
        &account,
        &home,
        leases,
        &[
            "update leases.coordination.k8s.io/another",
            "list leases.coordination.k8s.io",
        ],
    );
    check(cluster, &account, &elsewhere, &[], leases);
    assert!(may(cluster, &account, &["get", "namespaces/kube-system"]));
    assert!(!may(cluster, &account, &["list", "namespaces"]));
}

#[test]
fn with_watched_namespaces_the_operator_has_rights_there_alone() {
    let Some(cluster) = prepared() else { return };
    let (home, watched, other) = (cluster.namespace(), cluster.namespace(), cluster.namespace());
    let values = Values::of(&format!(
        "watchNamespaces: [{watched}]\ncontroller: {{clusterName: east}}\n"
    ));
    let release = format!("asya-operator-{home}");
    install(
        cluster,
        &release,
        "asya-operator",
        &home,
        &["--values", values.path()],
    );
    let account = format!("system:serviceaccount:{home}:{release}");
    check(cluster, &account, &watched, NEEDED, REFUSED);
    check(cluster, &account, &other, &[], NEEDED);
    let script = &["create configmaps", "patch configmaps/asya-runtime"];
    check(
        cluster,
        &account,
        &home,
        script,
        &["patch configmaps/another", "list asyncactors.asya.sh"],
    );
    let roles = cluster.kubectl(&[
        "get",
        "clusterroles",
        "--output=name",
        "--selector",
        &format!("app.kubernetes.io/instance={release}"),
    ]);
    assert_eq!(roles, "", "a namespaced operator leaves nothing in the cluster");
}

#[test]
fn an_operator_that_manages_no_secrets_may_read_none() {
    let Some(cluster) = prepared() else { return };
    let home = cluster.namespace();
    let values = Values::of("transports: {rabbitmq: {enabled: false}, sqs: {enabled: true}}");
    let release = format!("asya-operator-{home}");
    install(
        cluster,
        &release,
        "asya-operator",
        &home,
        &["--values", values.path()],
    );
    let account = format!("system:serviceaccount:{home}:{release}");
    check(
        cluster,
        &account,
        &home,
        &["patch deployments.apps"],
        &["get secrets/rabbitmq-secret", "get secrets"],
    );
    check(cluster, &account, &home, ACCOUNTS, &[]);
}
