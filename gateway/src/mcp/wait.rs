//! A held call: it tells of progress until the envelope is final, the time is over, or nobody waits any more.

use asya_gateway_store::Update;
use rmcp::RoleServer;
use rmcp::service::RequestContext;
use tokio::time::{Instant, timeout_at};

use super::exchange::Exchange;
use super::inflight::Entered;
use super::message::Era;
use super::progress::Progress;
use super::server::Server;
use crate::core::Watch;

/// How a held call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The envelope is final.
    Final,
    /// It is not, as far as is known here.
    Early,
}

/// A call that is held.
pub(super) struct Hold<'a> {
    pub(super) server: &'a Server,
    pub(super) exchange: &'a Exchange,
    pub(super) context: &'a RequestContext<RoleServer>,
    pub(super) entered: &'a Entered,
}

impl Hold<'_> {
    /// Waits for the end of an envelope.
    pub(super) async fn until_final(&self, id: &str) -> Ended {
        let limit = Instant::now() + self.server.options.wait_limit;
        let mut watch = match self.server.gateway.watch(&self.exchange.caller, id, None).await {
            Ok(watch) => watch,
            Err(error) => {
                tracing::warn!(envelope = id, %error, "a held call cannot be watched");
                return Ended::Early;
            }
        };
        let draining = self.server.gateway.draining();
        let followed = tokio::select! {
            followed = timeout_at(limit, self.follow(&mut watch)) => followed.ok(),
            // The client is told where to look, and another replica knows.
            () = draining.cancelled() => None,
            () = self.context.ct.cancelled() => {
                self.left(id).await;
                None
            }
            () = self.entered.cancelled() => {
                self.cancel(id, "the client cancelled its request").await;
                None
            }
        };
        followed.unwrap_or(Ended::Early)
    }

    /// Reads updates to the last one and tells the client, if it wants to know.
    async fn follow(&self, watch: &mut Watch) -> Ended {
        let token = self.context.meta.get_progress_token();
        let mut progress = token.filter(|_| self.exchange.reads_events).map(Progress::new);
        loop {
            match watch.next().await {
                Ok(Some(update)) => self.tell(&mut progress, &update).await,
                Ok(None) => return Ended::Final,
                Err(error) => {
                    tracing::warn!(%error, "the progress of a held call cannot be read");
                    return Ended::Early;
                }
            }
        }
    }

    async fn tell(&self, progress: &mut Option<Progress>, update: &Update) {
        let Some(told) = progress.as_mut().and_then(|progress| progress.tell(update)) else {
            return;
        };
        if self.context.peer.notify_progress(told).await.is_err() {
            // Nobody reads any more; the call goes on until that is known for sure.
            *progress = None;
        }
    }

    /// The connection is gone. For the stateless era that is the word to cancel; an old client may only have lost it.
    async fn left(&self, id: &str) {
        if self.exchange.era == Era::Stateless && !self.server.gateway.draining().is_cancelled() {
            self.cancel(id, "the client closed the stream of its request")
                .await;
        }
    }

    async fn cancel(&self, id: &str, reason: &str) {
        if let Err(error) = self
            .server
            .gateway
            .cancel(&self.exchange.caller, id, reason)
            .await
        {
            tracing::warn!(envelope = id, %error, "an envelope cannot be cancelled");
        }
    }
}
