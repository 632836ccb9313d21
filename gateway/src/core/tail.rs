//! The end of the history of all envelopes: read once for everybody who watches by a filter.
//!
//! What it is: one task that, while anybody watches, reads what is new, notes whose it is, and keeps the latest part.
//! A [`Feed`] keeps a place in that order and picks what its filter matches; one that is further behind reads the
//! store. Updates do not say whose they are, of which tool and under which parent; that never changes for an envelope,
//! so it is looked up once and remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asya_gateway_store::{
    FeedCursor, FeedEntry, Filter, Outcome, Record, Status, Store, StoreError, Update, View,
};
use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::error::LookupError;
use super::metrics::Watching;

/// Entries kept, and read at once.
const KEPT: usize = 1024;
const PAGE: u32 = 256;
/// Remembered envelopes.
const FACTS: usize = 20_000;
/// How long changes are collected before they are read, and how often is looked without any: a change that was
/// waiting for an older one shows itself without a hint.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// The end of the history of all envelopes.
pub(super) struct Tail {
    store: Arc<dyn Store>,
    state: Mutex<State>,
    facts: Mutex<Facts>,
    /// Something may be new.
    hint: Notify,
    /// Changes with the entries.
    mark: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// While anybody watches: every entry after this, up to the last, is kept.
    floor: FeedCursor,
    last: FeedCursor,
    entries: VecDeque<Entry>,
    watchers: usize,
}

#[derive(Clone)]
struct Entry {
    cursor: FeedCursor,
    update: Arc<Update>,
    /// `None` when the envelope is deleted.
    fact: Option<Arc<Fact>>,
}

/// What never changes of an envelope.
#[derive(Debug)]
struct Fact {
    tenant: Option<String>,
    tool: Option<String>,
    parent_id: Option<String>,
    created_at: DateTime<Utc>,
}

impl Fact {
    fn of(record: &Record) -> Self {
        Self {
            tenant: record.tenant.clone(),
            tool: record.tool.clone(),
            parent_id: record.parent_id.clone(),
            created_at: record.created_at,
        }
    }
}

/// Facts by envelope; the oldest are forgotten first.
#[derive(Default)]
struct Facts {
    by_id: HashMap<Arc<str>, Arc<Fact>>,
    order: VecDeque<Arc<str>>,
}

impl Facts {
    fn insert(&mut self, id: &str, fact: Arc<Fact>) {
        let id: Arc<str> = id.into();
        if self.by_id.insert(Arc::clone(&id), fact).is_some() {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > FACTS
            && let Some(oldest) = self.order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tail {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            state: Mutex::default(),
            facts: Mutex::default(),
            hint: Notify::new(),
            mark: watch::Sender::new(()),
        }
    }

    /// Something may be new.
    pub(super) fn look(&self) {
        self.hint.notify_one();
    }

    /// Notes whose a new envelope is, as long as anybody may ask.
    pub(super) fn remember(&self, record: &Record) {
        if lock(&self.state).watchers > 0 {
            lock(&self.facts).insert(&record.id, Arc::new(Fact::of(record)));
        }
    }

    /// Watches what `filter` matches, after `after` or from now on.
    pub(super) async fn watch(
        self: &Arc<Self>,
        filter: Filter,
        after: Option<FeedCursor>,
    ) -> Result<Feed, LookupError> {
        let (end, oldest) = self.store.feed_bounds().await?;
        // What is beyond the end comes from before a backup was restored.
        if after.is_some_and(|after| after < oldest || after > end) {
            return Err(LookupError::HistoryGone);
        }
        {
            let mut state = lock(&self.state);
            if state.watchers == 0 {
                (state.floor, state.last) = (end, end);
                state.entries.clear();
            }
            state.watchers += 1;
        }
        self.look();
        Ok(Feed {
            tail: Arc::clone(self),
            mark: self.mark.subscribe(),
            filter,
            cursor: after.unwrap_or(end),
            page: VecDeque::new(),
            _counted: Watching::new("feed"),
        })
    }

    /// Reads what is new while anybody watches, until `stop`.
    pub(super) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let following = async {
            loop {
                if lock(&self.state).watchers == 0 {
                    self.hint.notified().await;
                    continue;
                }
                // Either is reason enough to look.
                let _hinted = tokio::time::timeout(PAUSES.1, self.hint.notified()).await;
                tokio::time::sleep(PAUSES.0).await;
                if let Err(error) = self.read().await {
                    tracing::warn!(%error, "watchers of all envelopes wait for the store");
                    tokio::time::sleep(PAUSES.1).await;
                }
            }
        };
        stop.run_until_cancelled(following).await;
    }

    async fn read(&self) -> Result<(), StoreError> {
        loop {
            let after = lock(&self.state).last;
            let page = self.page(after).await?;
            let count = page.len();
            if count > 0 {
                self.push(page, after);
                self.mark.send_replace(());
            }
            if count < PAGE as usize {
                return Ok(());
            }
        }
    }

