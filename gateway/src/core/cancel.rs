//! Cancelling an envelope with everything below it, and telling sidecars about it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asya_gateway_store::{Applied, CancelNotice, Record, Report, ReportEvent, Store, StoreError, View};
use chrono::Utc;
use futures::{Stream, stream};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Gateway;
use super::error::LookupError;
use super::metrics::{self, ReportSource};
use crate::auth::Caller;

/// Children cancelled in one transaction.
const BATCH: u32 = 500;
/// Longest reason, in characters; it is shown in messages.
const REASON: usize = 1000;

/// What came of a cancellation.
#[derive(Debug, Clone)]
pub struct Cancelled {
    /// The envelope after it, [`View::Basic`].
    pub record: Record,
    /// Whether this call ended it; false if it was final before, and then it stays what it was.
    pub cancelled: bool,
    /// How many envelopes below it this call ended.
    pub children: u64,
}

impl Gateway {
    /// Cancels an envelope and all unfinished ones below it. Those below are cancelled even when the envelope itself is
    /// final: the first item of a fan-out keeps the id and may be ready long before the others.
    ///
    /// `reason` is for people and may be empty. Repeating the call is safe, and dropping the future stops nothing.
    pub async fn cancel(&self, caller: &Caller, id: &str, reason: &str) -> Result<Cancelled, LookupError> {
        let before = self.get(caller, id, View::Basic).await?;
        let gateway = self.clone();
        let reason: String = reason.chars().take(REASON).collect();
        // In a task of its own: a caller that goes away would leave children running whose parent is cancelled.
        let cancelling = self.inner.calls.spawn(async move {
            let Record { id, attempt, .. } = before;
            gateway.cancel_all(&id, attempt, &reason).await
        });
        let cancelled = cancelling.await;
        cancelled.unwrap_or_else(|error| Err(StoreError::Broken(error.into()).into()))
    }

    async fn cancel_all(&self, id: &str, attempt: u32, reason: &str) -> Result<Cancelled, LookupError> {
        let first = vec![cancellation(id, attempt, reason)];
        let applied = self.report(ReportSource::Gateway, first).await?;
        let (record, cancelled) = match applied.into_iter().next() {
            Some(Applied::Changed { record, .. }) => (*record, true),
            Some(Applied::Nothing { record }) => (*record, false),
            Some(Applied::Unknown) | None => return Err(LookupError::Unknown),
        };
        let children = self.cancel_below(id, reason).await?;
        Ok(Cancelled {
            record,
            cancelled,
            children,
        })
    }

    async fn cancel_below(&self, id: &str, reason: &str) -> Result<u64, StoreError> {
        let (mut count, mut refused) = (0, None);
        loop {
            let children = self.inner.options.store.unfinished_below(id, BATCH).await?;
            let full = children.len() >= BATCH as usize;
            let reports = children
                .into_iter()
                .map(|child| cancellation(&child.id, child.attempt, reason));
            let (applied, error) = self.inner.reports.hand_in_each(reports.collect()).await;
            let changed = applied
                .iter()
                .filter(|one| matches!(one, Applied::Changed { .. }))
                .count();
            metrics::reports(ReportSource::Gateway, &Ok(applied), 0);
            count += u64::try_from(changed).unwrap_or(u64::MAX);
            refused = refused.or(error);
            // Children that come later are met when they register.
            if !full || changed == 0 {
                return refused.map_or(Ok(count), Err);
            }
        }
    }

    /// All cancellations that sidecars must know: the present ones, then each new one.
    pub fn cancellations(&self) -> Cancellations {
        self.inner.bulletin.cancellations.watch()
    }
}

pub(super) fn cancellation(id: &str, attempt: u32, reason: &str) -> Report {
    Report {
        envelope_id: id.to_owned(),
        attempt,
        at: Utc::now(),
        event: ReportEvent::Cancelled {
            reason: reason.to_owned(),
        },
    }
}

/// The cancellations that are still to be known, as the store has them. Clones share them.
#[derive(Clone)]
pub(super) struct CancelBoard(Arc<Board>);

struct Board {
    state: Mutex<State>,
    hint: Notify,
    /// Changes with every new notice.
    mark: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// In the order in which this replica learned of them.
    notices: BTreeMap<u64, CancelNotice>,
    /// Attempt and number, by envelope.
    known: HashMap<String, (u32, u64)>,
    last: u64,
}

impl State {
    /// Takes over what the store has; returns whether anything is new.
    fn replace(&mut self, notices: Vec<CancelNotice>) -> bool {
        let before = self.last;
        let mut kept = HashMap::with_capacity(notices.len());
        for notice in notices {
            let number = match self.known.get(&notice.envelope_id) {
                Some((attempt, number)) if *attempt >= notice.attempt => *number,
                _ => {
                    self.last += 1;
                    self.notices.insert(self.last, notice.clone());
                    self.last
                }
            };
            kept.insert(notice.envelope_id, (notice.attempt, number));
        }
        self.known = kept;
        let known = &self.known;
        self.notices.retain(|number, notice| {
            known
                .get(&notice.envelope_id)
                .is_some_and(|(_, kept)| kept == number)
        });
        self.last > before
    }
}

impl CancelBoard {
    pub(super) fn new() -> Self {
        Self(Arc::new(Board {
            state: Mutex::default(),
            hint: Notify::new(),
            mark: watch::Sender::new(()),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be a new one.
    pub(super) fn look(&self) {
        self.0.hint.notify_one();
    }

    fn watch(&self) -> Cancellations {
        Cancellations {
            board: self.clone(),
            mark: self.0.mark.subscribe(),
            seen: 0,
        }
    }

    /// Keeps the board like the store until `stop`: after every hint, and every `pause` for what has run out.
    pub(super) async fn follow(self, store: Arc<dyn Store>, pause: Duration, stop: CancellationToken) {
        let following = async {
            loop {
                let start = Instant::now();
                match store.cancellations(Utc::now()).await {
                    Ok(notices) => {
                        if self.state().replace(notices) {
                            self.0.mark.send_replace(());
                        }
                        // Reading takes at most half of the time, however many are cancelled.
                        tokio::time::sleep(start.elapsed()).await;
                        // Either is reason enough to look.
                        let _hinted = tokio::time::timeout(pause, self.0.hint.notified()).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cancellations cannot be read; trying again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(following).await;
    }
}

/// Cancellations: the present ones, then each new one, each once.
pub struct Cancellations {
    board: CancelBoard,
    mark: watch::Receiver<()>,
    seen: u64,
}

impl Cancellations {
    /// The next one. Never ends, and is cancel safe.
    pub async fn next(&mut self) -> CancelNotice {
        loop {
            self.mark.borrow_and_update();
            let next = {
                let state = self.board.state();
                let next = state.notices.range(self.seen + 1..).next();
                next.map(|(number, notice)| (*number, notice.clone()))
            };
            if let Some((number, notice)) = next {
                self.seen = number;
                return notice;
            }
            // The board lives as long as this.
            let _never_closed = self.mark.changed().await;
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = CancelNotice> + Send {
        stream::unfold(self, |mut cancellations| async move {
            let notice = cancellations.next().await;
            Some((notice, cancellations))
        })
    }
}
