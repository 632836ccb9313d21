//! The life of one gateway: from its settings to an open port, and to its end.
//!
//! What it is: the one place that puts store, queues, core, interfaces and listener together, for the program, for
//! `asya up` and for tests. What it is not: it reads no environment, listens to no signals and ends no process.
//!
//! The port is taken first, so that a gateway that cannot serve touches nothing. A database that is away is waited for
//! a moment; a broker that is away is no obstacle: calls are durable, and published once it is there (rulings 22).

#[cfg(feature = "program")]
mod broker;
mod listen;
mod queues;
mod store;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::{Retention, StoreError};
use axum::Router;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use crate::auth::{self, Clients};
use crate::core::{Gateway, GatewayOptions};
use crate::grpc::{self, GrpcOptions};
use crate::http::{self, HttpOptions, RenderMetrics};
use crate::mcp::{self, McpOptions};
use crate::server::{self, BindError, ServerOptions, Tls, TlsError};
use crate::settings::{Limits, Settings};

/// How long requests and streams may go on after the end was asked for. Streams are told to reconnect at once.
const GRACE: Duration = Duration::from_millis(1200);

/// How long what the core has in hand may take after that.
const LAST_WORK: Duration = Duration::from_millis(300);

/// How long connections to the database may take to say goodbye.
const GOODBYE: Duration = Duration::from_millis(200);

/// A gateway that serves. Dropping it without [`close`](Self::close) ends it without ceremony: what was answered is
/// durable all the same.
pub struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    is_tls: bool,
    gateway: Gateway,
    serving: JoinHandle<()>,
    /// Ends with the value.
    background: JoinSet<()>,
    refused: Option<oneshot::Receiver<String>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}

/// Why a gateway does not serve. One line that says what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The additional address for metrics cannot be had.
    #[error("cannot serve metrics at {address}: {cause}")]
    Metrics {
        /// The address.
        address: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The certificate is not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A directory cannot be made.
    #[error("cannot make the directory {}: {cause}", path.display())]
    Directory {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// The database cannot be used.
    #[error("cannot use the database {database}: {cause}")]
    Store {
        /// Which one, without secrets.
        database: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// The queues cannot be used.
    #[error("cannot use the queues: {0}")]
    Queues(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Server {
    /// Starts a gateway. When this returns it serves; whether it is ready is told by its health.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        // An error means that somebody has installed one before, which will do.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = settings
            .tls
            .as_ref()
            .map(|files| Tls::load(&files.certificate, &files.key));
        let tls = tls.transpose()?.map(Arc::new);
        let listener = listen::bind(settings.listen).await?;
        let metrics_listener = listen::bind_metrics(settings.metrics.as_ref()).await?;
        let address = listen::address(&listener);
        let metrics_address = metrics_listener.as_ref().map(listen::address);

        let store = store::open(settings.database).await?;
        let queues = queues::open(settings.queues)?;
        let mut options = GatewayOptions::new(store, queues.transport, settings.tools);
        options.retention = settings.retention;
        options.patience = settings.patience;
        options.broker_probe = queues.probe;
        let gateway = Gateway::start(options).await;

        let mut background = JoinSet::new();
        if let Some(connecting) = queues.connecting {
            background.spawn(connecting);
        }
        if let Clients::Keys(keys) = &settings.auth.clients {
            background.spawn(Arc::clone(keys).follow());
        }
        let render = settings.metrics.map(|metrics| metrics.render);
        let interfaces = Interfaces {
            limits: settings.limits,
            retention: settings.retention,
            render: render.clone(),
        };
        if let Some((listener, render)) = metrics_listener.zip(render) {
            background.spawn(listen::serve_metrics(listener, gateway.clone(), render));
        }
        let router = auth::guard(interfaces.router(&gateway), Arc::new(settings.auth));
        let router = http::finish(router);
        let is_tls = tls.is_some();
        let options = ServerOptions {
            tls,
            grace: GRACE,
            draining: gateway.draining(),
            ..ServerOptions::default()
        };
        let serving = tokio::spawn(server::serve(listener, router, options));
        Ok(Self {
            address,
            metrics_address,
            is_tls,
            gateway,
            serving,
            background,
            refused: queues.refused,
        })
    }

    /// Where it listens; the port that was taken if any would do.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics are served besides.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Its base URL for programs of this machine, without a slash at the end.
    pub fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(match address {
                SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("{scheme}://{address}")
    }

    /// The core.
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Waits until it cannot go on, and says why in one line. Cancel safe.
    pub async fn failed(&mut self) -> String {
        let refused = async {
            match &mut self.refused {
                // Without a word there is no refusal, and none to come.
                Some(refused) => match refused.await {
                    Ok(reason) => reason,
                    Err(_) => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        };
        let stopped = async {
            // The listener only ends when it is asked to.
            match (&mut self.serving).await {
                Ok(()) => std::future::pending().await,
                Err(error) => format!("the listener has failed: {error}"),
            }
        };
        tokio::select! {
            reason = self.gateway.failed() => reason,
            reason = refused => reason,
            reason = stopped => reason,
        }
    }

    /// Ends it in less than two seconds: nothing more is accepted, streams are told to reconnect, what is under way may
    /// end. What was answered is durable; messages that the broker has not confirmed are published at the next start.
    pub async fn close(mut self) {
        self.gateway.drain();
        if !self.serving.is_finished() {
            // It bounds itself by its grace. A panic in it was logged where it happened.
            let _ = (&mut self.serving).await;
        }
        let closing = self.gateway.close(LAST_WORK);
        if tokio::time::timeout(LAST_WORK + GOODBYE, closing).await.is_err() {
            tracing::warn!("the connections to the database did not close in time");
        }
        self.background.shutdown().await;
    }
}

/// What the interfaces have to know.
struct Interfaces {
    limits: Limits,
    retention: Retention,
    render: Option<RenderMetrics>,
}

impl Interfaces {
    /// All of them on one port.
    fn router(self, gateway: &Gateway) -> Router {
        let Limits {
            max_body,
            max_streams,
        } = self.limits;
        let http = HttpOptions {
            max_body: Some(max_body),
            max_streams,
            metrics: self.render,
            ..HttpOptions::default()
        };
        let mcp = McpOptions {
            max_body,
            max_streams,
            keep_tasks: self.retention.envelopes,
            ..McpOptions::default()
        };
        let grpc = GrpcOptions {
            max_report_bytes: max_body,
            max_streams,
            ..GrpcOptions::default()
        };
        http::router(gateway.clone(), http)
            .merge(mcp::router(gateway.clone(), mcp))
            .merge(grpc::routes(gateway.clone(), grpc))
    }
}
