//! `/metrics` at one address; `/healthz`, `/readyz` and `/livez` at another (contract operator §3.3).

use std::sync::Arc;

use asya_program::listen;
use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::arguments::Bind;

/// What this process is doing, as `/livez` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The API server does not answer yet.
    Connecting,
    /// The custom resource definition is missing.
    WaitingForDefinition,
    /// Another replica holds the lease.
    WaitingForLease,
    /// It works.
    Working,
    /// It was asked to end.
    Ending,
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "waiting for the API server",
            Self::WaitingForDefinition => "waiting for the custom resource definition",
            Self::WaitingForLease => "waiting for the lease",
            Self::Working => "working",
            Self::Ending => "ending",
        }
    }
}

/// A server that ends with the value.
pub(super) struct Endpoint {
    address: String,
    task: JoinHandle<()>,
}

impl Endpoint {
    /// `flag` names what was told wrong if it cannot listen.
    pub(super) async fn start(bind: &Bind, flag: &str, routes: Router) -> Result<Option<Self>, String> {
        let Bind::At(address) = bind else { return Ok(None) };
        let cannot = |error| {
            format!("{flag}: cannot listen at {address}: {error}; choose another address, or 0 for none")
        };
        let listener = listen(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?.to_string();
        let task = tokio::spawn(serve(listener, routes));
        Ok(Some(Self { address, task }))
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, routes: Router) {
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!("an endpoint has ended: {error}");
    }
}

/// Metrics alone.
pub(super) fn metrics(render: Arc<dyn Fn() -> String + Send + Sync>) -> Router {
    let answer = move || {
        let text = render();
        async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
    };
    Router::new().route("/metrics", get(answer))
}

/// Health: always well while it listens, since a restart mends nothing that it waits for. `/livez` says what it does.
pub(super) fn health(phase: watch::Receiver<Phase>) -> Router {
    let well = || async { "ok" };
    let truth = move || {
        let phase = *phase.borrow();
        async move { format!("ok: {}\n", phase.as_str()) }
    };
    Router::new()
        .route("/healthz", get(well))
        .route("/readyz", get(well))
        .route("/livez", get(truth))
}
