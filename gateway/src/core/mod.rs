//! The one core behind REST, gRPC and MCP: it takes calls, sends them on their way, and knows what became of them.
//!
//! What it is: [`Gateway`], over a [`Store`](asya_gateway_store::Store) and a
//! [`Transport`](asya_transport::Transport). What it is not: it knows no HTTP and no protocols; who calls is told to it
//! as a [`Caller`](crate::auth::Caller), whose rights were checked before.
//!
//! Where to read on: `submit` and `outbox` (a call becomes a message and is never lost), `hub` and `tail` (watching),
//! `desk` (many reports, one transaction), `cancel`, `housekeeping`, `tool_book`.
//!
//! Nothing here outlives the store: any number of gateways, in one process or in many, may work on one store.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::{OutboxEntry, OutboxOutcome, Report};
use asya_manifest::{Tool, Tools};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod actors;
mod bulletin;
mod cancel;
mod children;
mod desk;
mod error;
mod health;
mod housekeeping;
mod hub;
mod lookup;
mod losses;
mod message;
mod metrics;
mod options;
mod outbox;
pub mod reply;
mod submit;
mod tail;
#[cfg(test)]
mod testing;
mod tool_book;

pub use actors::{ActorBoard, ActorEvent, ActorKey, ActorWatch};
pub use cancel::{Cancellations, Cancelled};
pub use error::{LookupError, RegisterError, SubmitError};
pub use health::Health;
pub use hub::Watch;
pub use metrics::ReportSource;
pub use options::{BrokerProbe, GatewayOptions, Patience};
pub use submit::{Submitted, ToolCall};
pub use tail::Feed;
pub use tool_book::ToolBook;

use self::bulletin::Bulletin;
use self::cancel::CancelBoard;
use self::desk::Desk;
use self::health::Examiner;
use self::housekeeping::Housekeeper;
use self::hub::Hub;
use self::losses::Losses;
use self::outbox::Outbox;
use self::tail::Tail;

/// How often the mirrors of cancellations and actors are compared with the store without a hint.
const MIRROR: Duration = Duration::from_secs(30);

/// The gateway. Clones share it; when the last one is dropped its tasks end, and what is in the store waits for the
/// next gateway.
#[derive(Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
}

struct Inner {
    options: Arc<GatewayOptions>,
    bulletin: Bulletin,
    tail: Arc<Tail>,
    reports: Desk<Report>,
    outbox: Arc<Outbox>,
    examiner: Examiner,
    losses: Losses,
    /// What is finished before the end: calls that are being stored and sent, messages under way, cancellations.
    calls: TaskTracker,
    /// Everything else.
    tasks: TaskTracker,
    draining: CancellationToken,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.draining.cancel();
        self.stop.cancel();
    }
}