    fn push(&self, page: Vec<Entry>, after: FeedCursor) {
        let mut state = lock(&self.state);
        // Everybody left and somebody came while this was read: it starts somewhere else then.
        if state.last != after {
            return;
        }
        for entry in page {
            state.last = entry.cursor;
            state.entries.push_back(entry);
            if state.entries.len() > KEPT
                && let Some(dropped) = state.entries.pop_front()
            {
                state.floor = dropped.cursor;
            }
        }
    }

    /// A page of the history, with whose each update is.
    async fn page(&self, after: FeedCursor) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        for FeedEntry { cursor, update } in self.store.feed(after, PAGE).await? {
            let fact = self.fact(&update.envelope_id).await?;
            entries.push(Entry { cursor, update, fact });
        }
        Ok(entries)
    }

    async fn fact(&self, id: &str) -> Result<Option<Arc<Fact>>, StoreError> {
        if let Some(fact) = lock(&self.facts).by_id.get(id) {
            return Ok(Some(Arc::clone(fact)));
        }
        let Some(record) = self.store.get(id, View::Basic).await? else {
            return Ok(None);
        };
        let fact = Arc::new(Fact::of(&record));
        lock(&self.facts).insert(id, Arc::clone(&fact));
        Ok(Some(fact))
    }

    /// What comes after a place; `Err` when it is not kept any more.
    fn after(&self, cursor: FeedCursor) -> Result<Option<Entry>, ()> {
        let state = lock(&self.state);
        if cursor < state.floor {
            return Err(());
        }
        let place = state.entries.partition_point(|entry| entry.cursor <= cursor);
        Ok(state.entries.get(place).cloned())
    }
}

/// The updates of all envelopes that a filter matches, in the order in which they became visible.
pub struct Feed {
    tail: Arc<Tail>,
    mark: watch::Receiver<()>,
    filter: Filter,
    cursor: FeedCursor,
    page: VecDeque<Entry>,
    _counted: Watching,
}

impl Feed {
    /// Where another feed may go on. Moves on over what the filter does not match, too.
    pub fn cursor(&self) -> FeedCursor {
        self.cursor
    }

    /// The next update that matches. Never ends, and is cancel safe.
    ///
    /// A filter for an actor matches updates about that actor; one for a status or an outcome what the envelope has
    /// after the update.
    ///
    /// # Errors
    /// When history must be read and the store does not answer; the feed is as before and may be asked again.
    pub async fn next(&mut self) -> Result<FeedEntry, StoreError> {
        loop {
            if let Some(entry) = self.page.pop_front() {
                if let Some(entry) = self.take(entry) {
                    return Ok(entry);
                }
                continue;
            }
            self.mark.borrow_and_update();
            match self.tail.after(self.cursor) {
                Ok(Some(entry)) => {
                    if let Some(entry) = self.take(entry) {
                        return Ok(entry);
                    }
                }
                Ok(None) => {
                    // The tail lives as long as the feed.
                    let _never_closed = self.mark.changed().await;
                }
                Err(()) => {
                    let page = self.tail.page(self.cursor).await?;
                    match page.last() {
                        Some(_) => self.page.extend(page),
                        // Deleted meanwhile: go on with what is kept.
                        None => self.cursor = lock(&self.tail.state).floor,
                    }
                }
            }
        }
    }

    fn take(&mut self, entry: Entry) -> Option<FeedEntry> {
        self.cursor = entry.cursor;
        matches(&self.filter, &entry).then_some(FeedEntry {
            cursor: entry.cursor,
            update: entry.update,
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = lock(&self.tail.state);
        state.watchers -= 1;
        if state.watchers == 0 {
            state.entries = VecDeque::new();
            drop(state);
            *lock(&self.tail.facts) = Facts::default();
        }
    }
}

fn matches(filter: &Filter, entry: &Entry) -> bool {
    let update = &entry.update;
    let by_update = (filter.statuses.is_empty() || filter.statuses.contains(&update.status))
        && (filter.outcomes.is_empty()
            || outcome(update).is_some_and(|outcome| filter.outcomes.contains(&outcome)))
        && (filter.actor.is_none() || filter.actor == update.actor);
    if !by_update {
        return false;
    }
    let Some(fact) = &entry.fact else {
        // Nobody knows whose it was.
        return filter.tenant.is_none()
            && filter.tool.is_none()
            && filter.parent_id.is_none()
            && filter.created_from.is_none()
            && filter.created_before.is_none();
    };
    (filter.tenant.is_none() || filter.tenant == fact.tenant)
        && (filter.tool.is_none() || filter.tool == fact.tool)
        && (filter.parent_id.is_none() || filter.parent_id == fact.parent_id)
        && filter.created_from.is_none_or(|from| fact.created_at >= from)
        && filter
            .created_before
            .is_none_or(|before| fact.created_at < before)
}

/// Final rows of the original have no outcome: their status says it.
fn outcome(update: &Update) -> Option<Outcome> {
    update.outcome.or(match update.status {
        Status::Succeeded => Some(Outcome::Succeeded),
        Status::Failed => Some(Outcome::Failed),
        Status::Pending | Status::Running | Status::Unknown => None,
    })
}
