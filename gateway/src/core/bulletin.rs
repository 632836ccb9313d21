//! Whoever has changed something in the store tells it here, and everybody who watches learns of it.
//!
//! [`Bulletin::post`] is for changes of this replica, whose content is at hand; [`Bulletin::listen`] passes on the
//! hints of the store, which cover other replicas and whatever else writes to the database.

use std::sync::Arc;

use asya_gateway_store::{Applied, Changed, Outcome, Store};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::actors::ActorBoard;
use super::cancel::CancelBoard;
use super::hub::Hub;
use super::metrics;
use super::tail::Tail;

/// Everybody who wants to know. Clones share them.
#[derive(Clone)]
pub(super) struct Bulletin {
    pub(super) hub: Hub,
    pub(super) tail: Arc<Tail>,
    pub(super) cancellations: CancelBoard,
    pub(super) actors: ActorBoard,
}

impl Bulletin {
    /// Tells what came of reports.
    pub(super) fn post(&self, applied: &[Applied]) {
        let mut changed = false;
        for one in applied {
            let Applied::Changed { record, update } = one else {
                continue;
            };
            changed = true;
            self.hub.changed(record.version, update);
            if update.is_final() {
                let fallen = Outcome::Failed;
                let outcome = update.outcome.or(record.outcome).unwrap_or(fallen);
                metrics::finished(outcome);
                if outcome == Outcome::Cancelled {
                    self.cancellations.look();
                }
            }
        }
        if changed {
            self.tail.look();
        }
    }

    /// Passes the hints of the store on until `stop`.
    pub(super) async fn listen(
        self,
        store: Arc<dyn Store>,
        mut hints: Receiver<Changed>,
        stop: CancellationToken,
    ) {
        while let Some(hint) = stop.run_until_cancelled(hints.recv()).await {
            match hint {
                Ok(Changed::Envelope { id, update }) => {
                    self.hub.hinted(&id, update);
                    self.tail.look();
                }
                Ok(Changed::Actors) => self.actors.look(),
                Ok(Changed::Cancellation) => self.cancellations.look(),
                Ok(Changed::Everything) | Err(RecvError::Lagged(_)) => self.look_everywhere(),
                Err(RecvError::Closed) => {
                    tracing::warn!(store = store.name(), "the store tells of no more changes");
                    return;
                }
            }
        }
    }

    fn look_everywhere(&self) {
        self.hub.look_everywhere();
        self.tail.look();
        self.cancellations.look();
        self.actors.look();
    }
}
