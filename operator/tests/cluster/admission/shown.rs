//! What `kubectl` shows.

use serde_json::json;

use super::{apply, good, patch_status};
use crate::setup;

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
