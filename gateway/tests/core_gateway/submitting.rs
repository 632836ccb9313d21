//! Calls of tools.

use asya_gateway::core::{SubmitError, reply};
use asya_gateway_store::{Filter, Kind, Outcome, Page, Status, View};
use asya_runtime_protocol::{Envelope, RawObject};
use futures::future::join_all;

use crate::world::{World, all, anybody, call, keyed, of, raw, submit, until};

async fn stored(gateway: &asya_gateway::core::Gateway) -> usize {
    let page = Page {
        size: 1000,
        after: None,
        view: View::Basic,
    };
    gateway
        .list(&anybody(), Filter::default(), page)
        .await
        .unwrap()
        .records
        .len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_becomes_a_record_a_message_and_an_update() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let arguments = r#"{"text":"\u0000\ud800","n" : 12345678901234567890,"x":1.0}"#;
    let mut call = call("echo", arguments);
    call.headers = Some(RawObject::try_from(raw(r#"{"traceparent":"00-1-2-01"}"#)).unwrap());
    let submitted = submit(&gateway, call).await.unwrap();
    let id = submitted.record.id.clone();
    assert!(!submitted.repeated);
    assert!(reply::handle_text(&submitted).contains(&id));

    let message = world.message("first").await;
    assert_eq!(message.message_id, Some(format!("{id}/0/1/0")));
    let payload = r#"{"text":"\u0000\ud800","n" : 12345678901234567890,"x":1.0,"count":3}"#;
    let route =
        format!(r#"{{"actors":["first","second","third"],"current":0,"metadata":{{"job_id":"{id}"}}}}"#);
    let headers = r#"{"traceparent":"00-1-2-01"}"#;
    assert_eq!(
        std::str::from_utf8(&message.body).unwrap(),
        format!(r#"{{"id":"{id}","route":{route},"headers":{headers},"payload":{payload}}}"#)
    );
    let record = until(&gateway, &id, |record| record.status == Status::Running).await;
    assert_eq!(record.payload, Some(raw(payload)));
    assert_eq!(record.tool.as_deref(), Some("echo"));
    let mut watch = gateway.watch(&anybody(), &id, None).await.unwrap();
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(
        (first.kind, first.message.as_deref()),
        (Kind::Sent, Some("Sending envelope to first actor"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_right_is_refused_and_nothing_is_stored() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let refused = async |call| submit(&gateway, call).await.unwrap_err();
    assert!(matches!(
        refused(call("none", "{}")).await,
        SubmitError::UnknownTool(_)
    ));
    let error = refused(call("echo", r#"{"count":"x"}"#)).await.to_string();
    assert!(
        error.contains("missing required parameter: text") && error.contains("count"),
        "{error}"
    );
    for key in ["", "a\nb", &"x".repeat(256)] {
        let error = refused(keyed("free", "{}", key)).await;
        assert!(matches!(error, SubmitError::IdempotencyKey(_)), "{error:?}");
    }
    let limit = gateway.max_body().unwrap();
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(limit));
    let SubmitError::TooLarge { size, .. } = refused(call("echo", &large)).await else {
        panic!("a message above the limit");
    };
    assert!(size > limit);
    assert_eq!((stored(&gateway).await, world.waiting("first").await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_without_a_queue_is_told_to_the_caller_and_again_to_who_repeats() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let Err(SubmitError::Unroutable { id, actor, queue }) = submit(&gateway, keyed("lost", "{}", "k")).await
    else {
        panic!("nobody has declared the queue");
    };
    assert_eq!((actor.as_str(), queue.as_str()), ("nowhere", "asya-nowhere"));
    let record = gateway.get(&anybody(), &id, View::Full).await.unwrap();
    assert_eq!(
        (record.status, record.outcome),
        (Status::Failed, Some(Outcome::Failed))
    );
    let error = record.error.unwrap();
    assert!(
        error.starts_with("failed to send envelope: ") && error.contains("asya-nowhere"),
        "{error}"
    );
    let updates = all(gateway.watch(&anybody(), &id, None).await.unwrap()).await;
    assert!(updates.last().unwrap().is_final());
    let Err(SubmitError::NotSent { id: again, error }) = submit(&gateway, keyed("lost", "{}", "k")).await
    else {
        panic!("the repeat of a call that failed");
    };
    assert_eq!(again, id);
    assert!(error.contains("asya-nowhere"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_calls_with_one_key_are_one_job() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let calls = (0..50).map(|_| submit(&gateway, keyed("free", r#"{"a":1}"#, "once")));
    let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let id = &answers[0].record.id;
    assert!(answers.iter().all(|answer| answer.record.id == *id));
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert_eq!((stored(&gateway).await, world.waiting("first").await), (1, 1));

    let other = submit(&gateway, keyed("free", r#"{"a":2}"#, "once")).await;
    assert!(matches!(other, Err(SubmitError::Conflict { id: of }) if of == *id));
    let elsewhere = gateway
        .submit(&of("acme"), keyed("free", r#"{"a":2}"#, "once"))
        .await
        .unwrap();
    assert!(!elsewhere.repeated, "each tenant has its own keys");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_away_leaves_nothing_half_done() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    for _ in 0..100 {
        let (gateway, caller) = (gateway.clone(), anybody());
        let mut calling = Box::pin(async move { gateway.submit(&caller, call("free", "{}")).await });
        // Polled once: on its way, then dropped.
        let _pending = futures::poll!(&mut calling);
    }
    let deadline = std::time::Instant::now() + crate::world::PATIENCE;
    while world.waiting("first").await < 100 {
        assert!(
            std::time::Instant::now() < deadline,
            "{} of 100",
            world.waiting("first").await
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(stored(&gateway).await, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_drains_takes_no_calls_and_finishes_those_it_has() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = submit(&gateway, call("free", "{}")).await.unwrap().record.id;
    gateway.drain();
    assert!(matches!(
        submit(&gateway, call("free", "{}")).await,
        Err(SubmitError::Draining)
    ));
    assert!(!gateway.health().await.is_ready());
    assert!(
        gateway.get(&anybody(), &id, View::Basic).await.is_ok(),
        "reading goes on"
    );
    gateway.close(crate::world::PATIENCE).await;
    assert_eq!(world.waiting("first").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_message_is_an_envelope_that_sidecars_read() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = submit(&gateway, call("free", "null")).await.unwrap().record.id;
    let body = world.message("first").await.body;
    let envelope = Envelope::parse(&body).unwrap().envelope;
    assert_eq!((envelope.id, envelope.route.current), (id, 0));
    assert_eq!(envelope.payload, Some(raw("null")));
    let deadline = chrono::DateTime::parse_from_rfc3339(&envelope.deadline.unwrap()).unwrap();
    assert_eq!(deadline.timestamp_subsec_nanos(), 0);
}
