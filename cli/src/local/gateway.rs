//! The gateway of a local pipeline: the same as in a cluster, on a port of this machine, with its envelopes in the
//! state directory. The sidecars report to it over the same connections as they would there.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use asya_gateway::core::ToolBook;
use asya_gateway::life::{Server, StartError};
use asya_gateway::settings::Settings;
use asya_sidecar::gateway::{GatewayAddress, GatewayOptions, GatewayReporter};
use asya_sidecar::{FinalReport, Notices, Progress, ReportError, Reporter};
use asya_transport::Transport;
use futures::future::BoxFuture;
use tokio::sync::Mutex;

/// How long reports may still be sent at the end.
const LAST_REPORTS: Duration = Duration::from_millis(500);

/// Where the gateway is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// At this port, or not at all.
    Exactly(u16),
    /// At this port, or at any that is free.
    Rather(u16),
}

/// A gateway that serves a local run.
pub(crate) struct LocalGateway {
    server: Mutex<Server>,
    url: String,
    /// One for each sidecar: each has a stream of its own, as its process would in a cluster.
    reporters: std::sync::Mutex<Vec<Arc<GatewayReporter>>>,
}

/// Reports to a terminal first, then to the gateway.
struct Both {
    near: Arc<dyn Reporter>,
    gateway: Arc<GatewayReporter>,
}

impl LocalGateway {
    /// Starts it.
    pub(crate) async fn start(
        port: Port,
        state_dir: &Path,
        project_dir: &Path,
        transport: Arc<dyn Transport>,
    ) -> anyhow::Result<Self> {
        let tools = tool_file(project_dir);
        let start = async |port: u16| {
            let tools = tools
                .as_deref()
                .map_or_else(|| Ok(ToolBook::empty()), ToolBook::open)?;
            let settings = Settings::embedded(state_dir, port, Arc::clone(&transport), tools);
            anyhow::Ok(Server::start(settings).await)
        };
        let started = match port {
            Port::Exactly(port) => start(port).await?,
            Port::Rather(port) => match start(port).await? {
                Err(StartError::Bind(_)) => start(0).await?,
                started => started,
            },
        };
        let server = started.context("failed to start the gateway")?;
        Ok(Self {
            url: server.url(),
            server: Mutex::new(server),
            reporters: std::sync::Mutex::default(),
        })
    }

    /// Its base URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A reporter that tells `near` and the gateway.
    pub(crate) fn reporter(&self, near: Arc<dyn Reporter>) -> anyhow::Result<Arc<dyn Reporter>> {
        let address = GatewayAddress::parse(&self.url).context("the gateway's own address")?;
        let mut options = GatewayOptions::new(address);
        // It is on this machine and is there to be looked at.
        options.progress_rate = None;
        let gateway = Arc::new(GatewayReporter::start(options)?);
        let mut reporters = self
            .reporters
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        reporters.push(Arc::clone(&gateway));
        Ok(Arc::new(Both { near, gateway }))
    }

    /// Resolves with the reason when it cannot go on.
    pub(crate) async fn failed(&self) -> String {
        self.server.lock().await.failed().await
    }

    /// Lets the last reports arrive, and ends it. The sidecars must have ended.
    pub(crate) async fn close(self) {
        let reporters = self
            .reporters
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        futures::future::join_all(reporters.iter().map(|reporter| reporter.close(LAST_REPORTS))).await;
        self.server.into_inner().close().await;
    }
}

/// The tool file beside the manifests; that there is at most one was checked with them.
fn tool_file(project_dir: &Path) -> Option<PathBuf> {
    let paths = ["asya.yaml", "asya.yml"].map(|name| project_dir.join(name));
    paths.into_iter().find(|path| path.is_file())
}

impl Reporter for Both {
    fn progress(&self, progress: Progress) {
        self.near.progress(progress.clone());
        self.gateway.progress(progress);
    }

    /// The gateway first: what it does not take stays in the queue, and is not yet over for anybody.
    fn finish(&self, report: FinalReport) -> BoxFuture<'static, Result<(), ReportError>> {
        let (near, told) = (Arc::clone(&self.near), self.gateway.finish(report.clone()));
        Box::pin(async move {
            told.await?;
            near.finish(report).await
        })
    }

    fn draining(&self) {
        self.near.draining();
        self.gateway.draining();
    }

    fn notices(&self) -> Option<Arc<Notices>> {
        self.gateway.notices()
    }
}
