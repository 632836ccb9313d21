//! `grpc.health.v1.Health`: the gateway's own health, asked when somebody wants to know.

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt as _};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::deadline::Deadline;
use super::errors;
use crate::core::Gateway;

/// Services that have a health; the empty name stands for the whole.
const SERVICES: [&str; 3] = ["", "asya.status.v1.EnvelopeStatus", "asya.status.v1.ActorStatus"];

/// How often those who watch are told, if something changed. Draining is told at once.
const EVERY: Duration = Duration::from_secs(1);

pub(super) struct Health {
    gateway: Gateway,
}

impl Health {
    pub(super) fn new(gateway: Gateway) -> Self {
        Self { gateway }
    }
}

async fn status(gateway: &Gateway) -> ServingStatus {
    if gateway.health().await.is_ready() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            return Err(Status::not_found("no such service here"));
        }
        let deadline = Deadline::of(&request);
        let status = deadline.within(async { Ok(status(&self.gateway).await) }).await?;
        Ok(Response::new(answer(status)))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let deadline = Deadline::of(&request);
        let known = SERVICES.contains(&request.get_ref().service.as_str());
        let state = Some(Watching {
            gateway: self.gateway.clone(),
            known,
            told: None,
        });
        let stream = futures::stream::unfold(state, |state| async {
            let mut watching = state?;
            match watching.next().await {
                Ok(status) => Some((Ok(answer(status)), Some(watching))),
                Err(end) => Some((Err(end), None)),
            }
        });
        Ok(Response::new(deadline.bound(stream).boxed()))
    }
}

struct Watching {
    gateway: Gateway,
    known: bool,
    told: Option<ServingStatus>,
}

impl Watching {
    /// The first status, or the next other one.
    async fn next(&mut self) -> Result<ServingStatus, Status> {
        let draining = self.gateway.draining();
        loop {
            if draining.is_cancelled() && self.told == Some(ServingStatus::NotServing) {
                return Err(errors::closing());
            }
            let status = match self.known {
                true => status(&self.gateway).await,
                false if draining.is_cancelled() => return Err(errors::closing()),
                false => ServingStatus::ServiceUnknown,
            };
            if self.told.replace(status) != Some(status) {
                return Ok(status);
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = draining.cancelled() => {}
            }
        }
    }
}
