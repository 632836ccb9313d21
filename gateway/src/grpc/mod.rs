//! The gRPC interface of `proto/asya/status/v1`: sidecars and operators report, clients read, watch and cancel.
//!
//! What it is: the services `EnvelopeStatus` and `ActorStatus` over [`core::Gateway`](crate::core::Gateway), health and
//! reflection, as routes for the port that HTTP uses too (rulings 30). What it is not: it decides nothing about
//! envelopes, keeps nothing that must survive, and asks nobody who he is; [`auth`](crate::auth) did that before.
//!
//! The comments in the `.proto` files are the specification. Start reading at [`routes`], then `report` (streams of
//! sidecars) and `watch` (streams of clients).

mod access;
mod actors;
mod convert;
mod deadline;
mod envelopes;
mod errors;
mod health;
mod inbox;
mod report;
mod seats;
mod token;
mod watch;

use std::time::Duration;

use asya_proto::FILE_DESCRIPTOR_SET;
use asya_proto::status::v1::actor_status_server::ActorStatusServer;
use asya_proto::status::v1::envelope_status_server::EnvelopeStatusServer;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::core::Gateway;

/// Limits of the gRPC services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcOptions {
    /// Largest report of a sidecar, in bytes. A larger one is refused, and told so; one of more than four times this
    /// size ends its stream. Default 10 MiB.
    pub max_report_bytes: usize,
    /// How many reports a sidecar may send without an acknowledgement, at least 1. The gateway itself takes in at most
    /// 256 at a time. Default 1024.
    pub max_unacknowledged: u32,
    /// Watches of clients at the same time. One by ids counts once more for every 16 of them. Default 20 000.
    pub max_streams: usize,
    /// How long a new stream of a sidecar or operator may stay without its first message. Default 10 s.
    pub hello: Duration,
    /// How long sidecars are listened to after they were told that the gateway closes. Default 1 s.
    pub farewell: Duration,
    /// When sidecars may come back after that. Default 500 ms.
    pub reconnect_after: Duration,
}

impl Default for GrpcOptions {
    fn default() -> Self {
        Self {
            max_report_bytes: 10 * 1024 * 1024,
            max_unacknowledged: 1024,
            max_streams: 20_000,
            hello: Duration::from_secs(10),
            farewell: Duration::from_secs(1),
            reconnect_after: Duration::from_millis(500),
        }
    }
}

/// The services as routes of HTTP/2 requests, to be merged into the gateway's router. Requests must carry a
/// [`Caller`](crate::auth::Caller) in their extensions; without one they are refused.
pub fn routes(gateway: Gateway, options: GrpcOptions) -> axum::Router {
    // Room above the limit for reports, so that one that is too large is refused alone, not with its stream.
    let room = options.max_report_bytes.saturating_mul(4).max(1024 * 1024);
    let envelopes = EnvelopeStatusServer::new(envelopes::Envelopes::new(gateway.clone(), options.clone()))
        .max_decoding_message_size(room);
    let actors = ActorStatusServer::new(actors::Actors::new(gateway.clone(), options));
    let routes = Routes::new(envelopes)
        .add_service(actors)
        .add_service(HealthServer::new(health::Health::new(gateway)));
    with_reflection(routes).into_axum_router().reset_fallback()
}

#[expect(
    clippy::expect_used,
    reason = "the descriptors are compiled in; every test of these routes reads them"
)]
fn with_reflection(routes: Routes) -> Routes {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    routes
        .add_service(
            builder()
                .build_v1()
                .expect("descriptors that prost has read before"),
        )
        .add_service(
            builder()
                .build_v1alpha()
                .expect("descriptors that prost has read before"),
        )
}
