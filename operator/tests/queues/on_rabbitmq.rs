//! On RabbitMQ.

use std::sync::Arc;

use asya_operator::queues::{Deleted, DeletionPolicy, Ensured, QueueError, Queues as _, arguments};
use asya_operator::registry::{Broker, RabbitMq, Transport};
use asya_operator::status::QueueDepth;
use asya_tests::rabbitmq::{self, certificates};
use serde_json::Value;

use super::{Vault, brokers, queue, rabbitmq as broker_at, secret, transport};

async fn node() -> &'static rabbitmq::Broker {
    tokio::task::spawn_blocking(rabbitmq::Broker::shared)
        .await
        .unwrap()
}

/// A virtual host of one's own on the shared node.
async fn place() -> (&'static rabbitmq::Broker, RabbitMq) {
    let node = node().await;
    let vhost = node.vhost();
    (node, broker_at(node.port, &vhost))
}

fn put(node: &rabbitmq::Broker, vhost: &str, queue: &str) {
    let body = format!(
        r#"{{"properties": {{}}, "routing_key": "{queue}", "payload": "precious", "payload_encoding": "string"}}"#
    );
    node.manage(
        "POST",
        &format!("/api/exchanges/{vhost}/amq.default/publish"),
        &body,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_told_exactly_the_arguments_that_the_queue_has() {
    let (node, broker) = place().await;
    let vhost = broker.vhost.clone();
    let brokers = brokers(&Arc::default(), "one");
    let quorum = transport(Broker::RabbitMq(broker.clone()));
    let mut broker = broker;
    broker.queues.quorum = false;
    broker.queues.dead_letter.enabled = false;
    let plain = transport(Broker::RabbitMq(broker));
    for (name, transport) in [("quorum", &quorum), ("plain", &plain)] {
        let queue = queue(name, "team");
        assert_eq!(brokers.ensure(transport, &queue).await.unwrap(), Ensured::Created);
        assert_eq!(brokers.ensure(transport, &queue).await.unwrap(), Ensured::Present);
        let shown = node.manage("GET", &format!("/api/queues/{vhost}/{}", queue.name), "");
        let shown: Value = serde_json::from_str(&shown).unwrap();
        let told = arguments(transport, &queue.name).unwrap_or_else(|| serde_json::json!({}));
        assert_eq!(shown["arguments"], told);
    }
    let found = brokers.ensure(&quorum, &queue("plain", "team")).await.unwrap();
    assert!(
        matches!(&found, Ensured::Drifted(text) if text.contains("inequivalent arg")),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_and_two_namespaces_share_a_queue_and_none_takes_it_from_the_others() {
    let (_, broker) = place().await;
    let transport = transport(Broker::RabbitMq(broker));
    let vault = Arc::default();
    let (one, two) = (brokers(&vault, "one"), brokers(&vault, "two"));
    let users = [
        (&one, queue("x", "a")),
        (&one, queue("x", "b")),
        (&two, queue("x", "a")),
    ];
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    for (order, policy) in orders.iter().zip(
        [DeletionPolicy::DeleteIfEmpty, DeletionPolicy::Delete]
            .into_iter()
            .cycle(),
    ) {
        for (brokers, queue) in &users {
            brokers.ensure(&transport, queue).await.unwrap();
        }
        for (position, user) in order.iter().enumerate() {
            let (brokers, queue) = &users[*user];
            let deleted = brokers.release(&transport, queue, policy).await.unwrap();
            if position < 2 {
                assert!(
                    matches!(&deleted, Deleted::Kept(text) if text.contains("another cluster")),
                    "{deleted:?}"
                );
                assert_eq!(
                    one.ensure(&transport, &users[order[2]].1).await.unwrap(),
                    Ensured::Present
                );
                if order[2] == 2 {
                    // That was `one` speaking for the namespace of the last user, so it gives it up again.
                    one.release(&transport, &users[2].1, DeletionPolicy::Retain)
                        .await
                        .unwrap();
                }
            } else {
                assert_eq!(deleted, Deleted::Gone);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_messages_goes_only_where_that_is_wanted() {
    let (node, broker) = place().await;
    let vhost = broker.vhost.clone();
    let transport = transport(Broker::RabbitMq(broker));
    let brokers = brokers(&Arc::default(), "one");
    let queue = queue("x", "team");
    brokers.ensure(&transport, &queue).await.unwrap();
    put(node, &vhost, &queue.name);
    let deleted = brokers
        .release(&transport, &queue, DeletionPolicy::DeleteIfEmpty)
        .await
        .unwrap();
    assert_eq!(deleted, Deleted::Kept("asya-x holds 1 message".into()));
    let deleted = brokers
        .release(&transport, &queue, DeletionPolicy::Retain)
        .await
        .unwrap();
    assert!(matches!(deleted, Deleted::Kept(_)));
    assert_eq!(brokers.depth(&transport, &queue).await.unwrap().queued, 1);
    assert_eq!(
        brokers
            .release(&transport, &queue, DeletionPolicy::Delete)
            .await
            .unwrap(),
        Deleted::Gone
    );
    let gone = brokers.depth(&transport, &queue).await;
    assert!(matches!(gone, Err(QueueError::Missing(name)) if name == queue.name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_in_flight_are_counted_where_there_is_a_management_api() {
    use asya_transport::Transport as _;

    let (node, mut broker) = place().await;
    let vhost = broker.vhost.clone();
    let brokers = brokers(&Arc::default(), "one");
    let queue = queue("x", "team");
    let plain = transport(Broker::RabbitMq(broker.clone()));
    brokers.ensure(&plain, &queue).await.unwrap();
    for _ in 0..3 {
        put(node, &vhost, &queue.name);
    }
    let sidecar = asya_transport::rabbitmq::RabbitMqOptions::new(node.address(&vhost));
    let sidecar = asya_transport::rabbitmq::RabbitMqTransport::connect(sidecar)
        .await
        .unwrap();
    let name = asya_transport::QueueName::for_actor("x");
    let mut consumer = sidecar.consume(&name).await.unwrap();
    let held = consumer.receive(1).await.unwrap();
    assert_eq!(
        brokers.depth(&plain, &queue).await.unwrap(),
        QueueDepth {
            queued: 2,
            processing: None
        }
    );

    broker.management_port = Some(node.management);
    let counted = transport(Broker::RabbitMq(broker.clone()));
    let expected = QueueDepth {
        queued: 2,
        processing: Some(1),
    };
    // The API's numbers are a second or two old.
    let started = std::time::Instant::now();
    while brokers.depth(&counted, &queue).await.unwrap() != expected {
        assert!(
            started.elapsed() < std::time::Duration::from_mins(1),
            "never {expected:?}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    drop(held);
    // An API that does not answer leaves the count of AMQP.
    broker.management_port = Some(1);
    let silent = transport(Broker::RabbitMq(broker));
    assert_eq!(brokers.depth(&silent, &queue).await.unwrap().processing, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_in_the_hands_of_somebody_who_consumes_no_more_keeps_its_queue() {
    use asya_transport::Transport as _;

    let (node, mut broker) = place().await;
    let vhost = broker.vhost.clone();
    let brokers = brokers(&Arc::default(), "one");
    for is_quorum in [false, true] {
        let queue = queue("x", "team");
        broker.queues.quorum = is_quorum;
        broker.queues.force_recreate = false;
        let made = transport(Broker::RabbitMq(broker.clone()));
        assert_eq!(brokers.ensure(&made, &queue).await.unwrap(), Ensured::Created);
        put(node, &vhost, &queue.name);
        let sidecar = asya_transport::rabbitmq::RabbitMqOptions::new(node.address(&vhost));
        let sidecar = asya_transport::rabbitmq::RabbitMqTransport::connect(sidecar)
            .await
            .unwrap();
        let mut consumer = sidecar
            .consume(&asya_transport::QueueName::for_actor("x"))
            .await
            .unwrap();
        let held = consumer.receive(1).await.unwrap();
        // As a sidecar that ends: what it has it finishes.
        drop(consumer);

        broker.queues.quorum = !is_quorum;
        broker.queues.force_recreate = true;
        let with_port = |management_port| {
            transport(Broker::RabbitMq(RabbitMq {
                management_port,
                ..broker.clone()
            }))
        };
        let (silent, counted) = (with_port(Some(1)), with_port(Some(node.management)));
        let kept = async |other: &Transport, reason: &str| {
            let found = brokers.ensure(other, &queue).await.unwrap();
            assert!(
                matches!(&found, Ensured::Drifted(text) if text.contains(reason)),
                "{found:?}"
            );
        };
        kept(&with_port(None), "needs managementPort").await;
        kept(&silent, "not reachable").await;
        let deleted = brokers
            .release(&silent, &queue, DeletionPolicy::DeleteIfEmpty)
            .await
            .unwrap();
        assert!(
            matches!(&deleted, Deleted::Later(text) if text.contains("not reachable")),
            "{deleted:?}"
        );

        until_counted(&brokers, &counted, &queue, 1).await;
        let deleted = brokers
            .release(&counted, &queue, DeletionPolicy::DeleteIfEmpty)
            .await
            .unwrap();
        assert!(
            matches!(&deleted, Deleted::Kept(text) if text.contains("1 unacknowledged message")),
            "{deleted:?}"
        );
        kept(&counted, "1 unacknowledged message").await;
        for delivery in held {
            let settled = delivery.receipt.settle(asya_transport::Settlement::Ack);
            settled.await.unwrap();
        }
        until_counted(&brokers, &counted, &queue, 0).await;
        assert_eq!(brokers.ensure(&counted, &queue).await.unwrap(), Ensured::Created);
        brokers
            .release(&counted, &queue, DeletionPolicy::Delete)
            .await
            .unwrap();
    }
}

/// The API's numbers are some seconds old.
async fn until_counted(
    brokers: &asya_operator::queues::Brokers,
    transport: &Transport,
    queue: &asya_operator::queues::QueueSpec,
    processing: u64,
) {
    let started = std::time::Instant::now();
    while brokers.depth(transport, queue).await.unwrap().processing != Some(processing) {
        assert!(
            started.elapsed() < std::time::Duration::from_mins(1),
            "never {processing}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_credentials_is_said_without_them() {
    let (_, mut broker) = place().await;
    broker.password = Some(secret("rabbit", "password"));
    let transport = transport(Broker::RabbitMq(broker));
    let vault = Arc::new(Vault::default());
    let brokers = brokers(&vault, "one");
    let queue = queue("x", "team");
    let refused = async |parts: &[&str]| {
        let error = brokers.ensure(&transport, &queue).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, QueueError::Credentials(_)), "{error:?}");
        for part in parts {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
        assert!(!text.contains("hush") && !text.contains('\n'), "{text}");
    };
    refused(&[
        r#"Secret "rabbit""#,
        r#"namespace "team""#,
        r#""password""#,
        "create",
    ])
    .await;
    vault.put("another", "rabbit", &[("password", "guest")]);
    vault.put("team", "rabbit", &[("pass", "hush")]);
    refused(&[r#"no key "password""#, r#""pass""#, "add the key"]).await;
    // What was wrong is read again within half a minute, what is refused at once.
    let fresh = super::brokers(&vault, "one");
    vault.put("team", "rabbit", &[("password", "hush-hush")]);
    let error = fresh.ensure(&transport, &queue).await.unwrap_err().to_string();
    assert!(
        error.contains("refused the login") && error.contains(r#"key "password" of Secret "rabbit""#),
        "{error}"
    );
    assert!(
        error.contains(r#"namespace "team""#) && !error.contains("hush"),
        "{error}"
    );
    vault.put("team", "rabbit", &[("password", "guest")]);
    assert_eq!(fresh.ensure(&transport, &queue).await.unwrap(), Ensured::Created);
    let reads = *vault.reads.lock().unwrap();
    for _ in 0..5 {
        fresh.ensure(&transport, &queue).await.unwrap();
    }
    assert_eq!(
        *vault.reads.lock().unwrap(),
        reads,
        "a Secret is not read each time"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let nobody = transport(Broker::RabbitMq(broker_at(port, "/")));
    let brokers = brokers(&Arc::default(), "one");
    let error = brokers.ensure(&nobody, &queue("x", "team")).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, QueueError::Broker(_)), "{error:?}");
    assert!(
        text.contains(&format!("127.0.0.1:{port}")) && text.contains("check host, port"),
        "{text}"
    );
    let mut nowhere = broker_at(port, "/");
    nowhere.host.clear();
    let error = brokers
        .ensure(&transport(Broker::RabbitMq(nowhere)), &queue("x", "team"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("`host`"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_with_an_authority_of_ones_own() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = certificates(directory.path());
    files.is_client_required = false;
    let (node, files) = tokio::task::spawn_blocking(move || (rabbitmq::Broker::start(Some(&files)), files))
        .await
        .unwrap();
    let mut broker = broker_at(node.tls_port, "/");
    broker.tls = true;
    let transport = transport(Broker::RabbitMq(broker));
    let queue = queue("x", "team");
    let trusting = brokers(&Arc::default(), "one")
        .trusting(files.ca.clone())
        .unwrap();
    assert_eq!(
        trusting.ensure(&transport, &queue).await.unwrap(),
        Ensured::Created
    );
    let wary = brokers(&Arc::default(), "one");
    let error = wary.ensure(&transport, &queue).await.unwrap_err().to_string();
    assert!(error.contains("no TLS") && error.contains("CA"), "{error}");
    for bad in [directory.path().join("missing.pem"), files.server_key] {
        let Err(error) = brokers(&Arc::default(), "one").trusting(bad.clone()) else {
            panic!("{}", bad.display())
        };
        assert!(
            error.contains("CA file") && error.contains(&*bad.to_string_lossy()),
            "{error}"
        );
    }
    tokio::task::spawn_blocking(move || drop(node)).await.unwrap();
}
