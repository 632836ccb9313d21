//! Server-sent events (contract gateway §5).

use std::time::Duration;

use asya_gateway::http::HttpOptions;
use asya_gateway::server::ServerOptions;
use asya_gateway_store::{Partial, ReportEvent, Retention};
use asya_runtime_protocol::RawJson;
use chrono::Utc;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Event, Events, Rig, soon};

fn messages(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| event.json()["message"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn history_comes_first_then_what_happens_and_the_final_event_closes() {
    let rig = Rig::start().await;
    rig.child("e").await;
    rig.progress("e", 0, "received").await;
    let mut events = Events::open(&rig, "e").await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    assert_eq!(events.header("cache-control"), "no-cache");
    assert_eq!(events.header("x-accel-buffering"), "no");
    assert_eq!(events.header("connection"), "keep-alive");
    let first = events.until("received 0").await;
    assert_eq!(first.name, "update");
    let data = first.json();
    assert_eq!((&data["id"], &data["status"]), (&"e".into(), &"running".into()));
    assert_eq!(
        (&data["progress_percent"], &data["actor"]),
        (&3.33.into(), &"first".into())
    );
    assert_eq!(data["actors"], serde_json::json!(["first", "second", "third"]));
    assert_eq!(
        (&data["current_actor_idx"], &data["envelope_state"]),
        (&0.into(), &"received".into())
    );
    rig.progress("e", 1, "processing").await;
    let live = events.until("processing 1").await;
    assert_eq!(live.json()["actor"], "second");
    rig.succeed("e", "{\"a\":\n 1.0}").await;
    let last = events.next().await.unwrap();
    assert_eq!(last.json()["status"], "succeeded");
    assert!(last.data.contains(r#""result":{"a":  1.0}"#), "{}", last.data);
    assert_eq!(events.next().await, None);
    let ids: Vec<i64> = [&first, &live, &last]
        .map(|event| event.id.parse().unwrap())
        .into();
    assert!(ids.is_sorted() && ids[0] > 0, "{ids:?}");
}

#[tokio::test]
async fn live_and_replayed_events_are_the_same_bytes_and_a_replay_ends() {
    let rig = Rig::start().await;
    let id = rig.call().await;
    let live = Events::open(&rig, &id).await;
    for (index, status) in [
        (0, "received"),
        (0, "processing"),
        (0, "completed"),
        (2, "received"),
    ] {
        rig.progress(&id, index, status).await;
    }
    rig.succeed(&id, "[1]").await;
    let live = live.all().await;
    let replayed = Events::open(&rig, &id).await.all().await;
    assert_eq!(live, replayed);
    assert_eq!(
        messages(&live),
        [
            "Sending envelope to first actor",
            "received 0",
            "processing 0",
            "completed 0",
            "received 2",
            "Envelope completed successfully"
        ]
    );
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_event_that_was_seen() {
    let rig = Rig::start().await;
    rig.child("e").await;
    for index in 0..3 {
        rig.progress("e", index, "received").await;
    }
    let mut events = Events::open(&rig, "e").await;
    let seen = events.until("received 1").await;
    drop(events);
    rig.succeed("e", "1").await;
    let rest = Events::open_after(&rig, "e", &seen.id).await.all().await;
    assert_eq!(messages(&rest), ["received 2", "Envelope completed successfully"]);
    let last = &rest[1].id;
    let request = rig
        .client
        .get(rig.url("/envelopes/e/stream"))
        .header("Last-Event-ID", last);
    assert_eq!(
        request.send().await.unwrap().status(),
        StatusCode::NO_CONTENT,
        "it has seen everything"
    );
    let nonsense = Events::open_after(&rig, "e", "no id of ours").await.all().await;
    assert_eq!(nonsense.len(), 4, "from the beginning");
}

#[tokio::test]
async fn the_end_is_told_once_when_the_history_is_deleted() {
    let rig = Rig::start().await;
    rig.child("e").await;
    rig.succeed("e", "7").await;
    let retention = Retention {
        updates: Some(Duration::ZERO),
        envelopes: None,
    };
    let later = Utc::now() + Duration::from_hours(1);
    assert!(rig.store.clean(retention, later).await.unwrap().updates > 0);
    let events = Events::open(&rig, "e").await.all().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].json()["result"], 7);
    let stream = rig.client.get(rig.url("/envelopes/e/stream"));
    let again = stream
        .header("Last-Event-ID", &events[0].id)
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), StatusCode::NO_CONTENT, "it has seen everything");
}

#[tokio::test]
async fn many_streams_see_every_event_of_many_writers_in_the_same_order() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(Events::open(&rig, "e").await);
    }
    let writers = (0..3).map(|index| rig.progress("e", index, "completed"));
    futures::future::join_all(writers).await;
    rig.succeed("e", "1").await;
    let expected = Events::open(&rig, "e").await.all().await;
    assert_eq!(expected.last().unwrap().json()["status"], "succeeded");
    let shown: Vec<f64> = expected
        .iter()
        .map(|event| event.json()["progress_percent"].as_f64().unwrap())
        .collect();
    assert!(shown.is_sorted(), "{shown:?}");
    for stream in streams {
        assert_eq!(stream.all().await, expected);
    }
}

