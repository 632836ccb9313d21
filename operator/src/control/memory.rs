//! What is remembered of applied objects between passes, for the time that the watch lags behind, and so that what the
//! API server makes of a body is not taken for somebody's change.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::view::ObjectKey;

/// A watch tells of a change within this time, or never.
const WATCH_LAG: Duration = Duration::from_secs(30);

/// What is remembered of objects between passes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    objects: Mutex<HashMap<ObjectKey, Remembered>>,
}

/// What is remembered of one object.
#[derive(Debug, Clone, Default)]
pub(super) struct Remembered {
    /// Fingerprint of what was applied last; empty if the object went since.
    pub(super) fingerprint: String,
    /// `metadata.resourceVersion` after that.
    pub(super) version: String,
    /// Fingerprint of what the server's answer said about our fields.
    pub(super) projection: String,
    /// When that was.
    pub(super) applied: Option<Instant>,
    /// How often it was put right lately.
    pub(super) repairs: u32,
    /// When it was put right last.
    pub(super) repaired: Option<Instant>,
    /// What the API server said, if it refused it last.
    pub(super) refusal: Option<Refusal>,
}

/// That the API server refused it.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    /// Of the body that was refused.
    pub(super) fingerprint: String,
    /// How often in a row.
    pub(super) attempts: u32,
    /// Until when it is not tried again.
    pub(super) until: Instant,
    /// Kind, name, and what the API server said.
    pub(super) message: String,
}

impl Memory {
    /// The object is gone: what was applied to it no longer matters.
    pub(super) fn forget(&self, key: &ObjectKey) {
        if let Some(known) = self.state().get_mut(key) {
            known.fingerprint.clear();
            known.version.clear();
        }
    }

    /// The actor is gone.
    pub(super) fn forget_actor(&self, namespace: &str, name: &str) {
        // Names of its other objects begin or end with the actor's; what is forgotten too much costs one comparison.
        self.state()
            .retain(|key, _| key.namespace != namespace || !key.name.contains(name));
    }

    /// What is known of one object; nothing at first.
    pub(super) fn get(&self, key: &ObjectKey) -> Remembered {
        self.state().get(key).cloned().unwrap_or_default()
    }

    /// Notes something about one object.
    pub(super) fn change(&self, key: &ObjectKey, change: impl FnOnce(&mut Remembered)) {
        change(self.state().entry(key.clone()).or_default());
    }

    fn state(&self) -> MutexGuard<'_, HashMap<ObjectKey, Remembered>> {
        // No code that holds the lock can panic half-way through a change.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    /// Whether the watch may not have told of it yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.applied.is_some_and(|at| at.elapsed() < WATCH_LAG)
    }
}
