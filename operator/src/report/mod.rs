//! Tells the gateway what is seen of every actor (`ActorStatus` of `asya/status/v1`).
//!
//! What it is: [`Observer`], which the controller tells of actors without ever waiting, and [`Reporter`], which keeps
//! the newest of each and streams it over gRPC: everything when a stream begins, then each change, coalesced per actor.
//! What it is not: nothing of the operator depends on a gateway being there; without one, [`Nobody`] is told.
//!
//! Inside: `wire` makes messages, `board` holds what there is to tell, `link` keeps the stream, `voice` speaks of it in
//! the log.

mod address;
mod board;
mod link;
mod token;
mod voice;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::resource::AsyncActor;
use crate::status::Status;

pub use address::{AddressError, GatewayAddress};
pub use board::Progress;
pub use token::{GatewayToken, TokenError};

use board::Board;

/// What the controller tells of actors; cheap to call, never waits. Implementations keep the newest of each actor.
pub trait Observer: Send + Sync + 'static {
    /// The whole present state of one actor.
    fn observed(&self, actor: &AsyncActor, status: &Status);
    /// An actor is gone.
    fn deleted(&self, namespace: &str, name: &str);
    /// Every actor that exists has been told once since this process leads.
    fn synced(&self);
}

/// Nobody is told.
#[derive(Debug, Default, Clone, Copy)]
pub struct Nobody;

impl Observer for Nobody {
    fn observed(&self, _: &AsyncActor, _: &Status) {}
    fn deleted(&self, _: &str, _: &str) {}
    fn synced(&self) {}
}

/// Whom a [`Reporter`] tells, and how patient it is. [`Options::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the gateway is (`ASYA_GATEWAY_URL`).
    pub address: GatewayAddress,
    /// What the gateway asks operators for (`ASYA_GATEWAY_TOKEN` here, `ASYA_AUTH_OPERATOR_TOKEN` there).
    pub token: Option<GatewayToken>,
    /// Under which name the gateway keeps the actors of this cluster; not empty.
    pub cluster: String,
    /// Names this process; by default chosen at random.
    pub instance: String,
    /// Version of the operator, for the gateway's log; by default that of this crate.
    pub version: String,
    /// Longest wait for a connection, and for the acknowledgement of something that was sent; 10 s.
    pub request_timeout: Duration,
    /// Pause after the first failure, doubled with each further one, half of it by chance; 200 ms.
    pub first_pause: Duration,
    /// Longest such pause; 15 s.
    pub longest_pause: Duration,
    /// Pause after a refusal that only people can end; 1 min.
    pub refused_pause: Duration,
    /// How often everything is told again on a stream, so that whatever another operator said meanwhile is mended;
    /// 10 min.
    pub repeat: Duration,
}

impl Options {
    /// With defaults.
    pub fn new(address: GatewayAddress, cluster: impl Into<String>) -> Self {
        Self {
            address,
            token: None,
            cluster: cluster.into(),
            instance: uuid::Uuid::new_v4().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            request_timeout: Duration::from_secs(10),
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(15),
            refused_pause: Duration::from_mins(1),
            repeat: Duration::from_mins(10),
        }
    }
}

/// Tells a gateway. Keeps the newest of each actor, so its memory is bounded by the number of actors, however long the
/// gateway is away.
///
/// Metrics: `asya_operator_gateway_connected` (gauge, 0 or 1), `asya_operator_gateway_breaks_total` (counter: streams
/// that ended, or could not be opened), `asya_operator_gateway_reports_total` (counter: acknowledged messages),
/// `asya_operator_gateway_report_lag_seconds` (histogram: from a change to its acknowledgement).
pub struct Reporter {
    board: Arc<Board>,
    cluster: String,
    task: JoinHandle<()>,
}

impl Reporter {
    /// Starts telling, on the Tokio runtime of the caller, until `shutdown`.
    pub fn start(options: Options, shutdown: CancellationToken) -> Arc<Self> {
        let board = Arc::new(Board::default());
        let cluster = options.cluster.clone();
        let task = tokio::spawn(link::keep(options, Arc::clone(&board), shutdown));
        Arc::new(Self { board, cluster, task })
    }

    /// How far the telling is.
    pub fn progress(&self) -> Progress {
        self.board.progress()
    }

    /// Resolves when the gateway has acknowledged everything that was told so far, `synced` included.
    pub async fn completed(&self) {
        self.board.completed().await;
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer for Reporter {
    fn observed(&self, actor: &AsyncActor, status: &Status) {
        let told = wire::actor(&self.cluster, actor, status, Timestamp::now());
        let metadata = &actor.metadata;
        let name = (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        self.board.put(name, told, Instant::now());
    }

    fn deleted(&self, namespace: &str, name: &str) {
        self.board
            .remove((namespace.to_owned(), name.to_owned()), Instant::now());
    }

    fn synced(&self) {
        self.board.complete();
    }
}
