//! The HTTP endpoints: `/metrics`, `/health`, `/livez`, `/readyz` (contract data-plane §11, rulings 21).

use std::net::SocketAddr;
use std::sync::Arc;

use asya_program::listen;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::station::Station;

/// Text exposition, as Prometheus asks for it.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves for ever. That nobody can listen there is logged, and no reason to end.
pub(crate) async fn serve(address: String, station: Arc<Station>) {
    let endpoints = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(async || "OK"))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(station);
    let listener = match listen(&address).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(
                %address, %error,
                "cannot serve metrics and health, going on without; is ASYA_METRICS_ADDR right?"
            );
            return;
        }
    };
    let bound: Option<SocketAddr> = listener.local_addr().ok();
    tracing::info!(
        address = bound.map_or(address, |bound| bound.to_string()),
        "serving /metrics, /health, /livez and /readyz"
    );
    if let Err(error) = axum::serve(listener, endpoints).await {
        tracing::error!(%error, "metrics and health are served no more");
    }
}

async fn metrics(State(station): State<Arc<Station>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, EXPOSITION)], station.metrics())
}

async fn livez(State(station): State<Arc<Station>>) -> Response {
    verdict("alive", &station.stuck())
}

async fn readyz(State(station): State<Arc<Station>>) -> Response {
    verdict("ready", &station.unready())
}

/// 200 when nothing speaks against it, else 503 with the reasons.
fn verdict(what: &str, reasons: &[String]) -> Response {
    let status = if reasons.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = serde_json::json!({ what: reasons.is_empty(), "reasons": reasons });
    let json = [(header::CONTENT_TYPE, "application/json")];
    (status, json, format!("{body}\n")).into_response()
}
