//! Streams of clients.

use asya_gateway::grpc::GrpcOptions;
use asya_gateway_store::Retention;
use asya_proto::status::v1::envelope_status_client::EnvelopeStatusClient;
use asya_proto::status::v1::{
    EnvelopeFilter, EnvelopeOutcome, EnvelopeState, EnvelopeUpdate, EnvelopeView, HopPhase,
    WatchEnvelopesRequest, WatchEnvelopesResponse, watch_envelopes_request, watch_envelopes_response,
};
use chrono::Utc;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::harness::{Plan, Server, partial, progress, report, running, soon, succeeded, watch_ids};

type Event = watch_envelopes_response::Event;

async fn next(stream: &mut Streaming<WatchEnvelopesResponse>) -> Option<WatchEnvelopesResponse> {
    soon("a message", stream.message()).await.unwrap()
}

async fn update(stream: &mut Streaming<WatchEnvelopesResponse>) -> EnvelopeUpdate {
    match next(stream).await.unwrap().event.unwrap() {
        Event::Update(update) => update,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_watch_sees_what_was_and_what_comes_and_ends() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    sidecar
        .send(report(1, "x", progress(0, HopPhase::Received)))
        .await;
    sidecar.acked(1).await;
    let mut stream = watch_ids(&mut server.client().await, &["x"], "").await.unwrap();
    let first = update(&mut stream).await;
    assert_eq!(
        (first.phase(), first.actor.as_str(), first.state()),
        (HopPhase::Received, "a", EnvelopeState::Running)
    );
    assert_eq!(first.route.unwrap().actors, ["a", "b", "c"]);
    let item = r#"{"n":18446744073709551616,"s":"\u0000"}"#;
    sidecar.send(report(2, "x", partial(0, 0, item))).await;
    assert_eq!(update(&mut stream).await.partial.unwrap().value_json, item);
    sidecar.send(report(3, "x", succeeded("[1.0]"))).await;
    let last = update(&mut stream).await;
    assert_eq!(
        (last.state(), last.outcome()),
        (EnvelopeState::Succeeded, EnvelopeOutcome::Succeeded)
    );
    assert_eq!(last.result_json.as_deref(), Some("[1.0]"));
    assert!(next(&mut stream).await.is_none(), "a good end");
    let mut after = watch_ids(&mut server.client().await, &["x"], "").await.unwrap();
    let mut count = 0;
    while next(&mut after).await.is_some() {
        count += 1;
    }
    assert_eq!(count, 3, "who comes late sees the same, and the end");
}

#[tokio::test]
async fn a_watch_of_many_ends_with_the_last_of_them_and_resumes_anywhere() {
    let server = Server::start().await;
    let ids = ["x", "y", "z"];
    let mut sidecar = server.sidecar("one").await;
    for id in ids {
        server.envelope(id).await;
    }
    let mut sequence = 0;
    for step in 0..4 {
        for id in ids {
            sequence += 1;
            sidecar
                .send(report(sequence, id, partial(0, step, &step.to_string())))
                .await;
        }
    }
    for id in ids {
        sequence += 1;
        sidecar
            .send(report(sequence, id, succeeded(&format!("{id:?}"))))
            .await;
    }
    sidecar.acked(sequence).await;
    let mut client = server.client().await;
    let whole = all(&mut client, &ids, "").await;
    assert_eq!(whole.len(), 15);
    for stop in 0..whole.len() {
        let rest = all(&mut client, &ids, &whole[stop].cursor).await;
        let mut seen: Vec<_> = whole[..=stop].iter().chain(&rest).map(told).collect();
        let mut expected: Vec<_> = whole.iter().map(told).collect();
        for id in ids {
            let of = |told: &[(String, String)]| {
                told.iter()
                    .filter(|(of, _)| of == id)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(of(&seen), of(&expected), "each once and in order, after {stop}");
        }
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
    }
}

fn told(message: &WatchEnvelopesResponse) -> (String, String) {
    let Some(Event::Update(update)) = &message.event else {
        panic!("{message:?}");
    };
    let what = update.partial.as_ref().map(|item| item.value_json.clone());
    (
        update.envelope_id.clone(),
        what.unwrap_or_else(|| update.result_json.clone().unwrap()),
    )
}

async fn all(
    client: &mut EnvelopeStatusClient<Channel>,
    ids: &[&str],
    cursor: &str,
) -> Vec<WatchEnvelopesResponse> {
    let mut stream = watch_ids(client, ids, cursor).await.unwrap();
    let mut messages = Vec::new();
    while let Some(message) = next(&mut stream).await {
        messages.push(message);
    }
    messages
}

#[tokio::test]
async fn what_cannot_be_watched_is_told() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut client = server.client().await;
    let many: Vec<_> = (0..1001).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (ids, cursor, code) in [
        (&["x", "nobody"][..], "", Code::NotFound),
        (&["a\0b"], "", Code::NotFound),
        (&[], "", Code::InvalidArgument),
        (&[""], "", Code::InvalidArgument),
        (&many, "", Code::InvalidArgument),
        (&["x"], "garbage", Code::InvalidArgument),
    ] {
        let status = watch_ids(&mut client, ids, cursor).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    let nothing = client.watch(WatchEnvelopesRequest::default()).await.unwrap_err();
    assert_eq!(nothing.code(), Code::InvalidArgument);
    let mut sidecar = server.sidecar("one").await;
    sidecar
        .send(report(1, "x", progress(0, HopPhase::Received)))
        .await;
    sidecar.acked(1).await;
    let cursor = next(&mut watch_ids(&mut client, &["x"], "").await.unwrap())
        .await
        .unwrap()
        .cursor;
    server.envelope("y").await;
    let status = watch_ids(&mut client, &["y"], &cursor).await.unwrap_err();
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "a cursor belongs to its ids"
    );
}

#[tokio::test]
async fn a_history_that_is_deleted_is_out_of_range() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut client = server.client().await;
    let mut feed = watch_all(&mut client, EnvelopeFilter::default(), "")
        .await
        .unwrap();
    let beginning = loop {
        let message = next(&mut feed).await.unwrap();
        if let Some(Event::CaughtUp(_)) = message.event {
            break message.cursor;
        }
    };
    let mut sidecar = server.sidecar("one").await;
    sidecar
        .send(report(1, "x", progress(0, HopPhase::Received)))
        .await;
    sidecar.acked(1).await;
    let first = next(&mut watch_ids(&mut client, &["x"], "").await.unwrap())
        .await
        .unwrap()
        .cursor;
    sidecar.send(report(2, "x", succeeded("1"))).await;
    sidecar.acked(2).await;
    let whole = all(&mut client, &["x"], "").await;
    let retention = Retention {
        updates: Some(Duration::ZERO),
        envelopes: None,
    };
    let cleaned = server
        .store
        .clean(retention, Utc::now() + Duration::from_mins(1))
        .await
        .unwrap();
    assert!(cleaned.updates > 0, "{cleaned:?}");
    // A replica that has nothing of it in memory.
    let later = Server::of(Plan {
        store: Some(Arc::clone(&server.store)),
        ..Plan::default()
    })
    .await;
    let mut client = later.client().await;
    let status = match watch_ids(&mut client, &["x"], &first).await {
        Err(status) => status,
        Ok(mut stream) => soon("the end", stream.message()).await.unwrap_err(),
    };
    assert_eq!(status.code(), Code::OutOfRange);
    let ended = &whole.last().unwrap().cursor;
    assert!(
        all(&mut client, &["x"], ended).await.is_empty(),
        "whoever saw the end misses nothing"
    );
    let anew = all(&mut client, &["x"], "").await;
    assert!(
        matches!(&anew.last().unwrap().event, Some(Event::Update(last)) if last.state() == EnvelopeState::Succeeded)
    );
    let status = watch_all(&mut client, EnvelopeFilter::default(), &beginning)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

async fn watch_all(
    client: &mut EnvelopeStatusClient<Channel>,
    filter: EnvelopeFilter,
    cursor: &str,
) -> Result<Streaming<WatchEnvelopesResponse>, tonic::Status> {
    let request = WatchEnvelopesRequest {
        target: Some(watch_envelopes_request::Target::Filter(filter)),
        after_cursor: cursor.to_owned(),
        view: EnvelopeView::Full.into(),
    };
    soon("a watch", client.watch(request))
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_watch_by_filter_tells_the_present_then_each_change_and_resumes() {
    let server = Server::start().await;
    for (id, tool) in [("x", "t"), ("y", "t"), ("other", "u")] {
        let mut new = running(id);
        new.tool = Some(tool.to_owned());
        server.create(new).await;
    }
    let filter = EnvelopeFilter {
        tool: "t".to_owned(),
        ..EnvelopeFilter::default()
    };
    let mut client = server.client().await;
    let mut stream = watch_all(&mut client, filter.clone(), "").await.unwrap();
    let mut present = Vec::new();
    let caught_up = loop {
        let message = next(&mut stream).await.unwrap();
        match message.event.unwrap() {
            Event::Snapshot(envelope) => {
                assert_eq!(
                    envelope.payload_json.as_deref(),
                    Some(r#"{"n":12345678901234567890,"f":1.0}"#)
                );
                assert_eq!(message.cursor, "", "half of the present is no place to resume");
                present.push(envelope.id);
            }
            Event::CaughtUp(_) => break message.cursor,
            Event::Update(update) => panic!("{update:?}"),
        }
    };
    present.sort();
    assert_eq!(present, ["x", "y"]);
    let sidecar = server.sidecar("one").await;
    sidecar
        .send(report(1, "other", progress(0, HopPhase::Received)))
        .await;
    sidecar
        .send(report(2, "x", progress(0, HopPhase::Received)))
        .await;
    sidecar.send(report(3, "y", succeeded("1"))).await;
    let mut later = running("z");
    later.tool = Some("t".to_owned());
    server.create(later).await;
    sidecar
        .send(report(4, "z", progress(0, HopPhase::Received)))
        .await;
    let mut changes = Vec::new();
    let mut cursors = Vec::new();
    for _ in 0..3 {
        let message = next(&mut stream).await.unwrap();
        let Some(Event::Update(update)) = message.event else {
            panic!("no update")
        };
        changes.push((update.envelope_id, update.state));
        cursors.push(message.cursor);
    }
    let expected = [
        ("x", EnvelopeState::Running),
        ("y", EnvelopeState::Succeeded),
        ("z", EnvelopeState::Running),
    ];
    assert_eq!(
        changes,
        expected.map(|(id, state)| (id.to_owned(), i32::from(state)))
    );
    let mut again = watch_all(&mut client, filter.clone(), &caught_up).await.unwrap();
    for (id, _) in &changes {
        assert_eq!(
            &update(&mut again).await.envelope_id,
            id,
            "no present state, the same changes"
        );
    }
    let mut rest = watch_all(&mut client, filter, &cursors[1]).await.unwrap();
    assert_eq!(update(&mut rest).await.envelope_id, "z");
    let status = watch_all(&mut client, EnvelopeFilter::default(), &caught_up)
        .await
        .unwrap_err();
    assert_eq!(
        status.code(),
        Code::InvalidArgument,
        "a cursor belongs to its filter"
    );
    let never = EnvelopeFilter {
        states: vec![0],
        ..EnvelopeFilter::default()
    };
    assert_eq!(
        watch_all(&mut client, never, "").await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

/// Whoever does not read must neither lose what counts nor hold up others, and nothing may pile up for it.
#[tokio::test]
async fn a_slow_watcher_gets_every_item_and_the_end_in_order() {
    const ITEMS: u32 = 2000;
    let server = Server::start().await;
    server.envelope("x").await;
    let mut client = server.client().await;
    let mut slow = watch_ids(&mut client, &["x"], "").await.unwrap();
    let mut slow_feed = watch_all(&mut client, EnvelopeFilter::default(), "")
        .await
        .unwrap();
    let mut sidecar = server.sidecar("one").await;
    let filling = "x".repeat(1000);
    for n in 0..ITEMS {
        sidecar
            .send(report(
                u64::from(n) + 1,
                "x",
                partial(0, n, &format!("[{n},{filling:?}]")),
            ))
            .await;
    }
    let last = u64::from(ITEMS) + 1;
    sidecar.send(report(last, "x", succeeded("1"))).await;
    sidecar.acked(last).await;
    assert_eq!(
        server.history("x").await.len() as u64,
        last,
        "somebody else has seen it all by now"
    );
    for stream in [&mut slow, &mut slow_feed] {
        let mut items = Vec::new();
        loop {
            match next(stream).await.unwrap().event.unwrap() {
                Event::Update(update) if update.state() == EnvelopeState::Succeeded => break,
                Event::Update(update) => items.push(update.partial.unwrap().index),
                Event::Snapshot(_) | Event::CaughtUp(_) => {}
            }
        }
        assert_eq!(items, (0..ITEMS).collect::<Vec<_>>());
    }
    assert!(next(&mut slow).await.is_none());
}

#[tokio::test]
async fn watches_end_when_the_gateway_drains() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut client = server.client().await;
    let by_id = watch_ids(&mut client, &["x"], "").await.unwrap();
    let mut by_filter = watch_all(&mut client, EnvelopeFilter::default(), "")
        .await
        .unwrap();
    while !matches!(
        next(&mut by_filter).await.unwrap().event,
        Some(Event::CaughtUp(_))
    ) {}
    server.gateway.drain();
    for mut stream in [by_id, by_filter] {
        let end = soon("the end", stream.message()).await.unwrap_err();
        assert_eq!(end.code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn a_thousand_envelopes_are_watched_by_one_call() {
    let server = Server::start().await;
    let ids: Vec<_> = (0..1000).map(|n| format!("x{n}")).collect();
    for id in &ids {
        server.envelope(id).await;
    }
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    let mut stream = watch_ids(&mut server.client().await, &ids, "").await.unwrap();
    let mut sidecar = server.sidecar("one").await;
    for (sequence, id) in (1..).zip(&ids) {
        sidecar.send(report(sequence, id, succeeded("1"))).await;
    }
    sidecar.acked(1000).await;
    let mut ended = std::collections::BTreeSet::new();
    let mut cursor = String::new();
    while let Some(message) = next(&mut stream).await {
        let Some(Event::Update(update)) = message.event else {
            panic!("no update");
        };
        assert!(ended.insert(update.envelope_id));
        if ended.len() == 500 {
            cursor = message.cursor;
        }
    }
    assert_eq!(ended.len(), 1000);
    assert_eq!(all(&mut server.client().await, &ids, &cursor).await.len(), 500);
}

#[tokio::test]
async fn there_is_room_for_so_many_watches() {
    let server = Server::of(Plan {
        options: GrpcOptions {
            max_streams: 3,
            ..GrpcOptions::default()
        },
        ..Plan::default()
    })
    .await;
    let names: Vec<String> = (0..17).map(|index| format!("e{index}")).collect();
    let ids: Vec<&str> = names.iter().map(String::as_str).collect();
    for id in &ids {
        server.envelope(id).await;
    }
    let mut client = server.client().await;
    let one = watch_ids(&mut client, &ids[..1], "").await.unwrap();
    let many = watch_ids(&mut client, &ids, "").await.unwrap();
    let refused = watch_ids(&mut client, &ids[..1], "").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    drop(many);
    let again = async {
        while watch_ids(&mut client, &ids[..1], "").await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon("room", again).await;
    drop(one);
}