#[tokio::test]
async fn items_of_a_handler_that_yields_are_events_of_their_own() {
    let rig = Rig::start().await;
    rig.child("e").await;
    let mut events = Events::open(&rig, "e").await;
    let item = Partial {
        actor_index: 1,
        index: 0,
        value: RawJson::parse(r#"{"token": 1.0}"#).unwrap(),
    };
    rig.report("e", ReportEvent::Partial(item)).await;
    let event = events.next().await.unwrap();
    assert_eq!(event.name, "partial");
    assert!(event.data.contains(r#""value":{"token": 1.0}"#), "{}", event.data);
    assert_eq!(event.json()["current_actor_idx"], 1);
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let options = HttpOptions {
        keepalive: Duration::from_millis(20),
        ..HttpOptions::default()
    };
    let rig = Rig::with(options, ServerOptions::default()).await;
    rig.child("e").await;
    let mut events = Events::open(&rig, "e").await;
    for _ in 0..3 {
        assert_eq!(events.next().await.unwrap().comment, "keepalive");
    }
}

#[tokio::test]
async fn streams_are_told_to_come_again_when_the_gateway_stops() {
    let mut rig = Rig::start().await;
    rig.child("e").await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        streams.push(Events::open(&rig, "e").await);
    }
    rig.drain().await;
    for stream in streams {
        let last = stream.all().await.pop().unwrap();
        assert!(last.comment.contains("connect again"), "{last:?}");
        assert_eq!(last.retry, "1000");
    }
    let refused = tokio::net::TcpStream::connect(rig.address).await;
    assert!(refused.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn streams_beyond_the_cap_are_refused_and_a_closed_one_makes_room() {
    let options = HttpOptions {
        max_streams: 2,
        ..HttpOptions::default()
    };
    let rig = Rig::with(options, ServerOptions::default()).await;
    rig.child("e").await;
    let first = Events::open(&rig, "e").await;
    let _second = Events::open(&rig, "e").await;
    let refused = rig.get("/envelopes/e/stream").await;
    refused.is_refusal(503, "Too many open streams\n");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        rig.get("/envelopes/e").await.status,
        StatusCode::OK,
        "other requests go on"
    );
    drop(first);
    let third = async {
        while rig
            .client
            .get(rig.url("/envelopes/e/stream"))
            .send()
            .await
            .unwrap()
            .status()
            != StatusCode::OK
        {
            tokio::task::yield_now().await;
        }
    };
    soon("a place", third).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_left_and_nobody_else_waits_for_it() {
    let options = ServerOptions {
        write_timeout: Duration::from_millis(300),
        ..ServerOptions::default()
    };
    let rig = Rig::with(HttpOptions::default(), options).await;
    rig.child("e").await;
    let mut idle = rig.connect().await;
    idle.write_all(b"GET /envelopes/e/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut reading = Events::open(&rig, "e").await;
    let value = RawJson::parse(format!("\"{}\"", "x".repeat(500_000))).unwrap();
    for index in 0..60 {
        let item = Partial {
            actor_index: 0,
            index,
            value: value.clone(),
        };
        rig.report("e", ReportEvent::Partial(item)).await;
        assert_eq!(reading.next().await.unwrap().json()["index"], index);
    }
    rig.succeed("e", "1").await;
    assert_eq!(reading.next().await.unwrap().json()["status"], "succeeded");
    // What lay in the kernel's buffers comes, then the end, long before all 30 MB.
    let mut taken = Vec::new();
    let _ = soon("the end", async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        idle.read_to_end(&mut taken).await
    })
    .await;
    assert!(taken.len() < 29_000_000, "{} bytes", taken.len());
}
