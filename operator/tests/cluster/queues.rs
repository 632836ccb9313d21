//! Credentials of brokers as the API server gives them: single Secrets, with leave to do no more than that.

use asya_operator::queues::{KubeSecrets, Secrets as _};
use asya_tests::kube::Cluster;

use crate::setup;

#[test]
fn a_secret_is_read_by_its_name_with_leave_to_get_and_nothing_else() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = cluster.namespace();
    let kubectl = |arguments: &str| {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        cluster.kubectl(&[&["--namespace", &namespace], arguments.as_slice()].concat())
    };
    kubectl("create serviceaccount operator");
    kubectl("create secret generic rabbit --from-literal=password=p@ss/word");
    kubectl("create role reader --verb=get --resource=secrets");
    kubectl(&format!(
        "create rolebinding reader --role=reader --serviceaccount={namespace}:operator"
    ));
    let kubeconfig = cluster.kubeconfig_for(&cluster.token(&namespace, "operator"), cluster.port);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let secrets = KubeSecrets {
            client: setup::client(&kubeconfig).await,
        };
        let data = secrets.read(&namespace, "rabbit").await.unwrap().unwrap();
        assert_eq!(data["password"], b"p@ss/word");
        assert_eq!(secrets.read(&namespace, "missing").await, Ok(None));
        let refused = secrets.read("kube-system", "rabbit").await.unwrap_err();
        assert!(
            refused.contains("forbidden") && refused.contains("secrets"),
            "{refused}"
        );
    });
}
