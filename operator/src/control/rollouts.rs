//! How many workloads roll at once because the operator changed (another script, sidecar image or default) rather than
//! their actor: an upgrade must not restart the whole fleet (contract operator §14).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use super::work_queue::Key;
use crate::resource::Actor;
use crate::status::WorkloadCounts;

/// Annotation of workloads: the generation of the actor that they were written for.
const GENERATION: &str = "asya.sh/actor-generation";

/// See the module.
#[derive(Debug)]
pub(super) struct Rollouts {
    most: usize,
    rolling: Mutex<HashSet<Key>>,
}

impl Rollouts {
    /// At most `most` at once; at least 1.
    pub(super) fn new(most: u32) -> Self {
        Self {
            most: usize::try_from(most.max(1)).unwrap_or(usize::MAX),
            rolling: Mutex::default(),
        }
    }

    /// Whether a workload whose desired state differs from `live` may be written now. A change of the actor itself may
    /// always; a change of anything else waits for a free place.
    pub(super) fn may_roll(&self, key: &Key, actor: &Actor, live: &Value) -> bool {
        let written_for = live
            .pointer("/metadata/annotations")
            .and_then(|all| all.get(GENERATION));
        if written_for.and_then(Value::as_str) != Some(actor.generation.to_string().as_str()) {
            return true;
        }
        let mut rolling = self.rolling();
        if rolling.contains(key) {
            return true;
        }
        let has_place = rolling.len() < self.most;
        if has_place {
            rolling.insert(key.clone());
        }
        has_place
    }

    /// Gives the place back once the pods are the new ones. A rollout that got stuck keeps its place: more of them would
    /// not help.
    pub(super) fn observed(&self, key: &Key, counts: Option<&WorkloadCounts>) {
        let is_over = counts.is_none_or(|counts| {
            counts.is_observed
                && counts.updated >= counts.desired
                && counts.ready >= counts.desired
                && counts.total == counts.updated
        });
        if is_over {
            self.rolling().remove(key);
        }
    }

    fn rolling(&self) -> std::sync::MutexGuard<'_, HashSet<Key>> {
        // No code that holds the lock can panic half-way through a change.
        self.rolling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Key, Rollouts};
    use crate::resource::{Actor, AsyncActor};
    use crate::status::WorkloadCounts;

    #[test]
    fn an_upgrade_rolls_a_few_workloads_at_a_time_and_an_actor_that_changed_never_waits() {
        let object: AsyncActor = serde_json::from_value(json!({
            "metadata": {"generation": 3}, "spec": {"transport": "t", "workload": {"template": {}}},
        }))
        .unwrap();
        let actor = Actor::read(&object).unwrap();
        let written_for =
            |generation: &str| json!({"metadata": {"annotations": {"asya.sh/actor-generation": generation}}});
        let rollouts = Rollouts::new(1);
        let [one, two] = ["one", "two"].map(|name| Key::new("here", name));
        assert!(rollouts.may_roll(&one, &actor, &written_for("3")));
        assert!(
            rollouts.may_roll(&one, &actor, &written_for("3")),
            "it has its place already"
        );
        assert!(!rollouts.may_roll(&two, &actor, &written_for("3")));
        assert!(
            rollouts.may_roll(&two, &actor, &written_for("2")),
            "the actor itself changed"
        );
        let done = WorkloadCounts {
            desired: 2,
            total: 2,
            ready: 2,
            updated: 2,
            is_observed: true,
            ..WorkloadCounts::default()
        };
        rollouts.observed(
            &one,
            Some(&WorkloadCounts {
                updated: 1,
                ..done.clone()
            }),
        );
        assert!(!rollouts.may_roll(&two, &actor, &written_for("3")));
        rollouts.observed(&one, Some(&done));
        assert!(rollouts.may_roll(&two, &actor, &written_for("3")));
    }
}
