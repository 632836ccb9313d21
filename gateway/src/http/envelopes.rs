//! What clients ask about envelopes: one of them, many, what is below one, and to have one cancelled.

use std::time::Duration;

use asya_gateway_store::{ChildCounts, Outcome, Record, Status, View};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::api::Api;
use super::fields::Fields;
use super::path::EnvelopeId;
use super::query::{GetQuery, ListQuery};
use super::refusal::Refusal;
use super::render::{Detail, Object, counts, envelope, members, outcome};
use super::{body, json, pages};
use crate::auth::Caller;
use crate::core::LookupError;

/// Longest that a request may wait for the end of an envelope.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// Largest body of a cancellation, in bytes.
const CANCEL_BODY: usize = 64 * 1024;

/// `GET /envelopes/{id}`.
pub(super) async fn get(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: EnvelopeId,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let EnvelopeId(id) = id;
    let query = GetQuery::parse(query.as_deref())?;
    let record = match query.wait.filter(|wait| !wait.is_zero()) {
        None => api.gateway.get(&caller, &id, View::Full).await?,
        Some(wait) => wait_for(&api, &caller, &id, wait.min(LONGEST_WAIT)).await?,
    };
    if !query.outcome {
        return Ok(json(StatusCode::OK, envelope(&record, Detail::ORIGINAL)));
    }
    let below = api.gateway.children(&caller, &id).await?;
    let mut object = Object::new();
    let detail = Detail {
        content: true,
        outcome: true,
    };
    members(&mut object, &record, detail);
    object.nested("children", |object| counts(object, below));
    Ok(json(StatusCode::OK, object.finish()))
}

/// The envelope at its end, at the end of the wait, or when the gateway stops, whichever is first.
async fn wait_for(api: &Api, caller: &Caller, id: &str, wait: Duration) -> Result<Record, Refusal> {
    let _slot = api.slot()?;
    let draining = api.gateway.draining();
    tokio::select! {
        record = api.gateway.wait(caller, id, wait) => Ok(record?),
        () = draining.cancelled() => Ok(api.gateway.get(caller, id, View::Full).await?),
    }
}

/// `GET /envelopes/{id}/active`: 200 while somebody may still work on it, else 410.
pub(super) async fn active(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    id: Result<EnvelopeId, Refusal>,
) -> Result<Response, Refusal> {
    let record = match id {
        Ok(EnvelopeId(id)) => api.gateway.get(&caller, &id, View::Basic).await,
        Err(refusal) if refusal == Refusal::unknown_envelope() => Err(LookupError::Unknown),
        Err(refusal) => return Err(refusal),
    };
    let now = chrono::Utc::now();
    let is_active = match record {
        Ok(record) => !record.status.is_final() && record.deadline.is_none_or(|deadline| deadline > now),
        Err(LookupError::Unknown) => false,
        // The original says 410 here, too, and ends work that nobody has called off (contract gateway §12, 35).
        Err(error) => return Err(error.into()),
    };
    let (status, text) = if is_active {
        (StatusCode::OK, r#"{"active":true}"#)
    } else {
        (StatusCode::GONE, r#"{"active":false}"#)
    };
    Ok(json(status, text.into()))
}

/// `GET /envelopes`.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = ListQuery::parse(query.as_deref())?;
    let mut object = Object::new();
    pages::write(&api, &caller, query, &mut object).await?;
    Ok(json(StatusCode::OK, object.finish()))
}

/// `GET /envelopes/{id}/children`: how all envelopes below it are, and the direct children page by page.
pub(super) async fn children(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    EnvelopeId(id): EnvelopeId,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = ListQuery::parse_children(&id, query.as_deref())?;
    let parent = api.gateway.get(&caller, &id, View::Basic).await?;
    let below = api.gateway.children(&caller, &id).await?;
    let mut object = Object::new();
    object
        .text("id", &id)
        .text("status", aggregate(parent.status, below).as_str())
        .nested("counts", |object| counts(object, below));
    pages::write(&api, &caller, query, &mut object).await?;
    Ok(json(StatusCode::OK, object.finish()))
}

/// How a fan-out is as a whole: running while anything of it runs, failed if anything of it has.
fn aggregate(own: Status, below: ChildCounts) -> Status {
    if !own.is_final() && below.total() == 0 {
        own
    } else if !own.is_final() || below.pending + below.running > 0 {
        Status::Running
    } else if own == Status::Failed || below.failed > 0 {
        Status::Failed
    } else {
        Status::Succeeded
    }
}

/// `DELETE /envelopes/{id}`: cancels it and all unfinished ones below it. The record stays.
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    EnvelopeId(id): EnvelopeId,
    request: Body,
) -> Result<Response, Refusal> {
    let body: Bytes = body::read(request, CANCEL_BODY, api.options.body_timeout).await?;
    let reason = Fields::read_optional(&body)?.words("reason")?.unwrap_or_default();
    let cancelled = api.gateway.cancel(&caller, &id, &reason).await?;
    let mut object = Object::new();
    object
        .text("id", &id)
        .text("status", cancelled.record.status.as_str())
        .some_text("outcome", outcome(&cancelled.record).map(Outcome::as_str))
        .raw("cancelled", if cancelled.cancelled { b"true" } else { b"false" })
        .number("children_cancelled", cancelled.children);
    Ok(json(StatusCode::OK, object.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fan_out_ends_when_all_of_it_has() {
        use Status::{Failed, Pending, Running, Succeeded};
        let below = |running, succeeded, failed| ChildCounts {
            pending: 0,
            running,
            succeeded,
            failed,
        };
        for (own, counts, expected) in [
            (Pending, below(0, 0, 0), Pending),
            (Running, below(0, 0, 0), Running),
            (Succeeded, below(0, 0, 0), Succeeded),
            (Succeeded, below(1, 3, 0), Running),
            (Failed, below(1, 0, 0), Running),
            (Running, below(0, 3, 1), Running),
            (Succeeded, below(0, 3, 1), Failed),
            (Failed, below(0, 3, 0), Failed),
            (Succeeded, below(0, 3, 0), Succeeded),
        ] {
            assert_eq!(aggregate(own, counts), expected, "{own} {counts:?}");
        }
    }
}
