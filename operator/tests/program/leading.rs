//! Who of several replicas works.

use asya_tests::kube::Cluster;
use asya_tests::{Signal, wait_for};
use serde_json::{Value, json};

use crate::setup::{ACTOR, Operator, prepared, series};

const LEASE: &str = "asya-operator.asya.sh";

fn lease(cluster: &Cluster, namespace: &str) -> Option<Value> {
    let output = cluster.try_kubectl(
        &["get", "lease", LEASE, "--namespace", namespace, "--output=json"],
        "",
    );
    output
        .status
        .success()
        .then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn holder(cluster: &Cluster, namespace: &str) -> String {
    lease(cluster, namespace)
        .and_then(|lease| lease["spec"]["holderIdentity"].as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn leads(operator: &Operator) -> Option<f64> {
    series(
        &operator.metrics(),
        "leader_election_master_status",
        &["name=\"asya-operator.asya.sh\""],
    )
}

fn identity(operator: &Operator) -> String {
    operator.field("waiting for the lease", "identity")
}

#[test]
fn one_of_two_replicas_works_and_when_it_is_asked_to_end_the_other_does_at_once() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let first = Operator::start(cluster, &namespace, &["--leader-elect"]);
    first.works();
    assert_eq!(holder(cluster, &namespace), identity(&first));
    assert_eq!(leads(&first), Some(1.0));
    let second = Operator::start(cluster, &namespace, &["-leader-elect=true"]);
    second.says("the lease is held by");
    assert_eq!(
        (leads(&second), second.health("/livez").1.as_str()),
        (Some(0.0), "ok: waiting for the lease\n")
    );
    assert_eq!(second.health("/readyz").0, 200, "a replica that waits is ready");

    // Only the first does anything.
    cluster.kubectl_with(&["apply", "--namespace", &namespace, "--filename", "-"], ACTOR);
    first.wait("the workload", || {
        cluster
            .try_kubectl(&["get", "deployment", "hello", "--namespace", &namespace], "")
            .status
            .success()
            .then_some(())
    });
    let written = |operator: &Operator| {
        series(
            &operator.metrics(),
            "rest_client_requests_total",
            &["method=\"PATCH\""],
        )
    };
    assert!(written(&first).is_some_and(|count| count > 0.0) && written(&second).is_none());

    first.signal(Signal::TERM);
    assert_eq!(first.ended(), 0, "{}", first.log());
    assert!(first.log().contains("the lease is given back"), "{}", first.log());
    second.works();
    assert_eq!(holder(cluster, &namespace), identity(&second));
    let transitions = lease(cluster, &namespace).unwrap()["spec"]["leaseTransitions"].clone();
    assert_eq!(transitions, 1);
}

#[test]
fn a_replica_that_is_killed_is_replaced_when_its_lease_has_expired() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let first = Operator::start(cluster, &namespace, &["--leader-elect"]);
    first.works();
    let second = Operator::start(cluster, &namespace, &["--leader-elect"]);
    second.says("the lease is held by");
    first.signal(Signal::KILL);
    assert_eq!(first.ended(), -9);
    second.works();
    assert_eq!(holder(cluster, &namespace), identity(&second));
}

#[test]
fn who_loses_the_lease_ends_and_writes_nothing_more() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let operator = Operator::start(cluster, &namespace, &["--leader-elect"]);
    operator.works();
    // Somebody else takes it, as a replica would that has seen it expire.
    let patch = json!({"spec": {"holderIdentity": "somebody-else"}}).to_string();
    cluster.kubectl(&[
        "patch",
        "lease",
        LEASE,
        "--namespace",
        &namespace,
        "--type=merge",
        "--patch",
        &patch,
    ]);
    assert_eq!(operator.ended(), 3, "{}", operator.log());
    assert!(
        operator
            .log()
            .contains("the lease is lost: it is held by somebody-else"),
        "{}",
        operator.log()
    );
    assert_eq!(
        holder(cluster, &namespace),
        "somebody-else",
        "what another holds is not given back"
    );
}

#[test]
fn a_lease_that_an_operator_of_the_original_left_behind_is_taken_over() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let left = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": namespace},
        "spec": {
            "holderIdentity": "asya-operator-5d9c_1f0e", "leaseDurationSeconds": 1, "leaseTransitions": 4,
            "acquireTime": "2025-11-01T00:00:00.000000Z", "renewTime": "2025-11-01T00:00:00.000000Z",
        },
    });
    cluster.kubectl_with(&["create", "--filename", "-"], &left.to_string());
    let operator = Operator::start(cluster, &namespace, &["--leader-elect"]);
    operator.works();
    let spec = wait_for("the lease", || lease(cluster, &namespace))["spec"].clone();
    assert_eq!(spec["holderIdentity"], identity(&operator).as_str());
    assert_eq!(
        (&spec["leaseTransitions"], &spec["leaseDurationSeconds"]),
        (&json!(5), &json!(15))
    );
}
