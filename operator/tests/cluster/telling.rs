//! From the API server through the operator to the gateway.

use std::sync::Arc;

use asya_operator::report::{Observer, Reporter};
use asya_proto::status::v1::ActorState;
use asya_tests::wait_for;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::setup::{self, Operator, Person, settings};

#[expect(dead_code, reason = "the reporter's own tests use the rest")]
#[path = "../report/stage.rs"]
mod stage;

/// A recorded pod of this actor, made as kubelet would have it by now.
fn play_pod(person: &Person, actor: &str, recorded: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pods");
    let text = std::fs::read_to_string(format!("{folder}/{recorded}.json")).unwrap();
    let recorded: Value = serde_json::from_str(&text).unwrap();
    let name = format!("{actor}-1");
    let path = person.path("v1", "pods", &name);
    // As the recorded one it asks for something, which the API server keeps as its class.
    let resources = json!({"requests": {"cpu": "100m"}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"asya.sh/asya": actor}},
        "spec": {"containers": [{"name": "asya-runtime", "image": "example/worker:1", "resources": resources}]},
    });
    person.create(&person.path("v1", "pods", ""), &pod);
    person.merge(&format!("{path}/status"), &json!({"status": recorded["status"]}));
    path
}

#[test]
fn the_gateway_sees_what_kubectl_sees() {
    let Some(cluster) = setup::prepared() else { return };
    let person = Person::new(cluster);
    let (registry, _) = setup::rabbitmq(&json!({}));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let hub = runtime.block_on(stage::Hub::start());
    let reporter = {
        let _inside = runtime.enter();
        Reporter::start(hub.options(), CancellationToken::new())
    };
    let kubeconfig = cluster.kubeconfig_for("admin-token", cluster.port);
    let observer = reporter as Arc<dyn Observer>;
    let _operator = Operator::start_with(kubeconfig, settings(&person.namespace, registry), observer);
    let seen = |what: &str, expected: Option<ActorState>| {
        wait_for(what, || {
            let actors = runtime.block_on(hub.actors());
            let state = actors.first().map(asya_proto::status::v1::Actor::state);
            (state == expected).then(|| actors.into_iter().next())
        })
    };

    person.create_actor("worker", "rabbitmq", &json!({}));
    let actor = seen("a new actor", Some(ActorState::Creating)).unwrap();
    assert_eq!(actor.key.unwrap().namespace, person.namespace);
    assert_eq!(
        (actor.transport.as_str(), actor.workload_kind.as_str()),
        ("rabbitmq", "Deployment")
    );

    let pod = play_pod(&person, "worker", "runtime_crash_loop");
    let actor = seen("a crashing pod", Some(ActorState::RuntimeError)).unwrap();
    assert_eq!(actor.replicas.unwrap().failing, 1);
    let shown = person.wait("the same for kubectl", &person.actor_path("worker"), |actor| {
        (actor["status"]["status"] == "RuntimeError").then(|| actor.clone())
    });
    let ready = setup::condition(&shown, "Ready").unwrap();
    assert_eq!(ready["message"], actor.message);

    person.delete(&pod);
    person.delete(&person.actor_path("worker"));
    assert!(seen("the end of it", None).is_none());
}
