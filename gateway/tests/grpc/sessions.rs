//! The life of a sidecar's stream: its first message, its end, and what the gateway says on its own.

use std::time::Duration;

use asya_gateway::auth::{Caller, Role};
use asya_gateway::grpc::GrpcOptions;
use asya_proto::status::v1::{
    ChildCreated, EnvelopeOutcome, EnvelopeState, HopPhase, ReportRefusalReason, Route, SidecarHello,
    envelope_report, report_envelopes_request,
};
use tonic::Code;

use super::harness::{Plan, Said, Server, Sidecar, partial, progress, report, soon, succeeded};

#[tokio::test]
async fn of_two_streams_of_a_process_the_newer_one_is_served() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut old = server.sidecar("one").await;
    let mut other = server.sidecar("another").await;
    let mut new = server.sidecar("one").await;
    assert_eq!(old.end().await, Code::Aborted);
    for sidecar in [&mut new, &mut other] {
        sidecar
            .send(report(1, "x", progress(0, HopPhase::Received)))
            .await;
        sidecar.acked(1).await;
    }
}

#[tokio::test]
async fn hello_comes_first_and_once() {
    let hello = |instance: &str| {
        report_envelopes_request::Kind::Hello(SidecarHello {
            instance_id: instance.to_owned(),
            ..SidecarHello::default()
        })
    };
    let options = GrpcOptions {
        hello: Duration::from_millis(200),
        ..GrpcOptions::default()
    };
    let server = Server::of(Plan {
        options,
        ..Plan::default()
    })
    .await;
    let early = report_envelopes_request::Kind::Report(report(1, "x", succeeded("1")));
    for first in [early, hello(""), hello(&"x".repeat(257))] {
        let (_outbound, mut answers) = Sidecar::raw(server.channel().await, first).await;
        let end = soon("the end", answers.message()).await.unwrap_err();
        assert_eq!(end.code(), Code::InvalidArgument);
    }
    for second in [Some(hello("two")), None] {
        let mut sidecar = server.sidecar("one").await;
        sidecar.send_any(second).await;
        assert_eq!(sidecar.end().await, Code::InvalidArgument);
    }
    let (outbound, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let silent = server.client().await.report(requests).await.unwrap();
    let end = soon("the end", silent.into_inner().message()).await.unwrap_err();
    assert_eq!(
        end.code(),
        Code::InvalidArgument,
        "whoever says nothing is not waited for"
    );
    drop(outbound);
}

#[tokio::test]
async fn a_sidecar_that_has_said_all_is_answered_to_the_end() {
    let server = Server::start().await;
    server.envelope("x").await;
    let sidecar = server.sidecar("one").await;
    sidecar.send(report(1, "x", succeeded("1"))).await;
    let mut answers = sidecar.finish();
    let last = soon("the acknowledgement", answers.message())
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(last.kind, Some(Said::Ack(ack)) if ack.sequence == 1));
    assert!(soon("the end", answers.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_cancellation_reaches_every_sidecar_and_comes_again_after_a_reconnect() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecars = [server.sidecar("one").await, server.sidecar("two").await];
    server
        .gateway
        .cancel(&Caller::anonymous(), "x", "not wanted")
        .await
        .unwrap();
    for sidecar in &mut sidecars {
        let notice = sidecar.notice().await;
        assert_eq!(
            (notice.envelope_id.as_str(), notice.reason.as_str()),
            ("x", "not wanted")
        );
        assert!(notice.keep_until.is_some());
    }
    drop(sidecars);
    let mut again = server.sidecar("one").await;
    assert_eq!(again.notice().await.envelope_id, "x");
    // What its handler still says changes nothing.
    again.send(report(1, "x", succeeded("1"))).await;
    assert!(again.ack().await.refusals.is_empty());
    let shown = server.get("x").await;
    assert_eq!(shown.outcome(), EnvelopeOutcome::Cancelled);
    assert_eq!(shown.failure.unwrap().error, "cancelled");
}

#[tokio::test]
async fn children_are_registered_once_and_after_what_was_said_before_them() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    let child = |parent: &str, actors: &[&str]| {
        envelope_report::Event::Child(ChildCreated {
            parent_id: parent.to_owned(),
            route: Some(Route {
                actors: actors.iter().map(|name| (*name).to_owned()).collect(),
                current: 1,
            }),
        })
    };
    let told = [
        report(1, "x", progress(0, HopPhase::Processing)),
        report(2, "x-1", child("x", &["a", "b"])),
        report(3, "x-1", progress(1, HopPhase::Received)),
        report(4, "x-1", child("x", &["a", "b"])),
        report(5, "x-1", child("x", &["a", "other"])),
        report(6, "x-1", child("y", &["a", "b"])),
        report(7, "x-2", child("x", &["a", "b"])),
        report(8, "x-1", succeeded("1")),
    ];
    for told in told {
        sidecar.send(told).await;
    }
    let refusals: Vec<_> = sidecar
        .acked(8)
        .await
        .into_iter()
        .flat_map(|ack| ack.refusals)
        .collect();
    assert_eq!(
        refusals
            .iter()
            .map(|refusal| refusal.sequence)
            .collect::<Vec<_>>(),
        [6]
    );
    assert_eq!(refusals[0].reason(), ReportRefusalReason::Invalid);
    let parent = server.get("x").await;
    let counts = parent.children.unwrap();
    assert_eq!((counts.running, counts.succeeded), (1, 1));
    assert_eq!(server.get("x-1").await.parent_id, "x");
}

#[tokio::test]
async fn draining_is_announced_and_what_is_on_the_way_is_still_taken() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    server.gateway.drain();
    let Some(Said::GoAway(away)) = sidecar.hear().await.unwrap() else {
        panic!("no farewell");
    };
    assert!(away.reconnect_after.is_some());
    sidecar.send(report(1, "x", succeeded("1"))).await;
    sidecar.acked(1).await;
    assert_eq!(sidecar.end().await, Code::Unavailable);
    assert_eq!(server.get("x").await.state(), EnvelopeState::Succeeded);
}

