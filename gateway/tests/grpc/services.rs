//! Health, reflection, deadlines.

use asya_gateway::auth::Caller;
use asya_gateway::grpc::GrpcOptions;
use asya_proto::status::v1::{EnvelopeIds, WatchEnvelopesRequest, watch_envelopes_request};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::harness::{Plan, Server, soon};

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.to_owned(),
    }
}

#[tokio::test]
async fn health_is_serving_until_the_gateway_drains() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel().await);
    let services = ["", "asya.status.v1.EnvelopeStatus", "asya.status.v1.ActorStatus"];
    for service in services {
        let answer = client.check(asked(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(
        client.check(asked("other")).await.unwrap_err().code(),
        Code::NotFound
    );
    let mut watch = client.watch(asked("")).await.unwrap().into_inner();
    let mut unknown = client.watch(asked("other")).await.unwrap().into_inner();
    let first = soon("the health", watch.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let first = soon("the health", unknown.message()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::ServiceUnknown);
    server.gateway.drain();
    let second = soon("the change", watch.message()).await.unwrap().unwrap();
    assert_eq!(second.status(), ServingStatus::NotServing);
    assert_eq!(
        soon("the end", watch.message()).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(
        soon("the end", unknown.message()).await.unwrap_err().code(),
        Code::Unavailable
    );
    for service in services {
        let answer = client.check(asked(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::NotServing, "{service}");
    }
}

macro_rules! reflection {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;

            let server = Server::start().await;
            let mut client = ServerReflectionClient::new(server.channel().await);
            let ask = |message| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(message),
            };
            let asked = tokio_stream::iter([
                ask(MessageRequest::ListServices(String::new())),
                ask(MessageRequest::FileContainingSymbol(
                    "asya.status.v1.EnvelopeStatus".to_owned(),
                )),
                ask(MessageRequest::FileContainingSymbol(
                    "asya.status.v1.Failure.details_json".to_owned(),
                )),
            ]);
            let mut answers = client
                .server_reflection_info(asked)
                .await
                .unwrap()
                .into_inner();
            let mut next = async || {
                soon("an answer", answers.message())
                    .await
                    .unwrap()
                    .unwrap()
                    .message_response
                    .unwrap()
            };
            let MessageResponse::ListServicesResponse(list) = next().await else {
                panic!("no list");
            };
            let names: Vec<_> = list
                .service
                .iter()
                .map(|service| service.name.as_str())
                .collect();
            for expected in [
                "asya.status.v1.EnvelopeStatus",
                "asya.status.v1.ActorStatus",
                "grpc.health.v1.Health",
            ] {
                assert!(
                    names.contains(&expected),
                    "{expected} is not among {names:?}"
                );
            }
            for _ in 0..2 {
                let MessageResponse::FileDescriptorResponse(files) = next().await else {
                    panic!("no file");
                };
                let file = <prost_types::FileDescriptorProto as prost::Message>::decode(
                    files.file_descriptor_proto[0].as_slice(),
                )
                .unwrap();
                assert_eq!(file.package(), "asya.status.v1");
            }
        }
    };
}

reflection!(reflection_tells_the_services, v1);
reflection!(older_clients_find_the_older_reflection, v1alpha);

#[tokio::test]
async fn health_needs_no_caller() {
    let server = Server::of(Plan {
        caller: None,
        ..Plan::default()
    })
    .await;
    let mut client = HealthClient::new(server.channel().await);
    assert!(client.check(asked("")).await.is_ok());
}

#[tokio::test]
async fn the_time_that_the_caller_gives_is_kept_for_streams_too() {
    let server = Server::of(Plan {
        caller: Some(Caller::anonymous()),
        ..Plan::default()
    })
    .await;
    server.envelope("x").await;
    let mut request = Request::new(WatchEnvelopesRequest {
        target: Some(watch_envelopes_request::Target::Ids(EnvelopeIds {
            ids: vec!["x".to_owned()],
        })),
        ..WatchEnvelopesRequest::default()
    });
    request.set_timeout(std::time::Duration::from_millis(300));
    let end = match soon("an answer", server.client().await.watch(request)).await {
        Err(status) => status,
        Ok(stream) => soon("the end", stream.into_inner().message()).await.unwrap_err(),
    };
    assert_eq!(end.code(), Code::DeadlineExceeded);
}

/// `docs/api/grpc.md` names what is there, and the numbers that hold.
#[test]
fn the_page_about_grpc_is_true() {
    let page = include_str!("../../../docs/api/grpc.md");
    let set =
        <prost_types::FileDescriptorSet as prost::Message>::decode(asya_proto::FILE_DESCRIPTOR_SET).unwrap();
    let own = set.file.iter().filter(|file| file.package() == "asya.status.v1");
    let mut methods: Vec<_> = own
        .flat_map(|file| &file.service)
        .flat_map(|service| {
            let name =
                |method: &prost_types::MethodDescriptorProto| format!("{}/{}", service.name(), method.name());
            service.method.iter().map(name).collect::<Vec<_>>()
        })
        .collect();
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | ").map(|(name, _)| name));
    let mut told: Vec<_> = rows.collect();
    methods.sort();
    told.sort_unstable();
    assert_eq!(told, methods);
    let options = GrpcOptions::default();
    for (what, is) in [
        (
            "(`max_unacknowledged`) | ",
            options.max_unacknowledged.to_string(),
        ),
        (
            "`ASYA_GATEWAY_MAX_BODY`, ",
            format!("{} MiB", options.max_report_bytes / 1024 / 1024),
        ),
        ("until `hello` | ", format!("{} s", options.hello.as_secs())),
        ("after `go_away` | ", format!("{} s", options.farewell.as_secs())),
    ] {
        assert!(page.contains(&format!("{what}{is} |")), "{what}{is}");
    }
}
