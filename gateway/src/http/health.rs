//! Whether the gateway lives, whether it should get work, and what it counts.

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};

use super::RenderMetrics;
use crate::core::Gateway;

/// `/health` for the original's probes (any method), `/livez`, `/readyz`, and `/metrics` where there is something to
/// render.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    gateway: Gateway,
    render: Option<RenderMetrics>,
) -> Router<S> {
    let mut router = Router::new()
        .route("/health", any(async || "OK\n"))
        .route("/livez", get(lives).with_state(gateway.clone()))
        .route("/readyz", get(ready).with_state(gateway));
    if let Some(render) = render {
        router = router.route("/metrics", get(metrics).with_state(render));
    }
    router
}

/// 200 as long as it may yet do its work; 503 with the reason once it must be started anew.
async fn lives(State(gateway): State<Gateway>) -> Response {
    match gateway.failure() {
        None => "OK\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response(),
    }
}

/// 200 while it can do its work; else 503 with one line for each reason.
async fn ready(State(gateway): State<Gateway>) -> Response {
    let health = gateway.health().await;
    if health.is_ready() {
        return "ready\n".into_response();
    }
    let mut reasons = String::new();
    let parts = [
        ("store", &health.store),
        ("broker", &health.broker),
        ("tasks", &health.tasks),
    ];
    for (part, state) in parts {
        if let Err(reason) = state {
            reasons.extend([part, ": ", reason, "\n"]);
        }
    }
    if health.draining {
        reasons.push_str("draining: the gateway is about to stop\n");
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response()
}

async fn metrics(State(render): State<RenderMetrics>) -> Response {
    let mut response = render().into_response();
    let exposition = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, exposition);
    response
}
