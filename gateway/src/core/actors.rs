//! What operators say of their actors: kept in the store, mirrored in every replica, watched by clients.
//!
//! A watcher that reads slowly misses states that newer ones of the same actor replaced, never the newest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use asya_gateway_store::{ActorRow, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::metrics::Watching;

/// Deleted actors that are remembered for watchers who read slowly; beyond it those start anew.
const DELETED: usize = 10_000;

/// Names one actor everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActorKey {
    /// Which cluster, as its operator was told.
    pub cluster: String,
    /// Which namespace.
    pub namespace: String,
    /// Which name.
    pub name: String,
}

impl ActorKey {
    fn of(row: &ActorRow) -> Self {
        Self {
            cluster: row.cluster.clone(),
            namespace: row.namespace.clone(),
            name: row.name.clone(),
        }
    }
}

/// What a watcher of actors learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorEvent {
    /// New or changed.
    Put(Arc<ActorRow>),
    /// Not there any more.
    Deleted(ActorKey),
    /// All that was there at the start has been told; what follows are changes. Comes once.
    Synced,
}

/// The actors. Clones share them.
#[derive(Clone)]
pub struct ActorBoard(Arc<Board>);

struct Board {
    store: Arc<dyn Store>,
    state: Mutex<State>,
    hint: Notify,
    /// Changes with the state.
    mark: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// Whether the store was read at all.
    is_read: bool,
    /// With the number of the last change.
    actors: BTreeMap<ActorKey, (u64, Arc<ActorRow>)>,
    deleted: BTreeMap<ActorKey, u64>,
    /// Each actor's last change, in order.
    changes: BTreeMap<u64, ActorKey>,
    last: u64,
    /// Deletions up to this number may be forgotten.
    forgotten: u64,
}

impl State {
    /// Takes over what the store has; returns whether anything changed.
    fn replace(&mut self, rows: Vec<ActorRow>) -> bool {
        let before = (self.last, self.is_read);
        self.is_read = true;
        let mut present = BTreeSet::new();
        for row in rows {
            let key = ActorKey::of(&row);
            let is_known = self.actors.get(&key).is_some_and(|(_, known)| **known == row);
            if !is_known {
                let number = self.number(&key);
                self.actors.insert(key.clone(), (number, Arc::new(row)));
            }
            present.insert(key);
        }
        let gone: Vec<_> = self
            .actors
            .keys()
            .filter(|key| !present.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            let number = self.number(&key);
            self.actors.remove(&key);
            self.deleted.insert(key, number);
        }
        self.forget();
        (self.last, self.is_read) != before
    }

    /// Notes a change of an actor in place of its earlier ones.
    fn number(&mut self, key: &ActorKey) -> u64 {
        let earlier = self
            .deleted
            .remove(key)
            .or(self.actors.get(key).map(|(number, _)| *number));
        if let Some(earlier) = earlier {
            self.changes.remove(&earlier);
        }
        self.last += 1;
        self.changes.insert(self.last, key.clone());
        self.last
    }

    fn forget(&mut self) {
        if self.deleted.len() <= DELETED {
            return;
        }
        for (_, number) in std::mem::take(&mut self.deleted) {
            self.changes.remove(&number);
        }
        self.forgotten = self.last;
    }

    fn after(&self, number: u64) -> Option<(u64, ActorEvent)> {
        let (number, key) = self.changes.range(number + 1..).next()?;
        let event = match self.actors.get(key) {
            Some((_, row)) => ActorEvent::Put(Arc::clone(row)),
            None => ActorEvent::Deleted(key.clone()),
        };
        Some((*number, event))
    }
}

