//! What sidecars and end actors tell: children, progress, the final word.
//!
//! An original sidecar sends progress five times when it is answered anything but 200, so late and repeated reports are
//! answered like the first (contract gateway §4, §6). One that the store does not take is answered 503, never 500: a
//! sidecar keeps it then and sends it again, where after 500 it is lost (rulings 6).

use asya_gateway_store::{Applied, Created, Outcome, Report, ReportEvent, StoreError};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use chrono::Utc;

use super::api::Api;
use super::path::EnvelopeId;
use super::refusal::Refusal;
use super::render::{Object, number};
use super::{body, json, reports};
use crate::core::{RegisterError, ReportSource};

/// Largest body about a route, in bytes.
const SMALL: usize = 1024 * 1024;

/// `POST /envelopes`: records a child of a fan-out and publishes nothing (contract gateway §4.4).
pub(super) async fn create(State(api): State<Api>, request: Body) -> Result<Response, Refusal> {
    let body = body::read(request, SMALL.min(api.max_body), api.options.body_timeout).await?;
    let child = reports::child(&body, Utc::now())?;
    let id = child.id.clone();
    match api.gateway.register_child(ReportSource::Http, child).await {
        Ok(Created::New(_) | Created::Existing(_)) => {
            let mut object = Object::new();
            object.text("id", &id).text("status", "created");
            Ok(json(StatusCode::CREATED, object.finish()))
        }
        Ok(Created::Conflict(_)) => Err(Refusal::new(StatusCode::CONFLICT, "Failed to create envelope")
            .because("an envelope of this id exists already, with another parent or route")),
        Err(RegisterError::NotStorable(problem)) => {
            Err(Refusal::new(StatusCode::BAD_REQUEST, "Failed to create envelope")
                .because(problem.to_string()))
        }
        Err(RegisterError::Store(error)) => Err(Refusal::of_report("Failed to create envelope", &error)),
    }
}

/// `POST /envelopes/{id}/progress`.
pub(super) async fn progress(
    State(api): State<Api>,
    EnvelopeId(id): EnvelopeId,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let body = body::read(request, SMALL.min(api.max_body), api.options.body_timeout).await?;
    let (attempt, progress) = reports::progress(&headers, &body)?;
    let applied = report(&api, id, attempt, ReportEvent::Progress(progress)).await;
    let record = match applied.map_err(|error| Refusal::of_report("Failed to update progress", &error))? {
        Applied::Changed { record, .. } | Applied::Nothing { record } => record,
        Applied::Unknown => return Err(Refusal::unknown_envelope()),
    };
    let mut object = Object::new();
    object
        .raw("progress_percent", number(record.progress_percent).as_bytes())
        .text("status", "ok");
    if record.outcome == Some(Outcome::Cancelled) {
        object.raw("cancelled", b"true");
    }
    Ok(json(StatusCode::OK, object.finish()))
}

/// `POST /envelopes/{id}/final`.
pub(super) async fn finished(
    State(api): State<Api>,
    EnvelopeId(id): EnvelopeId,
    request: Body,
) -> Result<Response, Refusal> {
    let body = body::read(request, api.max_body, api.options.body_timeout).await?;
    let (attempt, finished) = reports::finished(&body)?;
    let applied = report(&api, id, attempt, ReportEvent::Final(finished)).await;
    match applied.map_err(|error| Refusal::of_report("Failed to update envelope", &error))? {
        Applied::Changed { .. } | Applied::Nothing { .. } => {
            Ok(json(StatusCode::OK, br#"{"status":"ok"}"#.into()))
        }
        Applied::Unknown => Err(Refusal::unknown_envelope()),
    }
}

async fn report(api: &Api, id: String, attempt: u32, event: ReportEvent) -> Result<Applied, StoreError> {
    let report = Report {
        envelope_id: id,
        attempt,
        at: Utc::now(),
        event,
    };
    let mut applied = api.gateway.report(ReportSource::Http, vec![report]).await?;
    // One report has one answer.
    applied
        .pop()
        .ok_or_else(|| StoreError::Broken("a report was not answered".into()))
}
