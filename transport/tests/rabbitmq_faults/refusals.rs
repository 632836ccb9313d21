//! Brokers that refuse us, and brokers that are not there.

use std::time::{Duration, Instant};

use asya_tests::rabbitmq::impatient;
use asya_transport::rabbitmq::{Address, ConnectError, RabbitMqOptions, RabbitMqTransport};
use asya_transport::{Administration, QueueName, Settlement, Transport};
use tokio::time::timeout;

use super::traffic::{PATIENCE, message};
use super::{broker, open, receive};

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