impl Gateway {
    /// Starts a gateway, in the Tokio runtime of the caller: it takes up what the outbox holds, and does the
    /// housekeeping unless another one does.
    #[expect(
        clippy::unused_async,
        reason = "needs a runtime, and may come to wait for the store"
    )]
    pub async fn start(options: GatewayOptions) -> Self {
        let options = Arc::new(options);
        let store = &options.store;
        let (calls, tasks) = (TaskTracker::new(), TaskTracker::new());
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        let losses = Losses::new(draining.clone());
        let (hub, pump) = Hub::new(Arc::clone(store), stop.clone());
        tasks.spawn(losses.guard("watching envelopes", pump));
        let tail = Arc::new(Tail::new(Arc::clone(store)));
        let following = Arc::clone(&tail).follow(stop.clone());
        tasks.spawn(losses.guard("watching all envelopes", following));
        let bulletin = Bulletin {
            hub,
            tail: Arc::clone(&tail),
            cancellations: CancelBoard::new(),
            actors: ActorBoard::new(Arc::clone(store)),
        };
        // Before anything is read: what changes after the reading is hinted at.
        let hints = store.subscribe();
        let listening = bulletin.clone().listen(Arc::clone(store), hints, stop.clone());
        tasks.spawn(losses.guard("changes of other replicas", listening));
        let board = bulletin.cancellations.clone();
        let following = board.follow(Arc::clone(store), MIRROR, stop.clone());
        tasks.spawn(losses.guard("cancellations", following));
        let following = bulletin.actors.clone().follow(MIRROR, stop.clone());
        tasks.spawn(losses.guard("actors", following));
        let (reports, clerk) = Desk::<Report>::open(Arc::clone(store), bulletin.clone(), stop.clone());
        tasks.spawn(losses.guard("reports", clerk));
        let (settled, clerk) =
            Desk::<(OutboxEntry, OutboxOutcome)>::open(Arc::clone(store), bulletin.clone(), stop.clone());
        tasks.spawn(losses.guard("settling the outbox", clerk));
        let outbox = Arc::new(Outbox::new(&options, settled, reports.clone(), stop.clone()));
        let sending = Arc::clone(&outbox).work(draining.clone());
        calls.spawn(losses.guard("the outbox", sending));
        let housekeeper = Housekeeper {
            options: Arc::clone(&options),
            reports: reports.clone(),
        };
        tasks.spawn(losses.guard("deadlines", housekeeper.work(stop.clone())));
        let following = options.tools.clone().follow(options.patience.tools, stop.clone());
        tasks.spawn(losses.guard("tool files", following));
        Self {
            inner: Arc::new(Inner {
                examiner: Examiner::new(&options),
                losses,
                options,
                bulletin,
                tail,
                reports,
                outbox,
                calls,
                tasks,
                draining,
                stop,
            }),
        }
    }

    /// All tools, in file order.
    pub fn tools(&self) -> Arc<Tools> {
        self.inner.options.tools.tools()
    }

    /// The tool of this name.
    pub fn tool(&self, name: &str) -> Option<Arc<Tool>> {
        self.inner.options.tools.tool(name)
    }

    /// Counts the versions of the tools, from 0.
    pub fn tools_changed(&self) -> watch::Receiver<u64> {
        self.inner.options.tools.changed()
    }

    /// What operators say of their actors.
    pub fn actors(&self) -> &ActorBoard {
        &self.inner.bulletin.actors
    }

    /// The broker's limit for one message, in bytes.
    pub fn max_body(&self) -> Option<usize> {
        self.inner.options.transport.max_message_size()
    }

    /// The name of the store's kind, for logs.
    pub fn store_name(&self) -> &'static str {
        self.inner.options.store.name()
    }

    /// The name of the transport's kind, for logs.
    pub fn transport_name(&self) -> &'static str {
        self.inner.options.transport.name()
    }

    /// How it is. Cheap: who asks again soon gets the same answer.
    pub async fn health(&self) -> Health {
        let health = self.inner.examiner.examine();
        health
            .await
            .with(self.failure(), self.inner.draining.is_cancelled())
    }

    /// Why it can never do its work again, in one line: one of its tasks has ended before its time. `None` while all
    /// is well, and when it is about to stop.
    pub fn failure(&self) -> Option<String> {
        self.inner.losses.told()
    }

    /// Waits for such a [`failure`](Self::failure). Cancel safe.
    pub async fn failed(&self) -> String {
        self.inner.losses.any().await
    }

    /// Takes no more calls, and no more of what others left in the outbox. Reports are taken on, and reading goes on;
    /// streams are to end and say so.
    pub fn drain(&self) {
        self.inner.draining.cancel();
    }

    /// Cancelled once it is draining.
    pub fn draining(&self) -> CancellationToken {
        self.inner.draining.clone()
    }

    /// Drains, waits at most `grace` for messages that are being sent and for cancellations, ends all tasks and closes
    /// the store. What is not sent by then stays in the outbox.
    pub async fn close(self, grace: Duration) {
        self.drain();
        let Inner {
            calls, tasks, stop, ..
        } = &*self.inner;
        calls.close();
        tasks.close();
        let ending = async {
            calls.wait().await;
            stop.cancel();
            tasks.wait().await;
        };
        if tokio::time::timeout(grace, ending).await.is_err() {
            if !calls.is_empty() {
                tracing::warn!("some messages were still being sent; the outbox has them");
            }
            stop.cancel();
        }
        self.inner.options.store.close().await;
    }
}
