//! The list of actors that have to be looked at: each at most once, never two passes over one actor at a time, and
//! some only later.
//!
//! It has one consumer, which starts the passes. It exists beside kube's own controller because that one watches either
//! one namespace or all, and because dashboards know the figures of this kind of queue (contract operator §3.3).

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::metrics;

/// Namespace and name of an actor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// `metadata.namespace`.
    pub(super) namespace: String,
    /// `metadata.name`.
    pub(super) name: String,
}

impl Key {
    /// The key of an actor.
    pub(super) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct WorkQueue {
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<(Key, Instant)>,
    is_ready: HashSet<Key>,
    /// Being worked on; `true` if asked for again meanwhile.
    in_work: HashMap<Key, bool>,
    later: BTreeSet<(Instant, Key)>,
    later_at: HashMap<Key, Instant>,
}

impl WorkQueue {
    /// Asks for a pass now, or right after the one under way.
    pub(super) fn add(&self, key: Key) {
        self.state().add(key);
        self.wake.notify_one();
    }

    /// Asks for a pass after `delay`, unless one is due earlier. Many events within `delay` make one pass.
    pub(super) fn add_after(&self, key: Key, delay: Duration) {
        self.state().add_after(key, delay);
        self.wake.notify_one();
    }

    /// The next actor; [`WorkQueue::done`] must follow. For one consumer.
    pub(super) async fn next(&self) -> Key {
        loop {
            let due = {
                let mut state = self.state();
                if let Some(key) = state.take() {
                    return key;
                }
                state.later.first().map(|(at, _)| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.wake.notified().await,
            }
        }
    }

    /// Ends the pass over `key`; another follows after `again`, or whenever it is asked for.
    pub(super) fn done(&self, key: &Key, again: Option<Duration>) {
        let mut state = self.state();
        let asked = state.in_work.remove(key).unwrap_or(false);
        if asked {
            state.add(key.clone());
        } else if let Some(delay) = again {
            state.add_after(key.clone(), delay);
        }
        drop(state);
        self.wake.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn add(&mut self, key: Key) {
        if let Some(again) = self.in_work.get_mut(&key) {
            *again = true;
            return;
        }
        if self.is_ready.insert(key.clone()) {
            metrics::queued();
            self.ready.push_back((key, Instant::now()));
            metrics::depth(self.ready.len());
        }
    }

    fn add_after(&mut self, key: Key, delay: Duration) {
        if self.in_work.contains_key(&key) {
            self.add(key);
            return;
        }
        let at = Instant::now() + delay;
        if self.later_at.get(&key).is_some_and(|known| *known <= at) {
            return;
        }
        if let Some(known) = self.later_at.insert(key.clone(), at) {
            self.later.remove(&(known, key.clone()));
        }
        self.later.insert((at, key));
    }

    fn take(&mut self) -> Option<Key> {
        let now = Instant::now();
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, key)) = self.later.pop_first() {
                self.later_at.remove(&key);
                self.add(key);
            }
        }
        let (key, since) = self.ready.pop_front()?;
        self.is_ready.remove(&key);
        if let Some(at) = self.later_at.remove(&key) {
            self.later.remove(&(at, key.clone()));
        }
        self.in_work.insert(key.clone(), false);
        metrics::depth(self.ready.len());
        metrics::waited(since.elapsed());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::{Key, WorkQueue};

    fn key(name: &str) -> Key {
        Key::new("here", name)
    }

    #[tokio::test]
    async fn an_actor_is_listed_once_and_never_worked_on_twice_at_a_time() {
        let queue = WorkQueue::default();
        queue.add(key("a"));
        queue.add(key("a"));
        queue.add(key("b"));
        assert_eq!(queue.next().await, key("a"));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("b"));
        assert_eq!(queue.next().now_or_never(), None, "a is in work");
        queue.done(&key("a"), None);
        assert_eq!(queue.next().await, key("a"), "it was asked for meanwhile");
        queue.done(&key("a"), None);
        queue.done(&key("b"), None);
        assert_eq!(queue.next().now_or_never(), None);
    }

    #[tokio::test]
    async fn the_earlier_of_two_delays_counts_and_a_pass_replaces_them() {
        let queue = WorkQueue::default();
        queue.add_after(key("a"), Duration::from_hours(1));
        queue.add_after(key("a"), Duration::ZERO);
        queue.add_after(key("a"), Duration::from_hours(2));
        assert_eq!(queue.next().await, key("a"));
        queue.done(&key("a"), Some(Duration::from_millis(1)));
        queue.add(key("a"));
        assert_eq!(queue.next().await, key("a"));
        queue.done(&key("a"), None);
        let state = queue.state();
        assert!(
            state.later.is_empty() && state.later_at.is_empty(),
            "the delay went with the pass"
        );
    }
}