#[tokio::test]
async fn a_process_that_never_reads_is_served_no_faster_than_it_reads() {
    let options = GrpcOptions {
        max_unacknowledged: 4,
        ..GrpcOptions::default()
    };
    let server = Server::of(Plan {
        options,
        ..Plan::default()
    })
    .await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    assert_eq!(sidecar.welcome.max_unacknowledged, 4);
    // Far more than it may have open, without a look at the acknowledgements: backpressure, and nothing is lost.
    for n in 0..3000 {
        sidecar
            .send(report(
                n + 1,
                "x",
                partial(0, u32::try_from(n).unwrap(), &n.to_string()),
            ))
            .await;
    }
    sidecar.send(report(3001, "x", succeeded("1"))).await;
    sidecar.acked(3001).await;
    let items: Vec<_> = server
        .history("x")
        .await
        .into_iter()
        .filter_map(|update| update.partial)
        .collect();
    let values: Vec<u32> = items
        .iter()
        .map(|item| item.value_json.parse().unwrap())
        .collect();
    assert_eq!(values, (0..3000).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_may_report_is_a_question_of_the_role() {
    for (roles, expected) in [
        (vec![Role::Client, Role::Operator], Some(Code::PermissionDenied)),
        (vec![Role::Sidecar], None),
    ] {
        let caller = Caller {
            roles: roles.into_iter().collect(),
            ..Caller::anonymous()
        };
        let server = Server::of(Plan {
            caller: Some(caller),
            ..Plan::default()
        })
        .await;
        let requests = tokio_stream::empty();
        let answer = server.client().await.report(requests).await;
        assert_eq!(answer.err().map(|status| status.code()), expected);
    }
}
