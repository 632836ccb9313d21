//! The services in their place: behind the checks of the whole gateway, on the port of REST.

use std::sync::Arc;

use asya_gateway::auth::TokenDigest;
use asya_gateway::core::{ReportSource, ToolBook};
use asya_gateway::life::Server;
use asya_gateway::settings::Settings;
use asya_proto::status::v1::envelope_status_client::EnvelopeStatusClient;
use asya_proto::status::v1::{
    EnvelopeState, GetEnvelopeRequest, ReportEnvelopesRequest, ReportEnvelopesResponse, SidecarHello,
    report_envelopes_request,
};
use asya_transport::local::{LocalOptions, LocalTransport};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Streaming};

use super::harness::{Said, report, running, soon, succeeded};

const TOKEN: &str = "a-token-of-sidecars-that-is-long-enough-0123456789";

async fn gateway() -> (Server, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let transport = LocalTransport::open(&directory.path().join("queues"), &LocalOptions::default()).unwrap();
    let mut settings = Settings::embedded(directory.path(), 0, Arc::new(transport), ToolBook::empty());
    settings.auth.sidecars = Some(TokenDigest::of(TOKEN));
    (Server::start(settings).await.unwrap(), directory)
}

async fn channel(server: &Server) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
    soon("a connection", endpoint.connect()).await.unwrap()
}

type Outbound = mpsc::Sender<ReportEnvelopesRequest>;

async fn stream(
    server: &Server,
    token: Option<&str>,
) -> Result<(Outbound, Streaming<ReportEnvelopesResponse>), tonic::Status> {
    let (outbound, requests) = mpsc::channel(16);
    let hello = report_envelopes_request::Kind::Hello(SidecarHello {
        instance_id: "one".to_owned(),
        ..SidecarHello::default()
    });
    outbound
        .send(ReportEnvelopesRequest { kind: Some(hello) })
        .await
        .unwrap();
    let mut request = Request::new(ReceiverStream::new(requests));
    if let Some(token) = token {
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let answers = soon(
        "a stream",
        EnvelopeStatusClient::new(channel(server).await).report(request),
    )
    .await?;
    Ok((outbound, answers.into_inner()))
}

async fn hear(answers: &mut Streaming<ReportEnvelopesResponse>) -> Said {
    soon("a word", answers.message())
        .await
        .unwrap()
        .unwrap()
        .kind
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_token_reports_and_rest_shows_what_was_reported() {
    let (server, _directory) = gateway().await;
    server
        .gateway()
        .register_child(ReportSource::Grpc, running("x"))
        .await
        .unwrap();
    for token in [None, Some("wrong")] {
        let status = stream(&server, token).await.err().unwrap();
        assert!(
            matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated),
            "{status:?}"
        );
    }
    let (outbound, mut answers) = stream(&server, Some(TOKEN)).await.unwrap();
    assert!(matches!(hear(&mut answers).await, Said::Welcome(_)));
    let told = report_envelopes_request::Kind::Report(report(1, "x", succeeded("[1.0]")));
    outbound
        .send(ReportEnvelopesRequest { kind: Some(told) })
        .await
        .unwrap();
    assert!(
        matches!(hear(&mut answers).await, Said::Ack(ack) if ack.sequence == 1 && ack.refusals.is_empty())
    );
    let get = GetEnvelopeRequest {
        id: "x".to_owned(),
        ..GetEnvelopeRequest::default()
    };
    let shown = EnvelopeStatusClient::new(channel(&server).await)
        .get(get)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown.envelope.unwrap().state(), EnvelopeState::Succeeded);
    let body = reqwest::get(format!("{}/envelopes/x", server.url()))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(body.contains(r#""result":[1.0]"#), "{body}");
    server.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_service_is_unimplemented() {
    let (server, _directory) = gateway().await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let request = client
        .post(format!("{}/asya.status.v9.Nothing/Get", server.url()))
        .header("content-type", "application/grpc")
        .body(vec![0; 5]);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "12");
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_tells_sidecars_and_takes_what_they_still_say() {
    let (server, _directory) = gateway().await;
    server
        .gateway()
        .register_child(ReportSource::Grpc, running("x"))
        .await
        .unwrap();
    let (outbound, mut answers) = stream(&server, Some(TOKEN)).await.unwrap();
    assert!(matches!(hear(&mut answers).await, Said::Welcome(_)));
    let closing = tokio::spawn(server.close());
    assert!(matches!(hear(&mut answers).await, Said::GoAway(_)));
    let told = report_envelopes_request::Kind::Report(report(1, "x", succeeded("1")));
    outbound
        .send(ReportEnvelopesRequest { kind: Some(told) })
        .await
        .unwrap();
    assert!(matches!(hear(&mut answers).await, Said::Ack(ack) if ack.sequence == 1));
    let end = soon("the end", answers.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    soon("the end of the gateway", closing).await.unwrap();
}

/// Whatever is sent as a message is answered as gRPC answers: never by a broken gateway.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_with_a_status() {
    let (server, _directory) = gateway().await;
    let client = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let garbage: [&[u8]; 6] = [
        b"",
        b"\0\0",
        b"\0\0\0\0\x05\xff\xff\xff\xff\xff",
        b"\x01\0\0\0\x02\x0a\x00",
        b"\0\xff\xff\xff\xff\x00",
        b"{\"id\":\"x\"}",
    ];
    for method in [
        "EnvelopeStatus/Get",
        "EnvelopeStatus/List",
        "EnvelopeStatus/Watch",
        "EnvelopeStatus/Report",
        "ActorStatus/Report",
        "ActorStatus/List",
        "EnvelopeStatus/Nothing",
    ] {
        for body in garbage {
            let answer = client
                .post(format!("{}/asya.status.v1.{method}", server.url()))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .header("authorization", format!("Bearer {TOKEN}"))
                .header("grpc-timeout", "nonsense")
                .body(body);
            let answer = soon("an answer", answer.send()).await.unwrap();
            assert_eq!(answer.status(), 200, "{method} {body:?}");
            // The end, wherever the status stands.
            soon("the end", answer.bytes()).await.unwrap();
        }
    }
    server
        .gateway()
        .register_child(ReportSource::Grpc, running("x"))
        .await
        .unwrap();
    let get = GetEnvelopeRequest {
        id: "x".to_owned(),
        ..GetEnvelopeRequest::default()
    };
    let mut client = EnvelopeStatusClient::new(channel(&server).await);
    assert!(client.get(get).await.is_ok(), "and the gateway is as before");
    server.close().await;
}
