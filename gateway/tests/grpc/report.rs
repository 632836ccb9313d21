//! What sidecars report, and what comes of it.

use std::collections::BTreeMap;

use asya_gateway::grpc::GrpcOptions;
use asya_proto::status::v1::{
    EnvelopeOutcome, EnvelopeState, FailedResult, Failure, FinalReport, HopPhase, HopRetry,
    ReportRefusalReason, Route, envelope_report, final_report,
};
use tonic::Code;

use super::harness::{Plan, Server, partial, progress, report, succeeded};

#[tokio::test]
async fn progress_and_the_last_word_are_stored_and_acknowledged_in_order() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    assert!(sidecar.welcome.max_unacknowledged > 0 && sidecar.welcome.max_report_bytes > 0);
    sidecar
        .send(report(1, "x", progress(0, HopPhase::Received)))
        .await;
    sidecar.acked(1).await;
    let shown = server.get("x").await;
    assert_eq!(
        (shown.state(), shown.route.unwrap().current),
        (EnvelopeState::Running, 0)
    );
    assert!(shown.progress_percent > 0.0);
    sidecar
        .send(report(2, "x", progress(0, HopPhase::Completed)))
        .await;
    sidecar
        .send(report(3, "x", progress(1, HopPhase::Processing)))
        .await;
    sidecar.acked(3).await;
    let shown = server.get("x").await;
    assert_eq!((shown.actors_completed, shown.route.unwrap().current), (1, 1));
    let result =
        r#"{"big":123456789012345678901234567890,"f":1.50,"e":1e400,"s":"\u0000\ud800","b":1,"a":2}"#;
    sidecar.send(report(4, "x", succeeded(result))).await;
    sidecar.acked(4).await;
    let shown = server.get("x").await;
    assert_eq!(
        (shown.state(), shown.outcome()),
        (EnvelopeState::Succeeded, EnvelopeOutcome::Succeeded)
    );
    assert_eq!(shown.result_json.as_deref(), Some(result), "byte for byte");
    assert_eq!(
        shown.payload_json.as_deref(),
        Some(r#"{"n":12345678901234567890,"f":1.0}"#)
    );
    assert!((shown.progress_percent - 100.0).abs() < f64::EPSILON);
    assert_eq!(shown.failure, None);
}

#[tokio::test]
async fn a_failure_keeps_its_details_byte_for_byte() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    let details = r#"{"message":"no","type":"shop.Broke","traceback":"line 1", "n":12345678901234567890}"#;
    let failure = Failure {
        error: "processing_error".to_owned(),
        details_json: Some(details.to_owned()),
        ..Failure::default()
    };
    let event = envelope_report::Event::Final(FinalReport {
        result: Some(final_report::Result::Failed(FailedResult {
            failure: Some(failure),
            original_payload_json: None,
            stored_at: "file:///errors/x.json".to_owned(),
        })),
        route: Some(Route {
            actors: vec!["a".to_owned(), "b".to_owned()],
            current: 1,
        }),
    });
    sidecar.send(report(1, "x", event)).await;
    sidecar.acked(1).await;
    let shown = server.get("x").await;
    assert_eq!(
        (shown.state(), shown.outcome()),
        (EnvelopeState::Failed, EnvelopeOutcome::Failed)
    );
    let failure = shown.failure.unwrap();
    assert_eq!(failure.details_json.as_deref(), Some(details));
    assert_eq!(
        (failure.error.as_str(), failure.message.as_str()),
        ("processing_error", "no")
    );
    assert_eq!(
        (failure.exception_type.as_str(), failure.actor.as_str()),
        ("shop.Broke", "b")
    );
    assert_eq!(shown.stored_at, "file:///errors/x.json");
    let last = server.history("x").await.pop().unwrap();
    assert_eq!(last.failure.unwrap().details_json.as_deref(), Some(details));
}

fn retry(runs: u32) -> envelope_report::Event {
    envelope_report::Event::Retry(HopRetry {
        actor_index: 0,
        runs,
        failure: Some(Failure {
            error: "processing_error".to_owned(),
            message: "bad luck".to_owned(),
            ..Failure::default()
        }),
        next_run_at: None,
    })
}

