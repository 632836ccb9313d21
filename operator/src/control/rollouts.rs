//! How many workloads roll at once because the operator changed (another script, sidecar image or default) rather than
//! their actor: an upgrade must not restart the whole fleet (contract operator §14).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::work_queue::Key;
use crate::resource::Actor;
use crate::status::WorkloadCounts;

/// Annotation of workloads: the generation of the actor that they were written for.
const GENERATION: &str = "asya.sh/actor-generation";
/// How long a rollout that does not come to its end keeps its place: what Kubernetes takes for the deadline of a
/// Deployment's progress.
const LONGEST_ROLLOUT: Duration = Duration::from_mins(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Rollouts {
    most: usize,
    /// Who has a place, and until when at most.
    rolling: Mutex<HashMap<Key, Instant>>,
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
    /// always, and so may a workload without any pod that is ready, which a rollout cannot harm and may mend; any other
    /// waits for a free place.
    pub(super) fn may_roll(&self, key: &Key, actor: &Actor, live: &Value) -> bool {
        self.may_roll_at(Instant::now(), key, actor, live)
    }

    fn may_roll_at(&self, now: Instant, key: &Key, actor: &Actor, live: &Value) -> bool {
        let written_for = live
            .pointer("/metadata/annotations")
            .and_then(|all| all.get(GENERATION));
        if written_for.and_then(Value::as_str) != Some(actor.generation.to_string().as_str())
            || is_out_of_order(live)
        {
            return true;
        }
        let mut rolling = self.rolling();
        // One that got stuck (a bad image, a full cluster) must not hold all others up for ever.
        rolling.retain(|_, until| *until > now);
        if rolling.contains_key(key) {
            return true;
        }
        let has_place = rolling.len() < self.most;
        if has_place {
            rolling.insert(key.clone(), now + LONGEST_ROLLOUT);
        }
        has_place
    }

    /// Gives the place back once the pods are the new ones, or if there is nothing to count.
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

    fn rolling(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Instant>> {
        // No code that holds the lock can panic half-way through a change.
        self.rolling.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether pods are wanted and none is ready.
fn is_out_of_order(live: &Value) -> bool {
    let count = |path| live.pointer(path).and_then(Value::as_u64).unwrap_or_default();
    count("/status/replicas") > 0 && count("/status/readyReplicas") == 0
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
    #[test]
    fn what_is_stuck_or_out_of_order_does_not_hold_the_upgrade_up_for_ever() {
        let object: AsyncActor = serde_json::from_value(json!({
            "metadata": {"generation": 3}, "spec": {"transport": "t", "workload": {"template": {}}},
        }))
        .unwrap();
        let actor = Actor::read(&object).unwrap();
        let live = |ready: u64| {
            json!({
                "metadata": {"annotations": {"asya.sh/actor-generation": "3"}},
                "status": {"replicas": 2, "readyReplicas": ready},
            })
        };
        let rollouts = Rollouts::new(1);
        let [stuck, broken, sound] = ["stuck", "broken", "sound"].map(|name| Key::new("here", name));
        assert!(rollouts.may_roll(&stuck, &actor, &live(2)));
        let nothing_new = WorkloadCounts {
            desired: 2,
            total: 3,
            ready: 2,
            updated: 1,
            is_observed: true,
            ..WorkloadCounts::default()
        };
        rollouts.observed(&stuck, Some(&nothing_new));
        assert!(
            rollouts.may_roll(&broken, &actor, &live(0)),
            "nobody is harmed who does not work"
        );
        assert!(!rollouts.may_roll(&sound, &actor, &live(1)));
        let later = tokio::time::Instant::now() + super::LONGEST_ROLLOUT;
        assert!(rollouts.may_roll_at(later, &sound, &actor, &live(1)));
        assert!(
            !rollouts.may_roll_at(later, &stuck, &actor, &live(2)),
            "the place is taken"
        );
    }
}