impl ActorBoard {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(Arc::new(Board {
            store,
            state: Mutex::default(),
            hint: Notify::new(),
            mark: watch::Sender::new(()),
        }))
    }

    /// Stores what an operator saw; older sights than the stored ones change nothing.
    pub async fn put(&self, rows: Vec<ActorRow>) -> Result<(), StoreError> {
        let changed = self.0.store.put_actors(rows).await?;
        if !changed.is_empty() {
            self.look();
        }
        Ok(())
    }

    /// Forgets one actor; says whether it was there.
    pub async fn delete(&self, key: &ActorKey) -> Result<bool, StoreError> {
        let deleted = self
            .0
            .store
            .delete_actor(&key.cluster, &key.namespace, &key.name)
            .await?;
        if deleted {
            self.look();
        }
        Ok(deleted)
    }

    /// Forgets the actors of a cluster that are not among `keep`, pairs of namespace and name.
    pub async fn retain(&self, cluster: &str, keep: &[(String, String)]) -> Result<(), StoreError> {
        let gone = self.0.store.retain_actors(cluster, keep).await?;
        if !gone.is_empty() {
            self.look();
        }
        Ok(())
    }

    /// All actors, ordered by cluster, namespace and name.
    pub async fn list(&self) -> Result<Vec<ActorRow>, StoreError> {
        self.0.store.actors().await
    }

    /// All actors, a mark, then each change.
    pub fn watch(&self) -> ActorWatch {
        ActorWatch {
            board: self.clone(),
            mark: self.0.mark.subscribe(),
            seen: 0,
            synced_at: None,
            told: BTreeSet::new(),
            _counted: Watching::new("actors"),
        }
    }

    /// Something may have changed.
    pub(super) fn look(&self) {
        self.0.hint.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the board like the store until `stop`: after every hint, and every `pause`.
    pub(super) async fn follow(self, pause: Duration, stop: CancellationToken) {
        let following = async {
            loop {
                let start = Instant::now();
                match self.0.store.actors().await {
                    Ok(rows) => {
                        if self.state().replace(rows) {
                            self.0.mark.send_replace(());
                        }
                        // Reading takes at most half of the time, however many actors there are.
                        tokio::time::sleep(start.elapsed()).await;
                        // Either is reason enough to look.
                        let _hinted = tokio::time::timeout(pause, self.0.hint.notified()).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "actors cannot be read; trying again");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(following).await;
    }
}

/// A watch of all actors.
pub struct ActorWatch {
    board: ActorBoard,
    mark: watch::Receiver<()>,
    seen: u64,
    /// The change with which the present state was complete; `None` until it was told.
    synced_at: Option<Sync>,
    /// Actors that were told and not deleted since: deletions of others are no news.
    told: BTreeSet<ActorKey>,
    _counted: Watching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// When this change has been passed.
    At(u64),
    /// It was told.
    Told,
}

impl ActorWatch {
    /// The next event. Never ends, and is cancel safe.
    pub async fn next(&mut self) -> ActorEvent {
        loop {
            self.mark.borrow_and_update();
            if let Some(event) = self.step() {
                return event;
            }
            // The board lives as long as this.
            let _never_closed = self.mark.changed().await;
        }
    }

    fn step(&mut self) -> Option<ActorEvent> {
        let board = self.board.clone();
        let state = board.state();
        if !state.is_read {
            return None;
        }
        let sync = *self.synced_at.get_or_insert(Sync::At(state.last));
        loop {
            if let Some(event) = self.missed_deletion(&state) {
                return Some(event);
            }
            let next = state.after(self.seen);
            if let Sync::At(number) = sync
                && next.as_ref().is_none_or(|(next, _)| *next > number)
            {
                self.synced_at = Some(Sync::Told);
                return Some(ActorEvent::Synced);
            }
            let (number, event) = next?;
            self.seen = number;
            let is_news = match &event {
                ActorEvent::Put(row) => {
                    self.told.insert(ActorKey::of(row));
                    true
                }
                ActorEvent::Deleted(key) => self.told.remove(key),
                ActorEvent::Synced => true,
            };
            if is_news {
                return Some(event);
            }
        }
    }

    /// An actor whose deletion was forgotten before this watch came to it.
    fn missed_deletion(&mut self, state: &State) -> Option<ActorEvent> {
        if self.seen >= state.forgotten {
            return None;
        }
        let gone = |key: &&ActorKey| !state.actors.contains_key(*key) && !state.deleted.contains_key(*key);
        let key = self.told.iter().find(gone).cloned()?;
        self.told.remove(&key);
        Some(ActorEvent::Deleted(key))
    }
}
