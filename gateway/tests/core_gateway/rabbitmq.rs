//! A real broker that goes away and comes back.

use std::sync::Arc;

use asya_gateway::core::{Gateway, SubmitError};
use asya_gateway_store::{Outcome, Status, View};
use asya_tests::rabbitmq::Broker;
use asya_transport::rabbitmq::{RabbitMqOptions, RabbitMqTransport};
use asya_transport::{QueueName, Transport};

use crate::world::{PATIENCE, World, anybody, call, options, submit, take, until};

async fn connect(options: RabbitMqOptions) -> Arc<RabbitMqTransport> {
    Arc::new(RabbitMqTransport::connect(options).await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_does_not_exist_is_told_by_a_real_broker() {
    let world = World::new().await;
    let store = world.store().await;
    let settings = tokio::task::spawn_blocking(|| Broker::shared().options())
        .await
        .unwrap();
    let transport = connect(settings).await;
    let gateway = Gateway::start(options(&store, Arc::clone(&transport) as Arc<dyn Transport>)).await;
    let Err(SubmitError::Unroutable { actor, .. }) = submit(&gateway, call("lost", "{}")).await else {
        panic!("there is no such queue");
    };
    assert_eq!(actor, "nowhere");
    assert!(gateway.health().await.is_ready());
    transport
        .administration()
        .declare(&QueueName::for_actor("first"))
        .await
        .unwrap();
    let id = submit(&gateway, call("free", "{}")).await.unwrap().record.id;
    until(&gateway, &id, |record| record.status == Status::Running).await;
    assert_eq!(
        take(&*transport, "first").await.message_id,
        Some(format!("{id}/0/1/0"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_taken_while_the_broker_is_away_is_sent_when_it_is_back_even_by_another_gateway() {
    let broker = Arc::new(tokio::task::spawn_blocking(|| Broker::start(None)).await.unwrap());
    let world = World::new().await;
    let store = world.store().await;
    let settings = {
        let broker = Arc::clone(&broker);
        tokio::task::spawn_blocking(move || broker.options())
            .await
            .unwrap()
    };
    let transport = connect(settings.clone()).await;
    transport
        .administration()
        .declare(&QueueName::for_actor("first"))
        .await
        .unwrap();
    let first = Gateway::start(options(&store, Arc::clone(&transport) as Arc<dyn Transport>)).await;

    let killed = Arc::clone(&broker);
    tokio::task::spawn_blocking(move || killed.kill()).await.unwrap();
    let mut jobs = Vec::new();
    for _ in 0..20 {
        jobs.push(submit(&first, call("free", "{}")).await.unwrap().record);
    }
    assert!(jobs.iter().all(|record| record.status == Status::Pending));
    assert!(!first.health().await.is_ready(), "the broker is away");
    // The first one dies with all of it unsent.
    first.close(std::time::Duration::ZERO).await;
    assert_eq!(world.store().await.outbox_depth().await.unwrap().waiting, 20);

    let revived = Arc::clone(&broker);
    tokio::task::spawn_blocking(move || revived.run()).await.unwrap();
    let second = Gateway::start(options(
        &world.store().await,
        Arc::clone(&transport) as Arc<dyn Transport>,
    ))
    .await;
    for job in &jobs {
        until(&second, &job.id, |record| record.status == Status::Running).await;
    }
    let mut expected: Vec<_> = jobs.iter().map(|job| format!("{}/0/1/0", job.id)).collect();
    let mut sent = Vec::new();
    let limit = std::time::Instant::now() + PATIENCE;
    while sent.len() < expected.len() {
        assert!(std::time::Instant::now() < limit);
        let id = take(&*transport, "first").await.message_id.unwrap();
        // The one window for repeats: sent, and not confirmed when the broker died.
        if !sent.contains(&id) {
            sent.push(id);
        }
    }
    expected.sort();
    sent.sort();
    assert_eq!(sent, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_heals_by_itself_after_its_broker_was_away() {
    let broker = Arc::new(tokio::task::spawn_blocking(|| Broker::start(None)).await.unwrap());
    let world = World::new().await;
    let store = world.store().await;
    let settings = {
        let broker = Arc::clone(&broker);
        tokio::task::spawn_blocking(move || broker.options())
            .await
            .unwrap()
    };
    let transport = connect(settings).await;
    transport
        .administration()
        .declare(&QueueName::for_actor("first"))
        .await
        .unwrap();
    let gateway = Gateway::start(options(&store, Arc::clone(&transport) as Arc<dyn Transport>)).await;
    let killed = Arc::clone(&broker);
    tokio::task::spawn_blocking(move || killed.kill()).await.unwrap();
    let job = submit(&gateway, call("free", "{}")).await.unwrap().record;
    let unwanted = submit(&gateway, call("free", "{}")).await.unwrap().record;
    assert!(
        gateway
            .cancel(&anybody(), &unwanted.id, "")
            .await
            .unwrap()
            .cancelled
    );
    let revived = Arc::clone(&broker);
    tokio::task::spawn_blocking(move || revived.run()).await.unwrap();
    until(&gateway, &job.id, |record| record.status == Status::Running).await;
    assert_eq!(
        take(&*transport, "first").await.message_id,
        Some(format!("{}/0/1/0", job.id))
    );
    let id = submit(&gateway, call("free", "{}")).await.unwrap().record.id;
    until(&gateway, &id, |record| record.status == Status::Running).await;
    let kept = gateway.get(&anybody(), &unwanted.id, View::Basic).await.unwrap();
    assert_eq!(kept.outcome, Some(Outcome::Cancelled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_holds_messages_up_for_longer_than_a_lease_gets_each_once() {
    let broker = Arc::new(tokio::task::spawn_blocking(|| Broker::start(None)).await.unwrap());
    let control = async |arguments: &'static [&'static str]| {
        let broker = Arc::clone(&broker);
        tokio::task::spawn_blocking(move || broker.control(arguments))
            .await
            .unwrap();
    };
    let world = World::new().await;
    let settings = {
        let broker = Arc::clone(&broker);
        tokio::task::spawn_blocking(move || broker.options())
            .await
            .unwrap()
    };
    let transport = connect(settings).await;
    let queue = QueueName::for_actor("first");
    transport.administration().declare(&queue).await.unwrap();
    let start = async || {
        let store = world.store().await;
        Gateway::start(options(&store, Arc::clone(&transport) as Arc<dyn Transport>)).await
    };
    let (one, _other) = (start().await, start().await);
    // Out of memory: connections that publish are no longer read.
    control(&["set_vm_memory_high_watermark", "0.0000001"]).await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(submit(&one, call("free", "{}")).await.unwrap().record);
    }
    // More than two leases: without renewal others would have taken them.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    control(&["set_vm_memory_high_watermark", "absolute", "1GB"]).await;
    for job in &jobs {
        until(&one, &job.id, |record| record.status == Status::Running).await;
    }
    let mut expected: Vec<_> = jobs.iter().map(|job| format!("{}/0/1/0", job.id)).collect();
    let mut sent = Vec::new();
    for _ in &jobs {
        sent.push(take(&*transport, "first").await.message_id.unwrap());
    }
    expected.sort();
    sent.sort();
    assert_eq!(sent, expected);
    assert_eq!(
        transport.administration().depth(&queue).await.unwrap().ready,
        0,
        "each once"
    );
}
