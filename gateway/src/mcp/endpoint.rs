//! The endpoint before the SDK: it tells the eras apart, and does for old clients what the SDK does not.
//!
//! The SDK is strict (both media types in `Accept`, `415` for bodies that are no JSON, no session ids when it keeps no
//! sessions, no GET stream), and old clients are not. Requests of the stateless era pass as they are.

use std::sync::Arc;

use asya_gateway_store::View;
use axum::Extension;
use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use uuid::Uuid;

use super::answers::Answers;
use super::exchange::Exchange;
use super::inflight::Key;
use super::listen;
use super::message::{Era, Incoming};
use super::options::McpOptions;
use super::refusal::Refusal;
use super::server::Server;
use crate::auth::Caller;
use crate::core::Gateway;

/// Where old clients find and send their session.
const SESSION: &str = "mcp-session-id";
/// How a session id begins (contract gateway §8).
const SESSION_PREFIX: &str = "mcp-session-";
/// What the SDK wants in `Accept`.
const BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");

/// What serves `/mcp`.
pub(super) struct Endpoint {
    server: Server,
    sdk: StreamableHttpService<Server, NeverSessionManager>,
}

impl Endpoint {
    pub(super) fn new(gateway: Gateway, options: McpOptions) -> Arc<Self> {
        let server = Server::new(gateway, options);
        let options = &server.options;
        let config = StreamableHttpServerConfig::default()
            // Any replica serves any session, so there is nothing to keep.
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_sse_keep_alive(Some(options.keep_alive))
            .with_max_request_body_bytes(options.max_body)
            // Who may come from where is asked once, before the whole gateway.
            .disable_allowed_hosts()
            .disable_allowed_origins();
        let handler = server.clone();
        let sdk = StreamableHttpService::new(
            move || Ok(handler.clone()),
            Arc::new(NeverSessionManager::default()),
            config,
        );
        Arc::new(Self { server, sdk })
    }

    async fn post(&self, caller: Caller, request: Request<Body>) -> Result<Response, Refusal> {
        let (parts, body) = request.into_parts();
        check_content_type(&parts.headers)?;
        let body = self.read(body).await?;
        let incoming = Incoming::read(&parts.headers, body)?;
        let starts_session = incoming.era == Era::Handshake && incoming.is("initialize");
        let session = match incoming.era {
            Era::Handshake if !starts_session => Some(session(&parts.headers)?),
            _ => None,
        };
        if let Some(session) = &session
            && incoming.is("notifications/cancelled")
        {
            self.withdraw(&caller, session, &incoming);
        }
        let answers = Answers::default();
        let tasks = self.subscribed(&caller, &incoming, &answers).await?;
        let id = incoming.id.clone();
        let request = hand_over(parts, incoming, |message, headers| Exchange {
            era: message.era,
            reads_events: message.era == Era::Stateless || accepts(headers, "text/event-stream"),
            key: session.zip(message.id.clone()).map(|(session, request)| Key {
                tenant: caller.tenant.clone(),
                session,
                request,
            }),
            caller,
            headers: headers.clone(),
            arguments: message.arguments.clone(),
            tasks,
            answers: answers.clone(),
        });
        let response = self.sdk.handle(request).await;
        if response.status() == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            // The type was looked at: what the SDK means is a message whose keys are of wrong types.
            let text = "Invalid Request: this is no message of MCP; a key is missing or of a wrong type";
            return Err(Refusal::rpc(StatusCode::BAD_REQUEST, id, -32600, text));
        }
        let mut response = answers.fill(response).await;
        if starts_session && response.status().is_success() {
            response.headers_mut().insert(SESSION, new_session());
        }
        Ok(response)
    }

    async fn read(&self, body: Body) -> Result<Bytes, Refusal> {
        let McpOptions {
            max_body,
            body_timeout,
            ..
        } = *self.server.options;
        let reading = tokio::time::timeout(body_timeout, read_body(body, max_body));
        reading.await.unwrap_or_else(|_| {
            let text = format!(
                "the request body took longer than {} s",
                body_timeout.as_secs_f32()
            );
            Err(Refusal::text(StatusCode::REQUEST_TIMEOUT, text))
        })
    }

    /// Cancels the request that an old client withdraws.
    fn withdraw(&self, caller: &Caller, session: &str, notification: &Incoming) {
        let Some(request) = notification.params.get("requestId") else {
            return;
        };
        let Ok(request) = asya_runtime_protocol::RawJson::from_value(request) else {
            return;
        };
        let key = Key {
            tenant: caller.tenant.clone(),
            session: session.to_owned(),
            request,
        };
        // One that has ended, or is held elsewhere, is not found; a notification has no answer.
        let found = self.server.inflight.cancel(&key);
        tracing::debug!(found, "a client withdraws a request");
    }

    /// A place for a subscription, and the tasks of it that the caller may see.
    async fn subscribed(
        &self,
        caller: &Caller,
        incoming: &Incoming,
        answers: &Answers,
    ) -> Result<Vec<String>, Refusal> {
        if !incoming.is("subscriptions/listen") || incoming.era == Era::Handshake {
            return Ok(Vec::new());
        }
        answers.hold(self.place()?);
        let mut tasks = Vec::new();
        for id in incoming.task_ids() {
            if self.server.gateway.get(caller, &id, View::Basic).await.is_ok() {
                tasks.push(id);
            }
        }
        answers.acknowledge_tasks(&tasks);
        Ok(tasks)
    }

    fn place(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Refusal> {
        let full = "too many streams are open; try again later";
        Arc::clone(&self.server.streams)
            .try_acquire_owned()
            .map_err(|_| Refusal::text(StatusCode::SERVICE_UNAVAILABLE, full))
    }

    fn get(&self, headers: &HeaderMap) -> Result<Response, Refusal> {
        only_old(headers)?;
        let asks = headers.contains_key(header::ACCEPT);
        if asks && !accepts(headers, "text/event-stream") && !accepts(headers, "*/*") {
            let text = "this is a stream of events (text/event-stream); requests are sent by POST";
            return Err(Refusal::text(StatusCode::NOT_ACCEPTABLE, text));
        }
        if headers.contains_key(SESSION) {
            session(headers)?;
        }
        Ok(listen::old_stream(&self.server, self.place()?))
    }
}

