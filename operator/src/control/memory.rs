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
    /// The object is gone: what was applied to it no longer matters. How often it was put right or refused still does,
    /// lest somebody who deletes it again and again keeps us busy.
    pub(super) fn forget(&self, key: &ObjectKey) {
        let mut objects = self.state();
        if let Some(known) = objects.get_mut(key) {
            if known.refusal.is_none() && known.repaired.is_none() {
                objects.remove(key);
                return;
            }
            known.fingerprint.clear();
            known.version.clear();
        }
    }

    /// The actor is gone.
    pub(super) fn forget_actor(&self, namespace: &str, name: &str) {
        // Those that it has beside objects of its own name: the ServiceAccount, and what KEDA logs in with.
        let others = [format!("asya-{name}"), format!("{name}-trigger-auth")];
        self.state()
            .retain(|key, _| key.namespace != namespace || (key.name != name && !others.contains(&key.name)));
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{Memory, ObjectKey};
    use crate::desired::Kind;

    #[test]
    fn an_actor_that_goes_takes_nothing_of_others_along() {
        let memory = Memory::default();
        let object = |kind, name: &str| ObjectKey {
            kind,
            namespace: "here".into(),
            name: name.into(),
        };
        let names = ["a", "asya-a", "a-trigger-auth", "a-b", "ba", "asya-runtime"];
        for name in names {
            memory.change(&object(Kind::Deployment, name), |known| known.repairs = 1);
        }
        memory.forget_actor("there", "a");
        memory.forget_actor("here", "a");
        let left: Vec<u32> = names
            .iter()
            .map(|name| memory.get(&object(Kind::Deployment, name)).repairs)
            .collect();
        assert_eq!(left, [0, 0, 0, 1, 1, 1]);
    }

    #[test]
    fn of_an_object_that_is_gone_only_the_repairs_are_remembered() {
        let memory = Memory::default();
        let [calm, fought_for] = ["calm", "fought-for"].map(|name| ObjectKey {
            kind: Kind::Deployment,
            namespace: "here".into(),
            name: name.into(),
        });
        for key in [&calm, &fought_for] {
            memory.change(key, |known| known.fingerprint = "of what was applied".into());
        }
        memory.change(&fought_for, |known| {
            known.repairs = 3;
            known.repaired = Some(Instant::now());
        });
        for key in [&calm, &fought_for] {
            memory.forget(key);
            assert_eq!(memory.get(key).fingerprint, "");
        }
        assert_eq!(memory.get(&fought_for).repairs, 3);
        assert_eq!(memory.state().len(), 1);
    }
}
