//! What happens to a whole RabbitMQ node: death and restart, a memory alarm, TLS, and networks that swallow. One test at a time.
#![cfg(feature = "rabbitmq")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails, also in what tests share"
)]

use std::path::Path;
use std::time::Duration;

use asya_transport::rabbitmq::{Address, BrokerState, ClientCertificate, ConnectError, RabbitMqOptions};
use asya_transport::rabbitmq::{RabbitMqTransport, TlsFiles};
use asya_transport::{
    Administration, ConsumeError, Consumer, DeleteMode, Delivery, Outgoing, PublishError, QueueName,
    SettleError, Settlement, Transport,
};
use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use self::traffic::{PATIENCE, Traffic, acknowledge, connected, message, until};
use asya_tests::Proxy;
use asya_tests::rabbitmq::{Broker, Certificates, certificates, impatient};

#[path = "support/traffic.rs"]
mod traffic;

/// One node at a time: they are large.
async fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

async fn start(certificates: Certificates) -> Broker {
    blocking(move || Broker::start(Some(&certificates))).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// The node of this test binary, for tests that leave it as they found it.
async fn shared() -> &'static Broker {
    blocking(Broker::shared).await
}

async fn control(arguments: &'static [&'static str]) {
    blocking(move || Broker::shared().control(arguments)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_stops_or_is_killed_and_comes_back() {
    let _turn = alone().await;
    let broker = shared().await;
    let open = async |quorum| {
        let mut options = broker.options();
        options.queues.quorum = quorum;
        RabbitMqTransport::connect(options).await.unwrap()
    };
    // Both kinds of queue go through the same restarts, which are what takes time here.
    let transports = [open(false).await, open(true).await];
    let mut traffics = Vec::new();
    for transport in &transports {
        traffics.push(Traffic::start(transport).await);
    }
    // The orderly stop comes first: a broker that is killed seconds after it has made a quorum queue has forgotten
    // half of it when it comes back (seen with 3.10.8), and that queue never works again.
    for (stop, start) in [
        (stop_node as Change, start_node as Change),
        (kill_node, run_node),
        (kill_node, run_node),
    ] {
        for traffic in &traffics {
            traffic.progress(200).await;
        }
        blocking(move || stop(Broker::shared())).await;
        for transport in &transports {
            until("the loss is noticed", || async {
                matches!(transport.state(), BrokerState::Reconnecting { .. })
            })
            .await;
        }
        blocking(move || start(Broker::shared())).await;
    }
    for (traffic, transport) in traffics.into_iter().zip(&transports) {
        traffic.progress(200).await;
        traffic.finish().await;
        connected(transport).await;
        assert!(transport.counters().reconnects >= 6, "{:?}", transport.counters());
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
    let transport = RabbitMqTransport::connect(RabbitMqOptions {
        heartbeat: Duration::from_secs(2),
        ..shared().await.options()
    })
    .await
    .unwrap();
    let queue = QueueName::for_actor("alarm");
    transport.declare(&queue).await.unwrap();
    transport.publish(message(&queue, "before")).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    let delivery = receive(&mut *consumer, 1).await;

    control(&["set_vm_memory_high_watermark", "0.0000001"]).await;
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
    // The broker has taken the acknowledgement: only then it deletes a queue that is to be empty.
    drop(consumer);
    until("the acknowledgement has arrived", || async {
        transport.delete(&queue, DeleteMode::IfEmpty).await.is_ok()
    })
    .await;
    transport.declare(&queue).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();

    control(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
    timeout(PATIENCE, held).await.unwrap().unwrap();
    connected(&transport).await;
    let delivery = receive(&mut *consumer, 1).await;
    assert_eq!(&delivery.body[..], b"held");
    delivery.receipt.settle(Settlement::Ack).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_above_the_brokers_limit_is_refused_for_good_and_disturbs_nobody() {
    let _turn = alone().await;
    control(&["eval", "application:set_env(rabbit, max_message_size, 100000)."]).await;
    let transport = RabbitMqTransport::connect(shared().await.options())
        .await
        .unwrap();
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
    control(&[
        "eval",
        "application:set_env(rabbit, max_message_size, 134217728).",
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_held_for_too_long_comes_again_and_the_consumer_goes_on() {
    let _turn = alone().await;
    // Channels read both when they are opened.
    control(&["eval", "application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 200)."]).await;
    for quorum in [false, true] {
        let mut options = shared().await.options();
        options.queues.quorum = quorum;
        let transport = RabbitMqTransport::connect(options).await.unwrap();
        let queue = QueueName::for_actor("long");
        transport.declare(&queue).await.unwrap();
        let mut consumer = transport.consume(&queue).await.unwrap();
        transport.publish(message(&queue, "long")).await.unwrap();
        transport.publish(message(&queue, "next")).await.unwrap();
        let held = receive(&mut *consumer, 1).await;
        assert_eq!(held.message_id.as_deref(), Some("long"));
        // The broker closes the channel, which a caller that waits for more hears.
        let mut others = 0;
        let reported = loop {
            match timeout(PATIENCE, consumer.receive(1)).await.unwrap() {
                Ok(deliveries) => {
                    others += deliveries.len();
                    for delivery in deliveries {
                        acknowledge(&delivery).await;
                    }
                }
                Err(error) => break error,
            }
        };
        assert!(
            matches!(&reported, ConsumeError::Unavailable(cause) if cause.to_string().contains("timeout")),
            "{reported:?}"
        );
        assert_eq!(others, 1, "what was acknowledged came again");
        let again = receive(&mut *consumer, 1).await;
        assert_eq!((again.message_id.as_deref(), again.deliveries), (Some("long"), 2));
        let late = held.receipt.settle(Settlement::Ack).await;
        assert!(matches!(late, Err(SettleError::Stale)), "{late:?}");
        again.receipt.settle(Settlement::Ack).await.unwrap();
        assert_eq!(
            transport.counters().reconnects,
            0,
            "a lost channel is no lost connection"
        );
        drop(consumer);
        transport.delete(&queue, DeleteMode::IfEmpty).await.unwrap();
    }
    control(&["eval", "application:set_env(rabbit, consumer_timeout, 1800000), application:set_env(rabbit, channel_tick_interval, 60000)."]).await;
}

async fn receive(consumer: &mut dyn Consumer, credit: usize) -> Delivery {
    timeout(PATIENCE, consumer.receive(credit))
        .await
        .unwrap()
        .unwrap()
        .remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_network_goes_silent() {
    let _turn = alone().await;
    let mut options = shared().await.options();
    let proxy = Proxy::before(options.address.port).await;
    options.address.port = proxy.port;
    // Both bound how long silence goes unnoticed.
    options.heartbeat = Duration::from_secs(1);
    options.connect_timeout = Duration::from_secs(1);
    let transport = RabbitMqTransport::connect(options).await.unwrap();
    let traffic = Traffic::start(&transport).await;
    traffic.progress(200).await;
    let (threads, attempts) = (client_threads(), proxy.accepted());
    proxy.swallow();
    until("the silence is noticed", || async {
        matches!(transport.state(), BrokerState::Reconnecting { .. })
    })
    .await;
    let publishing = transport.publish(message(&QueueName::for_actor("source"), "extra"));
    assert!(matches!(publishing.await, Err(PublishError::Unavailable(_))));
    // Attempts that are accepted and never answered.
    until("both connections were tried often", || async {
        proxy.accepted() >= attempts + 6
    })
    .await;
    until("no attempt is left behind", || async {
        client_threads() <= threads
    })
    .await;
    proxy.heal();
    connected(&transport).await;
    traffic.progress(200).await;
    traffic.finish().await;
}

/// Threads of the client library in this process; each connection has one.
fn client_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lapin-io-loop")).count()
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
    let broker = start(made).await;
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
    let delivery = receive(&mut *consumer, 1).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_transport_rests() {
    const WATCHED: Duration = Duration::from_secs(3);
    let _turn = alone().await;
    let transport = RabbitMqTransport::connect(shared().await.options())
        .await
        .unwrap();
    let queue = QueueName::for_actor("idle");
    transport.declare(&queue).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    // Not fresh: it has worked, with more credit than it waits with now.
    for credit in [1, 100] {
        transport.publish(message(&queue, "work")).await.unwrap();
        acknowledge(&receive(&mut *consumer, credit).await).await;
    }
    let waiting = tokio::spawn(async move { consumer.receive(1).await.map(|deliveries| deliveries.len()) });
    let mut before = wakes();
    let rested = async {
        loop {
            tokio::time::sleep(WATCHED).await;
            let now = wakes();
            if now - before < 150 {
                return;
            }
            before = now;
        }
    };
    timeout(PATIENCE, rested).await.unwrap();
    transport.publish(message(&queue, "more")).await.unwrap();
    assert_eq!(timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap(), 1);
}

/// How often threads of this process have waited for something.
fn wakes() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let texts = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let count = |text: String| {
        let (_, rest) = text.split_once("\nvoluntary_ctxt_switches:")?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    texts.filter_map(count).sum()
}
