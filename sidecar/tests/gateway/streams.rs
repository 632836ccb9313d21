//! Reports over a gRPC stream: what is said, in which order, and that nothing that matters is lost with a stream.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use asya_proto::status::v1::envelope_report::Event as Told;
use asya_proto::status::v1::{HopPhase, ReportRefusalReason, final_report};
use asya_runtime_protocol::{Envelope, HandlerError, HandlerItem, RawJson, RequestEnvelope, Route};
use asya_sidecar::gateway::{GatewayOptions, GatewayReporter, GatewayToken};
use asya_sidecar::{Event, FinalReport, FinalStatus, Progress, Reporter as _, Role};
use bytes::Bytes;
use tonic::Status;

use crate::Scene;
use crate::common::{PATIENCE, echo, envelope, wait_for};
use crate::stage::{Offer, Stage};

/// A reporter without a tree, once its reports go over gRPC.
pub async fn reporter(options: GatewayOptions) -> Arc<GatewayReporter> {
    let reporter = Arc::new(GatewayReporter::start(options).expect("a reporter"));
    wait_for("reports to go over gRPC", async || reporter.figures().grpc).await;
    reporter
}

pub fn last(id: &str, result: &str) -> FinalReport {
    FinalReport {
        actor: "happy-end".into(),
        id: id.into(),
        status: FinalStatus::Succeeded,
        result: RawJson::parse(Bytes::copy_from_slice(result.as_bytes())).ok(),
        error: None,
        error_details: None,
        message: format!(r#"{{"id":"{id}","route":{{"actors":["work"],"current":1}},"payload":1}}"#).into(),
    }
}

pub fn progress(id: &str, event: Event) -> Progress {
    Progress {
        actor: "work".into(),
        envelope: Arc::new(Envelope {
            id: id.into(),
            route: Route::new(["work", "sink"]),
            ..Envelope::default()
        }),
        event,
    }
}

fn child(n: usize) -> Event {
    Event::Child {
        id: format!("p-{n}"),
        parent_id: "p".into(),
    }
}

#[tokio::test]
async fn a_message_is_told_step_by_step_over_one_stream() {
    let stage = Stage::start(Offer::Both).await;
    let scene = Scene::step(stage.options(), echo).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    let body = envelope("x", &["work", "sink"], "[1]");
    let size = body.len() as u64;
    scene.house.publish("work", body).await;
    let events = stage.wait_events("x", 3).await;
    let phases: Vec<_> = events
        .iter()
        .map(|event| match event {
            Told::Progress(progress) => {
                assert_eq!(progress.actors, ["work", "sink"]);
                assert_eq!(progress.actor_index, 0);
                progress.phase()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        phases,
        [HopPhase::Received, HopPhase::Processing, HopPhase::Completed]
    );
    let Told::Progress(received) = &events[0] else {
        panic!("progress");
    };
    assert_eq!(received.message_bytes, Some(size));
    let reporter = Arc::clone(&scene.reporter);
    scene.end().await;
    let figures = reporter.figures();
    assert_eq!((figures.progress_sent, figures.unacknowledged), (3, 0));
    assert!(stage.http().is_empty(), "{:?}", stage.http());
    assert_eq!(stage.streams(), 1, "one stream for the process");
}

async fn three(_: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    Ok((0..3)
        .map(|n| HandlerItem::Payload(RawJson::from_value(&n).expect("a number")))
        .collect())
}

#[tokio::test]
async fn children_items_notes_and_retries_are_events_of_their_own() {
    let stage = Stage::start(Offer::Both).await;
    let scene = Scene::step(stage.options(), three).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    scene
        .house
        .publish("work", envelope("p", &["work", "sink"], "0"))
        .await;
    for id in ["p-1", "p-2"] {
        let events = stage.wait_events(id, 1).await;
        let Told::Child(child) = &events[0] else {
            panic!("{events:?}");
        };
        let route = child.route.clone().expect("a route");
        assert_eq!((child.parent_id.as_str(), route.current), ("p", 1));
    }
    let value = r#"{"n": 12345678901234567890,"s":"\u0000"}"#;
    let told = [
        Event::Partial {
            seq: 0,
            value: RawJson::parse(Bytes::copy_from_slice(value.as_bytes())).expect("JSON"),
        },
        Event::Noted {
            fraction: Some(0.5),
            message: Some("half".into()),
        },
        Event::Retrying {
            took: Duration::ZERO,
            attempt: 2,
            after: Duration::from_secs(5),
            error: "processing_error: no".into(),
        },
    ];
    for event in told {
        scene.reporter.progress(progress("y", event));
    }
    let events = stage.wait_events("y", 3).await;
    assert!(
        matches!(&events[..], [Told::Partial(item), Told::Progress(note), Told::Retry(retry)]
            if item.value_json == value && note.fraction == Some(0.5) && note.message == "half" && retry.runs == 1),
        "{events:?}"
    );
    scene.end().await;
}

#[tokio::test]
async fn a_message_is_settled_only_after_its_final_is_acknowledged() {
    let stage = Stage::start(Offer::Both).await;
    let scene = Scene::start("happy-end", Role::HappyEnd, stage.options(), echo).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    stage.hold();
    let body = r#"{"id":"x","route":{"actors":["a"],"current":1},"payload":{"n": 1.50}}"#;
    scene.house.publish("happy-end", body).await;
    let events = stage.wait_events("x", 1).await;
    let Told::Final(last) = &events[0] else {
        panic!("{events:?}");
    };
    let Some(final_report::Result::Succeeded(good)) = &last.result else {
        panic!("{last:?}");
    };
    assert_eq!(good.result_json.as_deref(), Some(r#"{"n": 1.50}"#));
    assert_eq!(scene.house.depth("happy-end").await, 1);
    assert_eq!(scene.reporter.figures().finals_accepted, 0);
    stage.release();
    scene.house.wait_empty("happy-end").await;
    assert_eq!(scene.reporter.figures().finals_accepted, 1);
    scene.end().await;
}

#[tokio::test]
async fn what_the_gateway_does_not_know_is_settled_and_an_unknown_child_is_introduced_first() {
    let stage = Stage::start(Offer::Both).await;
    let known = Arc::clone(&stage.book);
    stage.refuse(move |report| {
        let is_known = |id: &str| {
            let arrived = known.arrived.lock().expect("nobody panicked");
            let made = |report: &&asya_proto::status::v1::EnvelopeReport| {
                matches!(report.event, Some(Told::Child(_)))
            };
            arrived.iter().filter(made).any(|report| report.envelope_id == id)
        };
        let is_unknown = matches!(report.event, Some(Told::Final(_))) && !is_known(&report.envelope_id);
        is_unknown.then_some(ReportRefusalReason::UnknownEnvelope)
    });
    let reporter = reporter(stage.options()).await;
    reporter.finish(last("stranger", "1")).await.expect("settled");
    assert_eq!(reporter.figures().finals_unknown, 1);
    let body = r#"{"id":"p-1","parent_id":"p","route":{"actors":["a","b"],"current":2},"payload":1}"#;
    let report = FinalReport {
        message: Bytes::from_static(body.as_bytes()),
        ..last("p-1", "1")
    };
    reporter.finish(report).await.expect("settled");
    let events = stage.events("p-1");
    assert!(
        matches!(&events[..], [Told::Child(_), Told::Final(_)]),
        "{events:?}"
    );
    assert_eq!(reporter.figures().finals_accepted, 1);
    reporter.close(PATIENCE).await;
}

#[tokio::test]
async fn a_result_that_is_too_large_leaves_its_status_whoever_finds_that() {
    let stage = Stage::start(Offer::Both).await;
    stage.limit(100, 2000);
    let reporter = reporter(stage.options()).await;
    let large = format!("\"{}\"", "x".repeat(5000));
    reporter.finish(last("x", &large)).await.expect("settled");
    assert_eq!(
        stage.book.arrived.lock().expect("nobody panicked").len(),
        1,
        "not sent in vain"
    );
    stage.refuse(|report| match &report.event {
        Some(Told::Final(last)) => {
            let text = format!("{last:?}");
            text.contains("result_json: Some")
                .then_some(ReportRefusalReason::TooLarge)
        }
        _ => None,
    });
    reporter.finish(last("y", "1")).await.expect("settled");
    for id in ["x", "y"] {
        let events = stage.events(id);
        assert!(
            matches!(&events[..], [Told::Final(last)]
                if matches!(&last.result, Some(final_report::Result::Succeeded(good)) if good.result_json.is_none())),
            "{events:?}"
        );
    }
    assert_eq!(reporter.figures().finals_accepted, 2);
    reporter.close(PATIENCE).await;
}

/// Streams are cut at any point while finals, children and progress of many envelopes are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_cut_at_any_point_lose_no_final_and_no_child_and_keep_the_order() {
    const ENVELOPES: usize = 400;
    let stage = Arc::new(Stage::start(Offer::Both).await);
    stage.limit(16, 1024 * 1024);
    let reporter = reporter(stage.options()).await;
    let tell = async {
        let mut telling = tokio::task::JoinSet::new();
        for n in 0..ENVELOPES {
            let id = format!("e-{n}");
            reporter.progress(progress(&id, child(n)));
            reporter.progress(progress(&id, Event::Received { bytes: 1 }));
            let value = RawJson::from_value(&n).expect("a number");
            reporter.progress(progress(&id, Event::Partial { seq: 0, value }));
            let reporter = Arc::clone(&reporter);
            telling.spawn(async move { reporter.finish(last(&id, "1")).await.expect("accepted") });
            tokio::task::yield_now().await;
        }
        while let Some(told) = telling.join_next().await {
            told.expect("told");
        }
    };
    let cut = async {
        let mut pause = 1_u64;
        loop {
            tokio::time::sleep(Duration::from_millis(10 + pause % 60)).await;
            pause = pause
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407)
                >> 3;
            stage.proxy.cut();
        }
    };
    tokio::select! {
        () = tell => {}
        () = cut => {}
    }
    reporter.close(PATIENCE).await;
    assert!(stage.streams() > 3, "streams were cut: {}", stage.streams());
    let instances: BTreeSet<_> = stage.instances().into_iter().collect();
    assert_eq!(instances.len(), 1, "one process is one instance");
    let mut events: BTreeMap<String, Vec<Told>> = BTreeMap::new();
    for report in stage.stored() {
        let event = report.event.expect("an event");
        events.entry(report.envelope_id).or_default().push(event);
    }
    let told = |id: &str| events.get(id).map_or(&[][..], Vec::as_slice);
    // A gateway that is cut off each time it is asked for gRPC, and never when it is asked for its health, is told over
    // HTTP. That may happen here, and loses items of streams, but no final and no child.
    let http = stage.http();
    for n in 0..ENVELOPES {
        let id = format!("e-{n}");
        let place = |is: fn(&Told) -> bool| told(&id).iter().position(is);
        let end = place(|event| matches!(event, Told::Final(_)));
        let item = place(|event| matches!(event, Told::Partial(_)));
        assert!(
            end.is_some() || http.contains(&format!("POST /envelopes/{id}/final")),
            "{id}"
        );
        assert!(item.is_some() || !http.is_empty(), "{id}: an item is lost");
        assert!(end.is_none() || item < end, "{id}: {:?}", told(&id));
    }
    let is_child = |event: &&Told| matches!(event, Told::Child(_));
    let children = events.values().flatten().filter(is_child).count();
    let over_http = http.iter().filter(|line| *line == "POST /envelopes").count();
    assert!(children + over_http >= ENVELOPES, "{children} and {over_http}");
    let figures = reporter.figures();
    assert_eq!(figures.finals_accepted, ENVELOPES as u64, "{figures:?}");
    assert_eq!(
        (figures.children_sent, figures.children_lost),
        (ENVELOPES as u64, 0)
    );
}

#[tokio::test]
async fn a_half_open_connection_is_noticed_and_what_it_swallowed_is_told_again() {
    let stage = Stage::start(Offer::Both).await;
    let mut options = stage.options();
    options.request_timeout = Duration::from_millis(500);
    let reporter = reporter(options).await;
    stage.proxy.swallow();
    let telling = tokio::spawn({
        let reporter = Arc::clone(&reporter);
        async move { reporter.finish(last("x", "1")).await }
    });
    wait_for("the report to be on its way", async || {
        reporter.figures().unacknowledged == 1
    })
    .await;
    wait_for("the silence to be noticed", async || reporter.figures().away).await;
    stage.proxy.heal();
    telling.await.expect("told").expect("accepted");
    assert_eq!(stage.events("x").len(), 1);
    reporter.close(PATIENCE).await;
}

#[tokio::test]
async fn a_gateway_that_goes_away_gets_nothing_more_and_all_of_it_later() {
    let stage = Stage::start(Offer::Both).await;
    let reporter = reporter(stage.options()).await;
    stage.hold();
    let tell = |id: &'static str| {
        let reporter = Arc::clone(&reporter);
        tokio::spawn(async move { reporter.finish(last(id, "1")).await })
    };
    let first = tell("first");
    stage.wait_events("first", 1).await;
    stage.go_away(Duration::ZERO);
    // It keeps acknowledging what it has; only then the stream ends.
    stage.release();
    first.await.expect("told").expect("accepted");
    stage.wait_streams(2).await;
    let second = tell("second");
    second.await.expect("told").expect("accepted");
    assert_eq!(
        stage.book.arrived.lock().expect("nobody panicked").len(),
        2,
        "nothing twice"
    );
    let figures = reporter.figures();
    assert!(!figures.away && figures.finals_returned == 0, "{figures:?}");
    reporter.close(PATIENCE).await;
}

#[tokio::test]
async fn a_slow_gateway_costs_bounded_memory_and_progress_alone() {
    const REPORTS: usize = 20_000;
    let stage = Stage::start(Offer::Both).await;
    stage.limit(64, 1024 * 1024);
    let mut options = stage.options();
    options.max_waiting = 800;
    options.request_timeout = Duration::from_mins(1);
    let reporter = reporter(options).await;
    stage.hold();
    for n in 0..REPORTS {
        reporter.progress(progress(&format!("id-{n}"), Event::Received { bytes: 1 }));
        if n % 100 == 0 {
            tokio::task::yield_now().await;
            let figures = reporter.figures();
            assert!(
                figures.unacknowledged <= 64 && figures.waiting <= 800,
                "{figures:?}"
            );
        }
    }
    for n in 0..100 {
        reporter.progress(progress("p", child(n)));
    }
    stage.release();
    wait_for("all children", async || reporter.figures().children_sent == 100).await;
    reporter.close(PATIENCE).await;
    let figures = reporter.figures();
    assert_eq!(
        figures.progress_sent + figures.progress_dropped,
        REPORTS as u64,
        "{figures:?}"
    );
    assert!(
        figures.progress_dropped > 0 && figures.progress_sent >= 48,
        "{figures:?}"
    );
}

#[tokio::test]
async fn messages_move_on_while_the_gateway_is_away_and_its_finals_come_when_it_is_back() {
    const MESSAGES: usize = 40;
    let mut stage = Stage::start(Offer::Both).await;
    let scene = Scene::step(stage.options(), echo).await;
    wait_for("gRPC", async || scene.reporter.figures().grpc).await;
    let end = reporter(stage.options()).await;
    stage.vanish().await;
    for n in 0..MESSAGES {
        let message = envelope(&format!("id-{n}"), &["work", "sink"], "1");
        scene.house.publish("work", message).await;
    }
    let telling = tokio::spawn({
        let end = Arc::clone(&end);
        async move { end.finish(last("x", "1")).await }
    });
    scene.house.take("sink", MESSAGES).await;
    scene.house.wait_empty("work").await;
    scene.reporter.progress(progress("late", child(1)));
    stage.appear(Offer::Both).await;
    telling.await.expect("told").expect("accepted");
    stage.wait_events("p-1", 1).await;
    assert!(stage.http().is_empty(), "it waits for gRPC: {:?}", stage.http());
    scene.end().await;
    end.close(PATIENCE).await;
}

#[tokio::test]
async fn a_store_that_is_away_ends_streams_and_nothing_is_lost_by_that() {
    let stage = Stage::start(Offer::Both).await;
    let reporter = reporter(stage.options()).await;
    stage.end_streams(Some(Status::unavailable("the store is out of reach")));
    let telling = tokio::spawn({
        let reporter = Arc::clone(&reporter);
        async move { reporter.finish(last("x", "1")).await }
    });
    stage.wait_streams(3).await;
    assert!(!telling.is_finished());
    stage.end_streams(None);
    telling.await.expect("told").expect("accepted");
    assert!(stage.http().is_empty(), "{:?}", stage.http());
    reporter.close(PATIENCE).await;
}

#[tokio::test]
async fn the_token_is_shown_in_both_protocols_and_in_no_other_place() {
    let stage = Stage::start(Offer::Both).await;
    let mut options = stage.options();
    options.token = Some(GatewayToken::text("s3cret").expect("a token"));
    assert!(!format!("{options:?}").contains("s3cret"));
    let reporter = reporter(options).await;
    assert_eq!(stage.authorizations(), ["Bearer s3cret"]);
    reporter.close(PATIENCE).await;
    let gateway = crate::server::Gateway::friendly().await;
    let mut options = gateway.options_with("user:password@");
    options.token = Some(GatewayToken::text("s3cret").expect("a token"));
    let reporter = GatewayReporter::start(options).expect("a reporter");
    reporter.finish(last("x", "1")).await.expect("accepted");
    assert_eq!(gateway.told()[0].authorization, "Bearer s3cret");
    reporter.close(PATIENCE).await;
}