#[tokio::test]
async fn a_replay_after_a_reconnect_changes_nothing() {
    let server = Server::start().await;
    server.envelope("x").await;
    let reports = [
        report(1, "x", progress(0, HopPhase::Received)),
        report(2, "x", partial(0, 0, "[0]")),
        report(3, "x", retry(1)),
        report(4, "x", progress(0, HopPhase::Processing)),
        report(5, "x", partial(0, 0, "[0]")),
        report(6, "x", partial(0, 1, "[1]")),
        report(7, "x", progress(0, HopPhase::Completed)),
    ];
    let mut sidecar = server.sidecar("one").await;
    for told in &reports {
        sidecar.send(told.clone()).await;
    }
    sidecar.acked(7).await;
    let before = server.get("x").await;
    drop(sidecar);
    // The acknowledgements were lost on the way, and all of it comes again, twice.
    for _ in 0..2 {
        let mut sidecar = server.sidecar("one").await;
        for told in &reports {
            sidecar.send(told.clone()).await;
        }
        assert!(sidecar.acked(7).await.iter().all(|ack| ack.refusals.is_empty()));
    }
    assert_eq!(server.get("x").await, before);
    let mut sidecar = server.sidecar("one").await;
    sidecar.send(report(8, "x", succeeded("1"))).await;
    sidecar.acked(8).await;
    let ended = server.get("x").await;
    let mut sidecar = server.sidecar("one").await;
    for told in reports.iter().chain([&report(8, "x", succeeded("2"))]) {
        sidecar.send(told.clone()).await;
    }
    sidecar.acked(8).await;
    assert_eq!(server.get("x").await, ended);
    let history = server.history("x").await;
    let items: Vec<_> = history
        .iter()
        .filter_map(|update| update.partial.as_ref())
        .collect();
    let items: Vec<_> = items
        .iter()
        .map(|item| (item.index, item.value_json.as_str()))
        .collect();
    assert_eq!(items, [(0, "[0]"), (0, "[0]"), (1, "[1]")]);
    let retries = history.iter().filter_map(|update| update.failure.as_ref());
    assert_eq!(
        retries
            .map(|failure| failure.message.as_str())
            .collect::<Vec<_>>(),
        ["bad luck"]
    );
}

#[tokio::test]
async fn a_final_word_counts_even_under_a_number_that_was_used_before() {
    let server = Server::start().await;
    server.envelope("x").await;
    server.envelope("y").await;
    let mut sidecar = server.sidecar("fixed-name").await;
    sidecar.send(report(5, "x", succeeded("1"))).await;
    sidecar.acked(5).await;
    drop(sidecar);
    // A process that counts anew under the same name: its memory here must not swallow an output.
    let mut sidecar = server.sidecar("fixed-name").await;
    sidecar.send(report(1, "y", succeeded("2"))).await;
    sidecar.acked(1).await;
    assert_eq!(server.get("y").await.result_json.as_deref(), Some("2"));
}

#[tokio::test]
async fn forged_sequence_numbers_end_the_stream_and_what_came_before_is_stored() {
    for forged in [2, 1, 0] {
        let server = Server::start().await;
        server.envelope("x").await;
        let mut sidecar = server.sidecar("one").await;
        sidecar
            .send(report(2, "x", progress(1, HopPhase::Processing)))
            .await;
        sidecar.send(report(forged, "x", succeeded("1"))).await;
        assert_eq!(sidecar.end().await, Code::InvalidArgument, "{forged}");
        let shown = server.get("x").await;
        assert_eq!(
            (shown.state(), shown.route.unwrap().current),
            (EnvelopeState::Running, 1)
        );
    }
}

