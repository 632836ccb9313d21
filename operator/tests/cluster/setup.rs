//! What all topics share.

use asya_tests::kube::Cluster;

#[test]
fn the_api_server_answers() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = cluster.namespace();
    assert!(cluster.kubectl(&["get", "namespace", &namespace]).contains("Active"));
}
