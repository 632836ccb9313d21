//! What happens to a whole RabbitMQ node: death and restart, a memory alarm, TLS. Each test has a node of its own.
#![cfg(feature = "rabbitmq")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails, also in what tests share"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use asya_transport::rabbitmq::{Address, BrokerState, ClientCertificate, ConnectError, RabbitMqOptions};
use asya_transport::rabbitmq::{RabbitMqTransport, TlsFiles};
use asya_transport::{Administration, Outgoing, PublishError, QueueName, Settlement, Transport};
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use self::traffic::{PATIENCE, Traffic, connected, message, until};
use asya_tests::rabbitmq::{Broker, Certificates, certificates, impatient};

#[path = "support/traffic.rs"]
mod traffic;

/// One node at a time: they are large.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

async fn start(certificates: Option<Certificates>) -> Arc<Broker> {
    blocking(move || Arc::new(Broker::start(certificates.as_ref()))).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_stops_or_is_killed_and_comes_back() {
    let _turn = alone().await;
    let broker = start(None).await;
    for quorum in [false, true] {
        let mut options = broker.options();
        options.queues.quorum = quorum;
        let transport = RabbitMqTransport::connect(options).await.unwrap();
        let traffic = Traffic::start(&transport, 4_000).await;
        // The orderly stop comes first: a broker that is killed seconds after it has made a quorum queue has forgotten
        // half of it when it comes back (seen with 3.10.8), and that queue never works again.
        for (stop, start) in [
            (stop_node as Change, start_node as Change),
            (kill_node, run_node),
            (kill_node, run_node),
        ] {
            traffic.progress(300).await;
            assert!(!traffic.is_done(), "the traffic ended too early to tell");
            let node = Arc::clone(&broker);
            blocking(move || stop(&node)).await;
            until("the loss is noticed", || async {
                matches!(transport.state(), BrokerState::Reconnecting { .. })
            })
            .await;
            let node = Arc::clone(&broker);
            blocking(move || start(&node)).await;
        }
        traffic.finish().await;
        connected(&transport).await;
    }
}

type Change = fn(&Broker);

fn stop_node(broker: &Broker) {
    broker.control(&["stop_app"]);
}

fn start_node(broker: &Broker) {
    broker.control(&["start_app"]);
}

fn kill_node(broker: &Broker) {
    broker.kill();
}

fn run_node(broker: &Broker) {
    broker.run();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_holds_publishes_up_and_lets_the_rest_go_on() {
    let _turn = alone().await;
    let broker = start(None).await;
    let transport = RabbitMqTransport::connect(broker.options()).await.unwrap();
    let queue = QueueName::for_actor("alarm");
    transport.declare(&queue).await.unwrap();
    transport.publish(message(&queue, "before")).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    let delivery = timeout(PATIENCE, consumer.receive(1))
        .await
        .unwrap()
        .unwrap()
        .remove(0);

    let node = Arc::clone(&broker);
    blocking(move || node.control(&["set_vm_memory_high_watermark", "0.0000001"])).await;
    // The broker tells a publisher that it is blocked when it publishes.
    let mut held = transport.publish(message(&queue, "held"));
    until("the alarm is known", || async {
        matches!(transport.state(), BrokerState::Blocked { .. })
    })
    .await;
    // Longer than two heartbeats: being held up is not being dead.
    assert!(
        timeout(Duration::from_secs(5), &mut held).await.is_err(),
        "published against an alarm"
    );
    assert!(matches!(transport.state(), BrokerState::Blocked { .. }));
    delivery.receipt.settle(Settlement::Ack).await.unwrap();
    assert_eq!(transport.depth(&queue).await.unwrap().unsettled, 0);

    let node = Arc::clone(&broker);
    blocking(move || node.control(&["set_vm_memory_high_watermark", "absolute", "1GB"])).await;
    timeout(PATIENCE, held).await.unwrap().unwrap();
    connected(&transport).await;
    let delivery = timeout(PATIENCE, consumer.receive(1))
        .await
        .unwrap()
        .unwrap()
        .remove(0);
    assert_eq!(&delivery.body[..], b"held");
    delivery.receipt.settle(Settlement::Ack).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_brokers_limit_is_refused_for_good_and_disturbs_nobody() {
    let _turn = alone().await;
    let broker = start(None).await;
    let node = Arc::clone(&broker);
    blocking(move || node.control(&["eval", "application:set_env(rabbit, max_message_size, 100000)."])).await;
    let transport = RabbitMqTransport::connect(broker.options()).await.unwrap();
    let queue = QueueName::for_actor("large");
    transport.declare(&queue).await.unwrap();
    let large = Outgoing {
        body: Bytes::from(vec![b'x'; 100_001]),
        ..message(&queue, "large")
    };
    let refused = transport.publish(large.clone()).await;
    assert!(
        matches!(
            refused,
            Err(PublishError::TooLarge {
                size: 100_001,
                limit: 100_000
            })
        ),
        "{refused:?}"
    );
    assert_eq!(transport.max_message_size(), Some(100_000));
    until("others get through", || async {
        transport.publish(message(&queue, "small")).await.is_ok()
    })
    .await;
    // Known now, so it does not even go out.
    let refused = transport.publish(large).now_or_never();
    assert!(
        refused.is_none_or(|refused| matches!(refused, Err(PublishError::TooLarge { .. }))),
        "the limit is forgotten"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_a_private_authority_and_a_client_certificate() {
    let _turn = alone().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    let made = blocking(move || certificates(&path)).await;
    let files = TlsFiles {
        ca: Some(made.ca.clone()),
        client: Some(ClientCertificate {
            certificate: made.client.clone(),
            key: made.client_key.clone(),
        }),
    };
    let broker = start(Some(made)).await;
    let mut options = impatient(RabbitMqOptions::new(Address {
        tls: true,
        port: broker.tls_port,
        ..broker.address(&broker.vhost())
    }));
    options.tls = files.clone();
    let transport = RabbitMqTransport::connect(options.clone()).await.unwrap();
    let queue = QueueName::for_actor("secret");
    transport.declare(&queue).await.unwrap();
    transport.publish(message(&queue, "hello")).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    let delivery = timeout(PATIENCE, consumer.receive(1))
        .await
        .unwrap()
        .unwrap()
        .remove(0);
    delivery.receipt.settle(Settlement::Ack).await.unwrap();

    let mut stranger = options.clone();
    stranger.tls.ca = None;
    let error = RabbitMqTransport::connect(stranger)
        .await
        .expect_err("an unknown authority is trusted");
    assert!(matches!(error, ConnectError::Tls { .. }), "{error}");

    let mut unreadable = options.clone();
    unreadable.tls.ca = Some(Path::new("/nowhere/ca.pem").into());
    let error = RabbitMqTransport::connect(unreadable).await.unwrap_err();
    assert!(error.to_string().contains("CA file /nowhere/ca.pem"), "{error}");

    // The broker insists on a client certificate; with TLS 1.3 it says so after the handshake.
    let mut anonymous = options;
    anonymous.tls = TlsFiles {
        client: None,
        ..files
    };
    anonymous.connect_patience = Some(Duration::from_secs(1));
    let error = RabbitMqTransport::connect(anonymous)
        .await
        .expect_err("no certificate was shown");
    assert!(
        matches!(error, ConnectError::Tls { .. } | ConnectError::Unreachable { .. }),
        "{error}"
    );
}
