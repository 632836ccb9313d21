//! Which protocol is spoken: gRPC when the gateway offers it, HTTP otherwise, and no final lost in between.

use std::sync::Arc;

use asya_sidecar::gateway::{GatewayProtocol, GatewayReporter};
use asya_sidecar::{Event, Reporter as _};
use tonic::Status;

use crate::common::{PATIENCE, wait_for};
use crate::server::{Gateway, Reply};
use crate::stage::{Offer, Stage};
use crate::streams::{last, progress, reporter};

#[tokio::test]
async fn a_gateway_without_grpc_is_told_over_http() {
    let stage = Stage::start(Offer::HttpAlone).await;
    let reporter = GatewayReporter::start(stage.options()).expect("a reporter");
    reporter.finish(last("x", "1")).await.expect("accepted");
    assert_eq!(stage.http(), ["POST /envelopes/x/final"]);
    assert!(!reporter.figures().grpc);
    reporter.close(PATIENCE).await;
}

/// A server that knows HTTP/1.1 alone, as the original's.
#[tokio::test]
async fn a_gateway_that_knows_no_http2_is_told_over_http() {
    let gateway = Gateway::friendly().await;
    let mut options = gateway.options();
    options.protocol = GatewayProtocol::Auto;
    let reporter = GatewayReporter::start(options).expect("a reporter");
    for n in 0..20 {
        reporter
            .finish(last(&format!("x-{n}"), "1"))
            .await
            .expect("accepted");
    }
    let about = |line: &str| line.ends_with("/final");
    let finals = gateway
        .told()
        .iter()
        .filter(|request| about(&request.line))
        .count();
    assert_eq!(finals, 20);
    assert!(!reporter.figures().away);
    reporter.close(PATIENCE).await;
}

#[tokio::test]
async fn a_gateway_that_gains_grpc_is_told_over_it_from_then_on() {
    let mut stage = Stage::start(Offer::HttpAlone).await;
    let reporter = GatewayReporter::start(stage.options()).expect("a reporter");
    reporter.finish(last("before", "1")).await.expect("accepted");
    stage.vanish().await;
    stage.appear(Offer::Both).await;
    wait_for("reports to go over gRPC", async || reporter.figures().grpc).await;
    reporter.finish(last("after", "1")).await.expect("accepted");
    assert_eq!(stage.events("after").len(), 1);
    assert_eq!(stage.http(), ["POST /envelopes/before/final"]);
    reporter.close(PATIENCE).await;
}

#[tokio::test]
async fn a_gateway_that_loses_grpc_is_told_over_http_what_it_did_not_acknowledge() {
    let mut stage = Stage::start(Offer::Both).await;
    let reporter = reporter(stage.options()).await;
    stage.hold();
    reporter.progress(progress(
        "x",
        Event::Child {
            id: "p-1".into(),
            parent_id: "p".into(),
        },
    ));
    let telling = tokio::spawn({
        let reporter = Arc::clone(&reporter);
        async move { reporter.finish(last("x", "1")).await }
    });
    stage.wait_events("x", 1).await;
    stage.wait_events("p-1", 1).await;
    stage.vanish().await;
    stage.appear(Offer::HttpAlone).await;
    telling.await.expect("told").expect("accepted");
    wait_for("the child", async || reporter.figures().children_sent == 1).await;
    let mut http = stage.http();
    http.sort();
    assert_eq!(http, ["POST /envelopes", "POST /envelopes/x/final"]);
    reporter.close(PATIENCE).await;
}

/// A report that the gateway can never take must not hold up all others for ever.
#[tokio::test]
async fn a_gateway_that_ends_every_stream_for_what_is_sent_is_told_over_http() {
    let stage = Stage::start(Offer::Both).await;
    let reporter = reporter(stage.options()).await;
    stage.end_streams(Some(Status::invalid_argument("no such thing")));
    reporter.finish(last("x", "1")).await.expect("accepted");
    assert_eq!(stage.http(), ["POST /envelopes/x/final"]);
    reporter.close(PATIENCE).await;
}

#[tokio::test]
async fn grpc_is_not_tried_where_http_is_chosen() {
    let stage = Stage::start(Offer::Both).await;
    let mut options = stage.options();
    options.protocol = GatewayProtocol::Http;
    let reporter = GatewayReporter::start(options).expect("a reporter");
    reporter.finish(last("x", "1")).await.expect("accepted");
    assert_eq!((stage.http().len(), stage.streams()), (1, 0));
    reporter.close(PATIENCE).await;
}

#[tokio::test]
async fn a_gateway_that_hangs_costs_no_start_and_no_end() {
    let gateway = Gateway::start(|_| Reply::Never).await;
    let mut options = gateway.options();
    options.protocol = GatewayProtocol::Auto;
    let reporter = GatewayReporter::start(options).expect("a reporter");
    wait_for("the connection", async || gateway.connections() > 0).await;
    tokio::time::timeout(PATIENCE, reporter.close(PATIENCE * 10))
        .await
        .expect("ends at once");
}
