//! Watching single envelopes: any number of watchers on any number of envelopes, without a task for each, without a
//! read of the store for each, and without a gap between history and present.
//!
//! What it is: for every envelope that somebody watches there is one [`Channel`](channel::Channel) with its latest
//! updates, in the order of their ids. A [`Watch`] keeps a place in that order. It takes the next update from the
//! channel, or from the store while it is further behind than the channel reaches. What it is not: it keeps nothing
//! that the store has not, and forgets a channel with its last watcher.
//!
//! How a channel stays complete: ids of updates are ordered but not dense, so that a missing one cannot be told from
//! the ids. The version of the record is dense. A change of this replica is added at once when its version follows the
//! one before; in every other case (changes of other replicas, changes that arrive out of order) one task, the
//! [`pump`], reads the store after the last known id, once for all watchers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use asya_gateway_store::{Record, Store, Update};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use self::channel::{Channel, Need};
pub use self::watch::Watch;

mod channel;
mod pump;
mod ring;
mod watch;

/// Reads of the store under way at once, for all watchers together.
const READS: usize = 8;

/// All channels. Clones share them.
#[derive(Clone)]
pub(super) struct Hub(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    channels: Channels,
    pump: mpsc::UnboundedSender<pump::Task>,
    reads: Semaphore,
}

/// The channels by envelope. A channel removes itself when it is dropped.
type Channels = Arc<Mutex<HashMap<Arc<str>, Weak<Channel>>>>;

fn lock(channels: &Channels) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Channel>>> {
    channels.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// A hub, and its pump, which works until `stop`.
    pub(super) fn new(
        store: Arc<dyn Store>,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (pump, tasks) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            store,
            channels: Channels::default(),
            pump,
            reads: Semaphore::new(READS),
        });
        let working = pump::work(Arc::downgrade(&shared), tasks, stop);
        (Self(shared), working)
    }

    /// Watches an envelope that was just read, after an update id (0 for the whole history).
    pub(super) fn watch(&self, record: &Record, after: i64) -> Watch {
        let channel = self.channel(record);
        if channel.is_before(after) {
            self.read(&channel, channel.look());
        }
        Watch::new(Arc::clone(&self.0), channel, after)
    }

    /// A change of this replica.
    pub(super) fn changed(&self, version: i64, update: &Arc<Update>) {
        if let Some(channel) = self.find(&update.envelope_id) {
            self.read(&channel, channel.changed(version, update));
        }
    }

    /// A hint of the store: an update of this id or later exists.
    pub(super) fn hinted(&self, id: &str, update: i64) {
        if let Some(channel) = self.find(id) {
            let need = channel.hinted(update);
            if need == Need::Read {
                // A change of this replica is hinted at too, and is about to be told with all that it is.
                self.ask(&channel, pump::Pace::Patient);
            }
        }
    }

    /// Anything may have changed.
    pub(super) fn look_everywhere(&self) {
        let channels: Vec<_> = lock(&self.0.channels)
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        for channel in channels {
            self.read(&channel, channel.look());
        }
    }

    /// How many envelopes are watched.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.0.channels).len()
    }

    fn find(&self, id: &str) -> Option<Arc<Channel>> {
        lock(&self.0.channels).get(id).and_then(Weak::upgrade)
    }

    fn channel(&self, record: &Record) -> Arc<Channel> {
        let is_final = record.status.is_final();
        let mut channels = lock(&self.0.channels);
        let found = channels.get(record.id.as_str()).and_then(Weak::upgrade);
        // After a redrive the ended channel of the attempt before may still have watchers.
        let stale = match found {
            Some(channel) if is_final || !channel.has_ended() => {
                drop(channels);
                if is_final {
                    self.read(&channel, channel.ends());
                }
                return channel;
            }
            stale => stale,
        };
        let id: Arc<str> = record.id.as_str().into();
        let channel = Arc::new(Channel::new(
            Arc::clone(&id),
            record.attempt,
            is_final,
            Arc::clone(&self.0.channels),
        ));
        let replaced = channels.insert(id, Arc::downgrade(&channel));
        drop((channels, replaced));
        // Ours may be the last hold on it by now, and its end takes the lock.
        drop(stale);
        self.read(&channel, channel.look());
        channel
    }

    fn read(&self, channel: &Arc<Channel>, need: Need) {
        if need == Need::Read {
            self.ask(channel, pump::Pace::AtOnce);
        }
    }

    fn ask(&self, channel: &Arc<Channel>, pace: pump::Pace) {
        // Without a pump the gateway has stopped, and watchers end with it.
        let _stopped = self.0.pump.send(pump::Task {
            channel: Arc::downgrade(channel),
            pace,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};

    use super::*;
    use crate::core::testing::{record, update};

    #[test]
    fn a_channel_that_ends_while_somebody_comes_hangs_nobody() {
        const ROUNDS: u32 = 20_000;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.db");
        let opening = SqliteStore::open(&file, SqliteOptions::default());
        let store = Arc::new(runtime.block_on(opening).unwrap());
        let (hub, _pump) = Hub::new(store, CancellationToken::new());
        let (sender, leaving) = std::sync::mpsc::channel::<Arc<Channel>>();
        let (gone, was_gone) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for channel in leaving {
                drop(channel);
                gone.send(()).unwrap();
            }
        });
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for round in 0..ROUNDS {
                let record = record("e");
                let channel = hub.channel(&record);
                let begun = channel.begin().unwrap();
                channel.loaded(vec![update("e", 1, true)], true, begun.1);
                // One watcher leaves while another one comes.
                sender.send(channel).unwrap();
                for _ in 0..round % 64 {
                    std::hint::spin_loop();
                }
                let next = hub.channel(&record);
                was_gone.recv().unwrap();
                drop(next);
            }
            done.send(hub.len()).unwrap();
        });
        let left = is_done.recv_timeout(Duration::from_mins(1));
        assert_eq!(left, Ok(0), "somebody hangs");
    }

    #[tokio::test]
    async fn a_channel_is_forgotten_with_its_last_watcher() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.db");
        let store = SqliteStore::open(&file, SqliteOptions::default()).await.unwrap();
        let (hub, pump) = Hub::new(Arc::new(store), CancellationToken::new());
        let pump = tokio::spawn(pump);
        for _ in 0..3 {
            let watches: Vec<Watch> = (0..100)
                .map(|one| hub.watch(&record(&format!("e{}", one % 10)), 0))
                .collect();
            assert_eq!(hub.len(), 10);
            drop(watches);
            // The pump may hold some for the time of a read.
            while hub.len() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        drop(hub);
        tokio::time::timeout(Duration::from_secs(20), pump)
            .await
            .unwrap()
            .unwrap();
    }
}
