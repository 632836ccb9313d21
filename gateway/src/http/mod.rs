//! REST and server-sent events over the core, as the original has them and beyond (contract gateway §4, §5, §9).
//!
//! What it is: handlers that read a request (`fields`, `reports`, `query`, `path`), ask the [`Gateway`], and write the
//! answer (`render`, `refusal`). Reading and writing are pure; payloads and results pass as text, never decoded. What it
//! is not: it decides nothing about envelopes, and does not ask who may do what; that is [`crate::auth`].
//!
//! [`router`] has the routes, [`finish`] what goes around all routes of the gateway, MCP and gRPC included.

mod api;
mod body;
mod envelopes;
mod fields;
mod health;
mod ingest;
mod observe;
mod openapi;
mod pages;
mod path;
mod query;
mod refusal;
mod render;
mod reports;
mod stream;
mod tools;
mod trace_context;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;

use crate::core::Gateway;
use api::Api;
pub use openapi::openapi;
use refusal::Refusal;

/// Writes all metrics in the text format of Prometheus.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// What the REST interface puts up with.
#[derive(Clone)]
pub struct HttpOptions {
    /// Largest body of a request in bytes; `None` for 10 MiB. Bodies about routes alone may have 1 MiB at most.
    pub max_body: Option<usize>,
    /// How long a body may take to arrive. 60 s.
    pub body_timeout: Duration,
    /// Streams and long polls at a time; further ones are answered 503. 20 000.
    pub max_streams: usize,
    /// Time between comments in a stream that show that it lives. 15 s (contract gateway §5).
    pub keepalive: Duration,
    /// What `/metrics` answers; without it there is no such path.
    pub metrics: Option<RenderMetrics>,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            max_body: None,
            body_timeout: Duration::from_mins(1),
            max_streams: 20_000,
            keepalive: Duration::from_secs(15),
            metrics: None,
        }
    }
}

impl fmt::Debug for HttpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpOptions")
            .field("max_body", &self.max_body)
            .field("body_timeout", &self.body_timeout)
            .field("max_streams", &self.max_streams)
            .field("keepalive", &self.keepalive)
            .field("metrics", &self.metrics.is_some())
            .finish()
    }
}

/// The routes of REST, health and metrics. Handlers take the [`Caller`](crate::auth::Caller) from the request's
/// extensions, so one of the layers of [`crate::auth`] must be around it.
pub fn router(gateway: Gateway, options: HttpOptions) -> Router {
    let health = health::routes(gateway.clone(), options.metrics.clone());
    Router::new()
        .route("/openapi.json", get(openapi::serve))
        .route("/tools", get(tools::list))
        .route("/tools/call", post(tools::call))
        .route("/mcp/tools/call", post(tools::call))
        .route("/envelopes", get(envelopes::list).post(ingest::create))
        .route("/envelopes/{id}", get(envelopes::get).delete(envelopes::cancel))
        .route("/envelopes/{id}/stream", get(stream::stream))
        .route("/envelopes/{id}/active", get(envelopes::active))
        .route("/envelopes/{id}/children", get(envelopes::children))
        .route("/envelopes/{id}/progress", post(ingest::progress))
        .route("/envelopes/{id}/final", post(ingest::finished))
        .merge(health)
        .method_not_allowed_fallback(wrong_method)
        .with_state(Api::new(gateway, options))
}

/// Health and metrics alone, for a port of their own (`ASYA_METRICS_ADDR`).
pub fn metrics_router(gateway: Gateway, render: RenderMetrics) -> Router {
    finish(health::routes(gateway, Some(render)))
}

/// Puts around a whole router what every request gets: an answer where there is no route, problem JSON for those who
/// prefer it, an answer instead of a panic, an id, a line in the log, and its place in the metrics. Outermost, around
/// the layer of [`crate::auth`] too.
pub fn finish(router: Router) -> Router {
    router
        .fallback(no_route)
        .layer(CatchPanicLayer::custom(|cause: Box<dyn std::any::Any + Send>| {
            observe::panicked(&*cause)
        }))
        .layer(middleware::from_fn(refusal::in_json))
        .layer(middleware::from_fn(observe::observe))
}

async fn wrong_method() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

async fn no_route(request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/envelopes/") {
        return path::malformed(path).into_response();
    }
    if is_grpc(request.headers()) {
        return tonic::Status::unimplemented("no such service").into_http();
    }
    Refusal::new(StatusCode::NOT_FOUND, "404 page not found").into_response()
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    content.is_some_and(|content| content.starts_with(b"application/grpc"))
}

/// A JSON answer, with the line break at its end that the original has.
fn json(status: StatusCode, mut text: Vec<u8>) -> Response {
    text.push(b'\n');
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