/// The request as the SDK wants it, with what it does not know in the extensions.
fn hand_over(
    mut parts: Parts,
    message: Incoming,
    exchange: impl FnOnce(&Incoming, &HeaderMap) -> Exchange,
) -> Request<Body> {
    let exchange = Arc::new(exchange(&message, &parts.headers));
    if message.era == Era::Handshake {
        parts.headers.insert(header::ACCEPT, BOTH);
    }
    parts.extensions.insert(exchange);
    // The body is another one now.
    parts.headers.remove(header::CONTENT_LENGTH);
    Request::from_parts(parts, Body::from(message.body))
}

/// Serves `/mcp`.
pub(super) async fn serve(
    State(endpoint): State<Arc<Endpoint>>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Response {
    let answer = match *request.method() {
        Method::POST => endpoint.post(caller, request).await,
        Method::GET => endpoint.get(request.headers()),
        // DELETE, too: nothing is kept for a session, so there is nothing to end, and this is how a client is told.
        _ => Err(not_allowed("GET, POST")),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// The transport of 2024-11-05 never worked in the original; its clients are told where to go.
pub(super) async fn sse_is_gone() -> Response {
    let text = "the HTTP+SSE transport is not served; use streamable HTTP at /mcp";
    Refusal::text(StatusCode::GONE, text).into_response()
}

fn not_allowed(allow: &'static str) -> Refusal {
    Refusal::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").allow(allow)
}

/// The stateless era has POST alone.
fn only_old(headers: &HeaderMap) -> Result<(), Refusal> {
    match Era::of_headers(headers) {
        Era::Handshake => Ok(()),
        Era::Stateless => Err(not_allowed("POST")),
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"));
    if is_json {
        return Ok(());
    }
    let text = "Invalid content type: must be 'application/json'";
    Err(Refusal::text(StatusCode::BAD_REQUEST, text))
}

/// The session of an old client. Any well-formed one is served, by any replica: ids are not tracked.
fn session(headers: &HeaderMap) -> Result<String, Refusal> {
    let id = headers.get(SESSION).and_then(|value| value.to_str().ok());
    let is_ours = |id: &&str| {
        id.strip_prefix(SESSION_PREFIX)
            .is_some_and(|uuid| uuid.len() == 36 && Uuid::try_parse(uuid).is_ok())
    };
    id.filter(is_ours).map(str::to_owned).ok_or_else(|| {
        let text = "Invalid session ID: send the Mcp-Session-Id that initialize was answered with, or the \
                    parameters of a stateless request (2026-07-28)";
        Refusal::text(StatusCode::BAD_REQUEST, text)
    })
}

fn new_session() -> HeaderValue {
    let id = format!("{SESSION_PREFIX}{}", Uuid::new_v4());
    // Letters, digits and dashes.
    HeaderValue::try_from(id).unwrap_or(HeaderValue::from_static(SESSION_PREFIX))
}

/// Whether a media type is listed in `Accept`. A weight of 0 is not looked for: nobody sends it here.
fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|entry| entry.split(';').next())
        .any(|essence| essence.trim().eq_ignore_ascii_case(media_type))
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let too_large = || {
        let text = format!("Payload Too Large: the request body is above the limit of {limit} bytes");
        Refusal::text(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if least > limit {
        return Err(too_large());
    }
    let mut read = BytesMut::with_capacity(least);
    let mut frames = body.into_data_stream();
    while let Some(frame) = frames.next().await {
        let broken = |_| Refusal::text(StatusCode::BAD_REQUEST, "the request body ended too early");
        let frame = frame.map_err(broken)?;
        if frame.len() > limit - read.len() {
            return Err(too_large());
        }
        read.extend_from_slice(&frame);
    }
    Ok(read.freeze())
}
