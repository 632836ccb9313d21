//! One watcher of one envelope.

use std::collections::VecDeque;
use std::sync::Arc;

use asya_gateway_store::{Kind, Record, StoreError, Update, View};
use futures::{Stream, stream};
use tokio::sync::watch;

use super::Shared;
use super::channel::{Channel, Found};
use super::ring::{next_page, weight};
use crate::core::metrics::Watching;

/// Updates read at once by a watcher that is far behind, and how many bytes of them it holds.
const PAGE: (u32, usize) = (64, 64 * 1024);
/// Updates of the first read.
const FIRST_PAGE: u32 = 16;

/// The updates of one envelope: its history, then what happens, each exactly once and in order, until the final one.
///
/// Holds no task and no more than a few pages of memory, however slowly it is read.
pub struct Watch {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
    mark: watch::Receiver<()>,
    cursor: i64,
    page: VecDeque<Arc<Update>>,
    /// Updates of the next read.
    rows: u32,
    told: Told,
    _counted: Watching,
}

/// What a watcher has been told so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Perhaps something, never the end.
    Part {
        /// Whether it began at the beginning.
        whole: bool,
    },
    /// The end.
    End,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, channel: Arc<Channel>, after: i64) -> Self {
        Self {
            shared,
            mark: channel.mark(),
            channel,
            cursor: after.max(0),
            page: VecDeque::new(),
            rows: FIRST_PAGE,
            told: Told::Part { whole: after <= 0 },
            _counted: Watching::new("envelope"),
        }
    }

    /// Id of the last update that was returned: where another watch may go on.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The next update; `None` after the final one, and again after that.
    ///
    /// A watch whose place is not in the history of the envelope (an id that was never given out) starts at the
    /// beginning. The end of an envelope whose history is deleted already is told from its record.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// When history must be read and the store does not answer. The watch is as before and may be asked again. While
    /// the store is away, a watch that needs no history waits.
    pub async fn next(&mut self) -> Result<Option<Arc<Update>>, StoreError> {
        loop {
            if self.told == Told::End {
                return Ok(None);
            }
            if let Some(update) = self.page.pop_front() {
                return Ok(Some(self.take(update)));
            }
            self.mark.borrow_and_update();
            match self.channel.after(self.cursor) {
                Found::Update(update) => return Ok(Some(self.take(update))),
                Found::InStore => self.read().await?,
                Found::Astray => {
                    self.cursor = 0;
                    self.told = Told::Part { whole: true };
                }
                Found::End => return self.end().await,
                Found::Wait => {
                    // The channel lives as long as the watch, and the mark as long as the channel.
                    let _never_closed = self.mark.changed().await;
                }
            }
        }
    }

    /// The same as a stream; after an error it may be polled again.
    pub fn into_stream(self) -> impl Stream<Item = Result<Arc<Update>, StoreError>> + Send {
        stream::unfold(self, |mut watch| async move {
            let next = watch.next().await.transpose()?;
            Some((next, watch))
        })
    }

    /// Waits until nothing is left to happen, whatever was read of it.
    pub(in crate::core) async fn ended(&mut self) {
        loop {
            self.mark.borrow_and_update();
            if self.channel.has_ended() {
                return;
            }
            // The channel lives as long as the watch, and the mark as long as the channel.
            let _never_closed = self.mark.changed().await;
        }
    }

    fn take(&mut self, update: Arc<Update>) -> Arc<Update> {
        self.cursor = update.id;
        if self.channel.ends_with(&update) {
            self.told = Told::End;
        }
        update
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let updates = {
            // It is never closed.
            let _turn = self.shared.reads.acquire().await;
            self.shared
                .store
                .updates(&self.channel.id, self.cursor, self.rows)
                .await?
        };
        if updates.is_empty() {
            // Deleted since the channel dropped it: go on with what is kept.
            self.cursor = self.channel.floor().max(self.cursor);
        }
        let mut bytes = 0;
        self.rows = next_page(self.rows, updates.iter().map(weight).sum(), PAGE.0);
        for update in updates {
            bytes += weight(&update);
            if bytes > PAGE.1 && !self.page.is_empty() {
                break;
            }
            self.page.push_back(Arc::new(update));
        }
        Ok(())
    }

    /// All is told, the final update perhaps excepted: after a resumption it was told before, else the record has it.
    async fn end(&mut self) -> Result<Option<Arc<Update>>, StoreError> {
        let Told::Part { whole: true } = self.told else {
            self.told = Told::End;
            return Ok(None);
        };
        let record = self.shared.store.get(&self.channel.id, View::Full).await?;
        self.told = Told::End;
        let ended = record.filter(|record| record.status.is_final());
        Ok(ended.map(|record| Arc::new(last_word(self.channel.id.clone(), record, self.cursor))))
    }
}

/// The final update as the record tells it, for envelopes whose history is gone.
fn last_word(envelope_id: Arc<str>, record: Record, id: i64) -> Update {
    Update {
        id,
        envelope_id,
        kind: Kind::Final,
        status: record.status,
        outcome: record.outcome,
        attempt: record.attempt,
        message: record.message,
        result: record.result,
        error: record.error,
        failure: None,
        progress_percent: Some(record.progress_percent),
        actor: record.current_actor_name,
        actors: Some(record.actors.into()),
        current_actor_idx: Some(record.current_actor_idx),
        phase: None,
        partial: None,
        next_run_at: None,
        at: record.updated_at,
    }
}