#[tokio::test]
async fn what_is_refused_is_told_with_its_number_and_the_rest_is_stored() {
    use ReportRefusalReason::{Invalid, TooLarge, UnknownEnvelope};

    let options = GrpcOptions {
        max_report_bytes: 100_000,
        ..GrpcOptions::default()
    };
    let server = Server::of(Plan {
        options,
        ..Plan::default()
    })
    .await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    assert_eq!(sidecar.welcome.max_report_bytes, 100_000);
    let large = format!("\"{}\"", "x".repeat(150_000));
    let told = [
        report(1, "x", progress(0, HopPhase::Received)),
        report(2, "", progress(0, HopPhase::Received)),
        report(3, "nobody", progress(0, HopPhase::Received)),
        report(4, "x", partial(0, 0, "{garbage")),
        report(5, "x", partial(0, 0, &large)),
        report(6, "a\0b", succeeded("1")),
        report(7, "nobody", succeeded("1")),
        report(8, "x", succeeded(r#"{"a":}"#)),
        report(9, "x", partial(0, 0, "7")),
        report(10, "x", succeeded("8")),
    ];
    for told in told {
        sidecar.send(told).await;
    }
    let refusals: BTreeMap<_, _> = sidecar
        .acked(10)
        .await
        .into_iter()
        .flat_map(|ack| ack.refusals)
        .map(|refusal| (refusal.sequence, refusal.reason()))
        .collect();
    let expected = [
        (2, Invalid),
        (3, UnknownEnvelope),
        (4, Invalid),
        (5, TooLarge),
        (6, UnknownEnvelope),
        (7, UnknownEnvelope),
        (8, Invalid),
    ];
    assert_eq!(refusals, BTreeMap::from(expected));
    let history = server.history("x").await;
    assert_eq!(
        history.iter().filter(|update| update.partial.is_some()).count(),
        1
    );
    assert_eq!(history.last().unwrap().result_json.as_deref(), Some("8"));
}

#[tokio::test]
async fn a_message_far_above_the_limit_ends_its_stream_alone() {
    let options = GrpcOptions {
        max_report_bytes: 100_000,
        ..GrpcOptions::default()
    };
    let server = Server::of(Plan {
        options,
        ..Plan::default()
    })
    .await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    sidecar
        .send(report(
            1,
            "x",
            partial(0, 0, &format!("\"{}\"", "x".repeat(3_000_000))),
        ))
        .await;
    assert_eq!(sidecar.end().await, Code::OutOfRange);
    let mut sidecar = server.sidecar("one").await;
    sidecar.send(report(2, "x", succeeded("1"))).await;
    sidecar.acked(2).await;
}

#[tokio::test]
async fn texts_with_nul_are_stored_all_the_same() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    let event = envelope_report::Event::Final(FinalReport {
        result: Some(final_report::Result::Failed(FailedResult {
            failure: Some(Failure {
                error: "a\0b".to_owned(),
                message: "c\0d".to_owned(),
                actor: "e\0f".to_owned(),
                ..Failure::default()
            }),
            original_payload_json: Some(r#""\u0000""#.to_owned()),
            stored_at: "g\0h".to_owned(),
        })),
        route: Some(Route {
            actors: vec!["i\0j".to_owned()],
            current: 0,
        }),
    });
    sidecar.send(report(1, "x", event)).await;
    assert!(sidecar.ack().await.refusals.is_empty());
    let shown = server.get("x").await;
    assert_eq!(shown.failure.as_ref().unwrap().error, "a\u{fffd}b");
    assert_eq!(
        shown.failure.unwrap().message,
        "c\0d",
        "inside JSON a NUL is kept"
    );
}

#[tokio::test]
async fn a_huge_route_and_deep_json_are_taken() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let mut event = progress(u32::MAX, HopPhase::Completed);
    if let envelope_report::Event::Progress(progress) = &mut event {
        progress.actors = vec!["a".to_owned(); 10_000];
    }
    sidecar.send(report(1, "x", partial(0, 0, &deep))).await;
    sidecar.send(report(u64::MAX, "x", event)).await;
    sidecar.acked(u64::MAX).await;
    let shown = server.get("x").await;
    assert!(shown.progress_percent <= 100.0);
    assert_eq!(shown.route.unwrap().actors.len(), 10_000);
}
