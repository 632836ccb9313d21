//! What goes wrong between RabbitMQ and us: connections, queues and permissions. Every message is counted.
#![cfg(feature = "rabbitmq")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a panic is how a test fails, also in what tests share"
)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use asya_transport::rabbitmq::{Address, BrokerState, ConnectError, RabbitMqOptions, RabbitMqTransport};
use asya_transport::{
    Administration, ConsumeError, Consumer, Delivery, Outgoing, PublishError, QueueName, SettleError,
    Settlement, Transport,
};
use futures::future::join_all;
use tokio::time::timeout;

use self::traffic::{PATIENCE, Traffic, connected, message, until};
use asya_tests::Proxy;
use asya_tests::rabbitmq::{Broker, impatient};

#[path = "support/traffic.rs"]
mod traffic;

async fn broker() -> &'static Broker {
    tokio::task::spawn_blocking(Broker::shared).await.unwrap()
}

async fn open(options: RabbitMqOptions) -> RabbitMqTransport {
    RabbitMqTransport::connect(options).await.unwrap()
}

async fn receive(consumer: &mut dyn Consumer, credit: usize) -> Vec<Delivery> {
    timeout(PATIENCE, consumer.receive(credit))
        .await
        .unwrap()
        .unwrap()
}

async fn refused(options: RabbitMqOptions) -> ConnectError {
    let started = Instant::now();
    let error = RabbitMqTransport::connect(options).await.unwrap_err();
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "a permanent error is not retried"
    );
    assert!(!error.to_string().contains('\n'), "{error}");
    error
}

