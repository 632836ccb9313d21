//! A gateway inside another program, without environment.

use std::sync::Arc;

use asya_gateway::core::ToolBook;
use asya_gateway::life::Server;
use asya_gateway::settings::{Settings, TlsFiles};
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Administration as _, QueueName, Transport as _};

use crate::setup::{Place, call, envelope};

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_over_queues_that_were_open_before_and_lets_go_of_all_it_has_taken() {
    let place = Place::new();
    let transport = LocalTransport::open(&place.path("queue"), &LocalOptions::default()).unwrap();
    transport.declare(&QueueName::for_actor("first")).await.unwrap();
    let start = async |port| {
        let tools = ToolBook::open(&place.path("tools.yaml")).unwrap();
        let transport = Arc::new(transport.clone());
        Server::start(Settings::embedded(&place.path("state"), port, transport, tools)).await
    };
    let server = start(0).await.unwrap();
    let id = call(&server.url(), "slow").await;
    let queue = QueueName::for_actor("first");
    assert_eq!(transport.administration().depth(&queue).await.unwrap().ready, 1);

    let port = server.address().port();
    let taken = start(port).await.unwrap_err().to_string();
    assert!(taken.contains("another program has the port"), "{taken}");
    server.close().await;
    // The same port and the same file, at once.
    let server = start(port).await.unwrap();
    assert_eq!(envelope(&server.url(), &id).await["status"], "running");
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate_it_speaks_tls_alone() {
    let place = Place::new();
    let made = asya_tests::rabbitmq::certificates(place.path("tools.yaml").parent().unwrap());
    let transport = LocalTransport::open(&place.path("queue"), &LocalOptions::default()).unwrap();
    let mut settings = Settings::embedded(&place.path("state"), 0, Arc::new(transport), ToolBook::empty());
    settings.tls = Some(TlsFiles {
        certificate: made.server,
        key: made.server_key,
    });
    let server = Server::start(settings).await.unwrap();
    let authority = reqwest::Certificate::from_pem(&std::fs::read(made.ca).unwrap()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([authority])
        .build()
        .unwrap();
    assert!(server.url().starts_with("https://127.0.0.1:"), "{}", server.url());
    let answer = client
        .get(format!("{}/health", server.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.text().await.unwrap(), "OK\n");
    let plain = server.url().replace("https", "http");
    assert!(reqwest::get(plain).await.is_err());
    server.close().await;
}
