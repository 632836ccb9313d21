//! `GET /envelopes/{id}/stream`: server-sent events, history first, then live, closed after the final one
//! (contract gateway §5).
//!
//! A stream holds a watch, a timer and a place among those that may be open; events are made when the connection asks
//! for them, so a slow client makes nothing grow.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::{Update, View};
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::path::EnvelopeId;
use super::query::GetQuery;
use super::refusal::Refusal;
use super::render::event;
use crate::auth::Caller;
use crate::core::Watch;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

const KEEPALIVE: &[u8] = b": keepalive\n\n";
/// The stream ends and the envelope has not: the client is to come again, with the id of the last event.
const RECONNECT: &[u8] = b": the gateway is stopping, connect again\nretry: 1000\n\n";
const STORE_AWAY: &[u8] = b": the store is not available, connect again\nretry: 3000\n\n";

/// The handler.
pub(super) async fn stream(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    EnvelopeId(id): EnvelopeId,
    RawQuery(query): RawQuery,
    version: Version,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let with_outcome = GetQuery::parse(query.as_deref())?.outcome;
    let slot = api.slot()?;
    let after = last_event(&headers);
    let mut watch = api.gateway.watch(&caller, &id, after).await?;
    let mut first = None;
    if after.is_some()
        && api
            .gateway
            .get(&caller, &id, View::Basic)
            .await?
            .status
            .is_final()
    {
        first = watch
            .next()
            .await
            .map_err(|error| Refusal::of_store("Failed to get envelope", &error))?;
        // The end of an envelope whose history is deleted has no id of its own: it is told with the one that came.
        let is_known = |first: &Arc<Update>| Some(first.id) == after;
        if first.as_ref().is_none_or(is_known) {
            // It has seen everything. Browsers connect again after any other answer, for ever.
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    let events = Events {
        watch,
        first,
        keepalive: keepalive(api.options.keepalive),
        draining: api.gateway.draining(),
        with_outcome,
        _slot: slot,
    };
    let mut response = Response::new(Body::from_stream(events.stream()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    if version <= Version::HTTP_11 {
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive"));
    }
    Ok(response)
}

/// Where the client was. What is no id of ours means the beginning.
fn last_event(headers: &HeaderMap) -> Option<i64> {
    let id = headers.get(LAST_EVENT_ID)?.to_str().ok()?;
    id.trim().parse().ok().filter(|id| *id >= 0)
}

fn keepalive(period: Duration) -> Interval {
    let mut keepalive = tokio::time::interval_at(Instant::now() + period, period);
    keepalive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    keepalive
}

/// One open stream.
struct Events {
    watch: Watch,
    /// Read already.
    first: Option<Arc<Update>>,
    keepalive: Interval,
    draining: CancellationToken,
    with_outcome: bool,
    _slot: OwnedSemaphorePermit,
}

impl Events {
    fn stream(self) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
        stream::unfold(Some(self), |events| async move {
            let mut events = events?;
            let (text, goes_on) = events.next().await?;
            Some((Ok(text), goes_on.then_some(events)))
        })
    }

    /// The next bytes, and whether others follow; `None` after the final event.
    async fn next(&mut self) -> Option<(Bytes, bool)> {
        if let Some(first) = self.first.take() {
            return Some((event(&first, self.with_outcome).into(), true));
        }
        tokio::select! {
            biased;
            () = self.draining.cancelled() => Some((Bytes::from_static(RECONNECT), false)),
            update = self.watch.next() => match update {
                Ok(Some(update)) => Some((event(&update, self.with_outcome).into(), true)),
                Ok(None) => None,
                Err(error) => {
                    tracing::warn!(%error, "a stream ends early");
                    Some((Bytes::from_static(STORE_AWAY), false))
                }
            },
            _ = self.keepalive.tick() => Some((Bytes::from_static(KEEPALIVE), true)),
        }
    }
}
