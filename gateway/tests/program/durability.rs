//! What was answered is kept, whatever happens to the process or the broker.

use asya_tests::Proxy;
use asya_tests::rabbitmq::Broker;

use crate::setup::{Place, Queues, call, envelope, eventually, get, ready};

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_the_row_and_the_broker_it_publishes_at_the_next_start() {
    let queues = Queues::new().await;
    let proxy = Proxy::before(Broker::shared().port).await;
    let place = Place::new();
    let broker = queues.url(proxy.port);
    let variables = [("ASYA_RABBITMQ_URL", broker.as_str())];
    let gateway = place.start(&variables);
    let url = gateway.url().await;
    ready(&url).await;

    proxy.swallow();
    let ids = [call(&url, "slow").await, call(&url, "slow").await];
    for id in &ids {
        assert_eq!(envelope(&url, id).await["status"], "pending");
    }
    gateway.kill().await;
    proxy.heal();

    let gateway = place.start(&variables);
    let url = gateway.url().await;
    let mut messages = queues.take("first", 2).await;
    messages.sort_by_key(|(message_id, _)| message_id.clone());
    let mut expected: Vec<_> = ids.iter().map(|id| (format!("{id}/0/1/0"), id.clone())).collect();
    expected.sort();
    for ((message_id, body), (expected_id, id)) in messages.iter().zip(&expected) {
        assert_eq!(message_id, expected_id);
        assert_eq!(body["id"], id.as_str());
        assert_eq!(body["payload"]["n"], 1);
    }
    for id in &ids {
        eventually("the envelope to run", || async {
            (envelope(&url, id).await["status"] == "running").then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_at_the_start_calls_are_kept_until_there_is_one() {
    let queues = Queues::new().await;
    let proxy = Proxy::before(Broker::shared().port).await;
    proxy.swallow();
    let place = Place::new();
    let broker = queues.url(proxy.port);
    let gateway = place.start(&[("ASYA_RABBITMQ_URL", broker.as_str())]);
    let url = gateway.url().await;
    let (status, reasons) = get(&url, "/readyz").await;
    assert_eq!(status, 503);
    assert!(reasons.contains("RabbitMQ"), "{reasons}");
    assert_eq!(get(&url, "/livez").await.0, 200);
    let id = call(&url, "slow").await;
    assert_eq!(envelope(&url, &id).await["status"], "pending");
    proxy.heal();
    ready(&url).await;
    assert_eq!(queues.take("first", 1).await[0].1["id"], id.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_while_nobody_serves_is_kept() {
    let place = Place::new();
    place.declare_local("first").await;
    let variables = [("ASYA_TRANSPORT", "local")];
    let gateway = place.start(&variables);
    let url = gateway.url().await;
    let id = call(&url, "short").await;
    assert_eq!(envelope(&url, &id).await["status"], "running");
    gateway.kill().await;

    let gateway = place.start(&variables);
    let url = gateway.url().await;
    let ended = eventually("the deadline to pass", || async {
        let envelope = envelope(&url, &id).await;
        (envelope["status"] == "failed").then_some(envelope)
    })
    .await;
    assert_eq!(ended["outcome"], "timed_out", "{ended}");
    assert_eq!(ended["error"], "envelope timed out", "{ended}");
}