/// A queue that somebody else has made, with the arguments given as JSON.
fn foreign_queue(broker: &Broker, vhost: &str, queue: &QueueName, arguments: &str) {
    let body = format!(r#"{{"durable": true, "arguments": {arguments}}}"#);
    broker.manage("PUT", &format!("/api/queues/{vhost}/{queue}"), &body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_closes_all_connections() {
    let (broker, options) = (broker().await, broker().await.options());
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let traffic = Traffic::start(&transport, 20_000).await;
    let mut rounds = 0;
    while rounds < 5 && !traffic.is_done() {
        traffic.progress(300).await;
        let vhost = vhost.clone();
        let closing = move || broker.control(&["close_all_connections", "--vhost", &vhost, "test"]);
        tokio::task::spawn_blocking(closing).await.unwrap();
        rounds += 1;
    }
    assert!(rounds >= 3, "the traffic ended too early to tell");
    traffic.finish().await;
    assert_eq!(transport.state(), BrokerState::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_network_cuts_connections() {
    let mut options = broker().await.options();
    let proxy = Proxy::before(options.address.port).await;
    options.address.port = proxy.port;
    let transport = open(options).await;
    let traffic = Traffic::start(&transport, 15_000).await;
    let mut rounds = 0;
    while rounds < 20 && !traffic.is_done() {
        traffic.progress(200).await;
        proxy.cut();
        rounds += 1;
    }
    assert!(rounds >= 10, "the traffic ended too early to tell");
    traffic.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_network_goes_silent() {
    let mut options = broker().await.options();
    let proxy = Proxy::before(options.address.port).await;
    options.address.port = proxy.port;
    options.connect_timeout = Duration::from_secs(1);
    let transport = open(options).await;
    let traffic = Traffic::start(&transport, 10_000).await;
    traffic.progress(500).await;
    let threads = client_threads();
    proxy.swallow();
    until("the silence is noticed", || async {
        matches!(transport.state(), BrokerState::Reconnecting { .. })
    })
    .await;
    // Attempts that are accepted and never answered.
    let publishing = transport.publish(message(&QueueName::for_actor("source"), "extra"));
    assert!(matches!(publishing.await, Err(PublishError::Unavailable(_))));
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(
        client_threads() <= threads + 2,
        "{} threads, {threads} before: attempts are left behind",
        client_threads()
    );
    proxy.heal();
    connected(&transport).await;
    traffic.finish().await;
}

/// Threads of the client library; each connection has one.
fn client_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("lapin-io-loop")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_makes_receipts_stale_and_the_message_comes_again() {
    let mut options = broker().await.options();
    let proxy = Proxy::before(options.address.port).await;
    options.address.port = proxy.port;
    let transport = open(options).await;
    let queue = QueueName::for_actor("stale");
    transport.declare(&queue).await.unwrap();
    transport.publish(message(&queue, "one")).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    let first = receive(&mut *consumer, 1).await.remove(0);
    proxy.cut();
    let reported = timeout(PATIENCE, consumer.receive(1)).await.unwrap();
    assert!(
        matches!(reported, Err(ConsumeError::Unavailable(_))),
        "{reported:?}"
    );
    let second = receive(&mut *consumer, 1).await.remove(0);
    assert_eq!((&second.body[..], second.deliveries), (&b"one"[..], 2));
    let settled = first.receipt.settle(Settlement::Ack).await;
    assert!(matches!(settled, Err(SettleError::Stale)), "{settled:?}");
    second.receipt.settle(Settlement::Ack).await.unwrap();
    assert_eq!(transport.depth(&queue).await.unwrap().total(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_survives_that_its_queue_is_deleted_and_made_again() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("again");
    transport.declare(&queue).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    for round in 0..3 {
        let text = format!("round {round}");
        transport.publish(message(&queue, &text)).await.unwrap();
        let delivery = receive(&mut *consumer, 5).await.remove(0);
        assert_eq!(delivery.body, text);
        delivery.receipt.settle(Settlement::Ack).await.unwrap();
        let (missed, deleted) = futures::join!(
            timeout(PATIENCE, consumer.receive(5)),
            transport.delete(&queue, asya_transport::DeleteMode::Always)
        );
        deleted.unwrap();
        let missed = missed.unwrap();
        assert!(matches!(missed, Err(ConsumeError::NoSuchQueue(_))), "{missed:?}");
        transport.declare(&queue).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_makes_its_own_queue_when_told_to() {
    let broker = broker().await;
    let mut options = broker.options();
    options.queues.auto_create = true;
    options.queues.arguments = serde_json::from_str(r#"{"x-max-priority": 3}"#).unwrap();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let queue = QueueName::for_actor("own");
    let mut consumer = transport.consume(&queue).await.unwrap();
    let sending = async {
        until("the queue exists", || async {
            transport.depth(&queue).await.is_ok()
        })
        .await;
        transport.publish(message(&queue, "hello")).await.unwrap();
    };
    let (deliveries, ()) = futures::join!(receive(&mut *consumer, 1), sending);
    assert_eq!(&deliveries[0].body[..], b"hello");
    let shown = broker.manage("GET", &format!("/api/queues/{vhost}/asya-own"), "");
    assert!(
        shown.contains(r#""x-max-priority":3"#) && shown.contains(r#""durable":true"#),
        "{shown}"
    );
    let bindings = broker.manage("GET", &format!("/api/queues/{vhost}/asya-own/bindings"), "");
    assert!(bindings.contains(r#""routing_key":"own""#), "{bindings}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_any_kind_is_consumed_and_reached_without_a_binding() {
    let broker = broker().await;
    let options = broker.options();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let kinds = [
        r#"{"x-queue-type": "quorum"}"#,
        r#"{"x-max-length": 7}"#,
        r#"{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "asya-x-dlq"}"#,
    ];
    for (number, arguments) in kinds.into_iter().enumerate() {
        let queue = QueueName::for_actor(&format!("kind-{number}"));
        foreign_queue(broker, &vhost, &queue, arguments);
        // Nothing is bound yet, so this goes through the default exchange.
        transport.publish(message(&queue, "before")).await.unwrap();
        let mut consumer = transport.consume(&queue).await.unwrap();
        let delivery = receive(&mut *consumer, 1).await.remove(0);
        assert_eq!((&delivery.body[..], delivery.deliveries), (&b"before"[..], 1));
        delivery.receipt.settle(Settlement::Ack).await.unwrap();
        transport.declare(&queue).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unroutable_is_never_taken_for_another_message() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("there");
    transport.declare(&queue).await.unwrap();
    let publishes = (0..3_000_usize).map(|number| {
        let missing = number % 7 == 3;
        let target = if missing {
            QueueName::for_actor(&format!("missing-{}", number % 5))
        } else {
            queue.clone()
        };
        let publishing = transport.publish(message(&target, &number.to_string()));
        async move { (number, missing, publishing.await) }
    });
    let mut stored = HashSet::new();
    for (number, missing, result) in join_all(publishes).await {
        match result {
            Ok(()) => assert!(
                !missing && stored.insert(number.to_string()),
                "{number} is not stored"
            ),
            Err(PublishError::Unroutable(_)) => assert!(missing, "{number} is stored"),
            Err(error) => panic!("{error}"),
        }
    }
    let mut consumer = transport.consume(&queue).await.unwrap();
    let mut arrived = HashSet::new();
    while arrived.len() < stored.len() {
        for delivery in receive(&mut *consumer, 500).await {
            assert!(arrived.insert(delivery.message_id.clone().unwrap()));
            delivery.receipt.settle(Settlement::Ack).await.unwrap();
        }
    }
    assert_eq!(arrived, stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_until_there_is_room() {
    let broker = broker().await;
    let options = broker.options();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let queue = QueueName::for_actor("full");
    foreign_queue(
        broker,
        &vhost,
        &queue,
        r#"{"x-max-length": 2, "x-overflow": "reject-publish"}"#,
    );
    let results =
        join_all((0..5).map(|number| transport.publish(message(&queue, &number.to_string())))).await;
    let refused = results
        .iter()
        .filter(|result| matches!(result, Err(PublishError::Unavailable(_))))
        .count();
    let stored = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!((stored, refused), (2, 3), "{results:?}");
    let mut consumer = transport.consume(&queue).await.unwrap();
    for _ in 0..2 {
        receive(&mut *consumer, 1).await[0]
            .receipt
            .settle(Settlement::Ack)
            .await
            .unwrap();
    }
    until("there is room again", || async {
        transport.publish(message(&queue, "more")).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_exchange_is_made_again() {
    let broker = broker().await;
    let options = broker.options();
    let vhost = options.address.vhost.clone();
    let transport = open(options).await;
    let queue = QueueName::for_actor("exchange");
    transport.declare(&queue).await.unwrap();
    transport.publish(message(&queue, "before")).await.unwrap();
    broker.manage("DELETE", &format!("/api/exchanges/{vhost}/asya"), "");
    until("publishing works again", || async {
        transport.publish(message(&queue, "after")).await.is_ok()
    })
    .await;
    assert!(transport.depth(&queue).await.unwrap().ready >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_messages_for_two_slow_consumers_are_shared_evenly() {
    let options = broker().await.options();
    let (left, right) = (open(options.clone()).await, open(options).await);
    let queue = QueueName::for_actor("slow");
    left.declare(&queue).await.unwrap();
    let mut consumers = [
        left.consume(&queue).await.unwrap(),
        right.consume(&queue).await.unwrap(),
    ];
    join_all((0..10).map(|number| left.publish(message(&queue, &number.to_string())))).await;
    let worked = join_all(consumers.iter_mut().map(|consumer| async {
        let mut count = 0;
        while let Ok(deliveries) = timeout(Duration::from_secs(2), consumer.receive(1)).await {
            for delivery in deliveries.unwrap() {
                tokio::time::sleep(Duration::from_millis(200)).await; // the slow handler
                delivery.receipt.settle(Settlement::Ack).await.unwrap();
                count += 1;
            }
        }
        count
    }))
    .await;
    assert_eq!(worked, [5, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_consumer_does_not_ask_for_goes_to_another() {
    let options = broker().await.options();
    let (greedy, modest) = (open(options.clone()).await, open(options).await);
    let queue = QueueName::for_actor("hoard");
    greedy.declare(&queue).await.unwrap();
    join_all((0..30).map(|number| greedy.publish(message(&queue, &number.to_string())))).await;
    let mut hoarder = greedy.consume(&queue).await.unwrap();
    let held = receive(&mut *hoarder, 20).await;
    assert_eq!(held.len(), 20);
    // Each settled one makes room for another, which nobody asks for.
    for delivery in &held[..8] {
        delivery.receipt.settle(Settlement::Ack).await.unwrap();
    }
    let mut other = modest.consume(&queue).await.unwrap();
    let mut got = Vec::new();
    while got.len() < 10 {
        got.extend(receive(&mut *other, 10 - got.len()).await);
    }
    let ids: HashSet<_> = got
        .iter()
        .chain(&held)
        .filter_map(|delivery| delivery.message_id.clone())
        .collect();
    assert_eq!(ids.len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_retry_leaves_room_for_others_and_keeps_its_count() {
    for quorum in [false, true] {
        let mut options = broker().await.options();
        options.queues.quorum = quorum;
        let transport = open(options).await;
        let queue = QueueName::for_actor("later");
        transport.declare(&queue).await.unwrap();
        transport.publish(message(&queue, "failing")).await.unwrap();
        transport.publish(message(&queue, "waiting")).await.unwrap();
        let mut consumer = transport.consume(&queue).await.unwrap();
        for expected in 1..=3 {
            let failing = receive(&mut *consumer, 1).await.remove(0);
            assert_eq!(
                (failing.message_id.as_deref(), failing.deliveries),
                (Some("failing"), expected)
            );
            let retry = Settlement::Retry {
                after: Duration::from_millis(400),
            };
            failing.receipt.settle(retry).await.unwrap();
            if expected == 1 {
                let waiting = receive(&mut *consumer, 1).await.remove(0);
                assert_eq!(waiting.message_id.as_deref(), Some("waiting"));
                waiting.receipt.settle(Settlement::Ack).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_message_to_a_missing_queue_is_unroutable_at_once() {
    let transport = open(broker().await.options()).await;
    let delayed = Outgoing {
        delay: Duration::from_secs(30),
        ..message(&QueueName::for_actor("nowhere"), "lost")
    };
    let refused = timeout(PATIENCE, transport.publish(delayed)).await.unwrap();
    assert!(matches!(refused, Err(PublishError::Unroutable(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_delayed_messages_is_not_deleted() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("delayed");
    transport.declare(&queue).await.unwrap();
    let delayed = Outgoing {
        delay: Duration::from_mins(10),
        ..message(&queue, "later")
    };
    transport.publish(delayed).await.unwrap();
    let refused = transport
        .delete(&queue, asya_transport::DeleteMode::IfEmpty)
        .await;
    assert!(
        matches!(
            refused,
            Err(asya_transport::AdminError::NotEmpty { messages: 1, .. })
        ),
        "{refused:?}"
    );
    transport
        .delete(&queue, asya_transport::DeleteMode::Always)
        .await
        .unwrap();
    transport.declare(&queue).await.unwrap();
    transport
        .delete(&queue, asya_transport::DeleteMode::IfEmpty)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_somebody_consumes_is_not_deleted_when_empty() {
    let transport = open(broker().await.options()).await;
    let queue = QueueName::for_actor("used");
    transport.declare(&queue).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    let deleting = async {
        until("the consumer is there", || async {
            consumers(&transport, &queue).await
        })
        .await;
        transport
            .delete(&queue, asya_transport::DeleteMode::IfEmpty)
            .await
    };
    let refused = tokio::select! {
        refused = deleting => refused,
        received = consumer.receive(1) => panic!("{received:?}"),
    };
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("in use"), "{text}");
}

/// Whether a deletion is refused because of consumers; it may not happen while there are none.
async fn consumers(transport: &RabbitMqTransport, queue: &QueueName) -> bool {
    let broker = broker().await;
    let shown = broker.manage("GET", "/api/consumers", "");
    transport.depth(queue).await.unwrap();
    shown.contains(queue.as_str())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_said_at_once_and_not_repeated() {
    let mut options = broker().await.options();
    options.address.password = "not-the-password".into();
    let error = refused(options).await;
    assert!(matches!(error, ConnectError::Login { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(r#""guest""#) && text.contains("password") && !text.contains("not-the-password"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_forbidden_virtual_host_is_named() {
    let broker = broker().await;
    let mut options = broker.options();
    let vhost = options.address.vhost.clone();
    options.address.vhost = "no-such-host".into();
    let error = refused(options.clone()).await;
    assert!(matches!(error, ConnectError::Vhost { .. }), "{error}");
    assert!(error.to_string().contains("no-such-host"), "{error}");

    broker.manage("PUT", "/api/users/stranger", r#"{"password": "x", "tags": ""}"#);
    options.address = Address {
        vhost,
        ..Address::new("127.0.0.1", broker.port, "stranger", "x")
    };
    let error = refused(options).await;
    assert!(matches!(error, ConnectError::Vhost { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_of_another_type_is_named() {
    let broker = broker().await;
    let options = broker.options();
    let path = format!("/api/exchanges/{}/asya", options.address.vhost);
    broker.manage("PUT", &path, r#"{"type": "fanout", "durable": true}"#);
    let error = refused(options).await;
    assert!(matches!(error, ConnectError::Exchange { .. }), "{error}");
    assert!(
        error.to_string().contains(r#""asya""#) && error.to_string().contains("type"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_may_not_declare_can_still_work() {
    let broker = broker().await;
    let owner = broker.options();
    let vhost = owner.address.vhost.clone();
    let queue = QueueName::for_actor("limited");
    open(owner.clone()).await.declare(&queue).await.unwrap();
    broker.manage("PUT", "/api/users/limited", r#"{"password": "x", "tags": ""}"#);
    let rights = r#"{"configure": "^$", "write": ".*", "read": ".*"}"#;
    broker.manage("PUT", &format!("/api/permissions/{vhost}/limited"), rights);
    let mut options = owner;
    options.address.user = "limited".into();
    options.address.password = "x".into();
    let transport = open(options).await;
    transport.publish(message(&queue, "hello")).await.unwrap();
    let mut consumer = transport.consume(&queue).await.unwrap();
    let delivery = receive(&mut *consumer, 1).await.remove(0);
    // The delay queue cannot be declared, so the message is held and given back.
    let started = Instant::now();
    let after = Duration::from_millis(300);
    delivery
        .receipt
        .settle(Settlement::Retry { after })
        .await
        .unwrap();
    let again = receive(&mut *consumer, 1).await.remove(0);
    assert!(
        started.elapsed() >= after && again.deliveries == 2,
        "{:?} {again:?}",
        started.elapsed()
    );
    again.receipt.settle(Settlement::Ack).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_with_special_characters_work_in_a_url() {
    let broker = broker().await;
    broker.manage("PUT", "/api/vhosts/a%2Fb%20c", "{}");
    broker.manage(
        "PUT",
        "/api/users/us%3Aer%40x",
        r#"{"password": "p/a%s@ :ü", "tags": ""}"#,
    );
    let rights = r#"{"configure": ".*", "write": ".*", "read": ".*"}"#;
    broker.manage("PUT", "/api/permissions/a%2Fb%20c/us%3Aer%40x", rights);
    let url = format!(
        "amqp://us%3Aer%40x:p%2Fa%25s%40%20%3A%C3%BC@127.0.0.1:{}/a%2Fb%20c",
        broker.port
    );
    let transport = open(impatient(RabbitMqOptions::new(Address::from_url(&url).unwrap()))).await;
    let queue = QueueName::for_actor("special");
    transport.declare(&queue).await.unwrap();
    transport.publish(message(&queue, "hello")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_not_there_is_waited_for_as_long_as_allowed() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut options = impatient(RabbitMqOptions::new(Address::new(
        "127.0.0.1",
        nobody,
        "guest",
        "guest",
    )));
    options.connect_patience = Some(Duration::from_secs(1));
    let error = RabbitMqTransport::connect(options.clone()).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Unreachable { .. }) && error.is_transient(),
        "{error}"
    );

    // Without a limit it goes on until somebody is there.
    options.connect_patience = None;
    options.address.vhost = broker().await.vhost();
    let connecting = tokio::spawn(RabbitMqTransport::connect(options));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let late = tokio::net::TcpListener::bind(("127.0.0.1", nobody))
        .await
        .unwrap();
    let port = broker().await.port;
    let relay = tokio::spawn(async move {
        loop {
            let (mut client, _) = late.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                // Either side may end it.
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    timeout(PATIENCE, connecting).await.unwrap().unwrap().unwrap();
    relay.abort();
}
