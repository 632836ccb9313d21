//! The queue that an actor had before its transport, or the name of its queue, changed. It goes when nothing can need it
//! any more: every pod that used it is gone, the ones that end and finish their message included, and it holds no message.
//! Until then the status names it, so that it is forgotten neither by another operator nor when the actor is deleted.
//!
//! `queue.deletionPolicy: Delete` is about the end of an actor. An actor that moves has not ended, so its messages are
//! never deleted here.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::delay;
use super::events::Note;
use super::judge::deletion_policy;
use super::reconcile::{Controller, locked};
use super::work_queue::Key;
use crate::queues::{Deleted, DeletionPolicy, QueueSpec};
use crate::registry::Transport;
use crate::resource::{Actor, AsyncActor};
use crate::status::{Pod, QueueReference, WorkloadCounts};

/// Between looks at pods that may still use it, and at a queue that must be empty for a while before it may go (SQS).
const PAUSE: Duration = Duration::from_secs(15);
/// Pauses while it is kept back.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A queue without messages that others hold back for this long is theirs.
const PATIENCE: Duration = Duration::from_mins(10);

/// What is remembered of former queues.
#[derive(Debug, Default)]
pub(super) struct FormerQueues {
    attempts: Mutex<HashMap<Key, Attempts>>,
}

#[derive(Debug, Clone, Copy)]
struct Attempts {
    since: Instant,
    count: u32,
}

impl FormerQueues {
    /// There is none any more.
    pub(super) fn forget(&self, key: &Key) {
        locked(&self.attempts).remove(key);
    }

    fn failed(&self, key: &Key) -> Attempts {
        let mut attempts = locked(&self.attempts);
        let known = attempts.entry(key.clone()).or_insert_with(|| Attempts {
            since: Instant::now(),
            count: 0,
        });
        known.count += 1;
        *known
    }
}

/// The queue to record, and when to look again.
pub(super) type Recorded = (Option<QueueReference>, Option<Duration>);

enum Parting {
    /// It is gone, or stays for good; what a user should see.
    Over(Note),
    /// Not yet; why.
    Blocked(String),
    /// Not yet, as is usual there.
    Settling,
}

impl Controller {
    /// Decides which queue the status names, and gives a former one up when its time has come. `is_unused` says that no
    /// pod can still work on it.
    pub(super) async fn leave_former_queue(
        &self,
        key: &Key,
        object: &AsyncActor,
        actor: &Actor,
        (recorded, own): (Option<&QueueReference>, QueueReference),
        (is_there, is_unused): (bool, bool),
    ) -> Recorded {
        let former = match recorded {
            None => {
                let is_ours = is_there && self.settings.defaults.manages_queues;
                return (is_ours.then_some(own), None);
            }
            Some(recorded) if *recorded == own => {
                self.former_queues.forget(key);
                return (Some(own), None);
            }
            Some(recorded) => recorded,
        };
        if !is_there {
            return (Some(former.clone()), None);
        }
        if !is_unused {
            return (Some(former.clone()), Some(PAUSE));
        }
        match self.part(key, object, actor, former).await {
            Parting::Over(note) => {
                self.former_queues.forget(key);
                self.events.publish(object, note).await;
                (Some(own), None)
            }
            Parting::Settling => (Some(former.clone()), Some(PAUSE)),
            Parting::Blocked(text) => {
                let attempts = self.former_queues.failed(key);
                tracing::info!(actor = %key, reason = text, "a former queue was not deleted yet");
                if attempts.count == 1 {
                    let text = format!("{text}; it is deleted as soon as nobody needs it");
                    self.events
                        .publish(object, Note::warning("QueueRetained", text))
                        .await;
                }
                let pause = delay(attempts.count, FIRST_PAUSE, LONGEST_PAUSE);
                (Some(former.clone()), Some(pause))
            }
        }
    }

    async fn part(&self, key: &Key, object: &AsyncActor, actor: &Actor, former: &QueueReference) -> Parting {
        let QueueReference { transport, name } = former;
        let Some(transport) = self.settings.registry.transports.get(transport) else {
            let text =
                format!("queue {name:?} stays: transport {transport:?} is not in the operator's registry");
            return Parting::Over(Note::warning("QueueRetained", text));
        };
        let queue = QueueSpec {
            name: name.clone(),
            actor: key.name.clone(),
            namespace: key.namespace.clone(),
            processing_seconds: actor.spec.timeout.processing,
        };
        let policy = match deletion_policy(object) {
            DeletionPolicy::Retain => DeletionPolicy::Retain,
            DeletionPolicy::Delete | DeletionPolicy::DeleteIfEmpty => DeletionPolicy::DeleteIfEmpty,
        };
        match self.parts.queues.release(transport, &queue, policy).await {
            Ok(Deleted::Gone) => {
                Parting::Over(Note::normal("QueueDeleted", format!("deleted queue {name:?}")))
            }
            Ok(Deleted::Later(_)) => Parting::Settling,
            Ok(Deleted::Kept(reason)) => {
                let text = format!("queue {name:?} stays: {reason}");
                if policy == DeletionPolicy::Retain {
                    return Parting::Over(Note::normal("QueueRetained", text));
                }
                if self.has_lost_patience(key) && self.is_empty(transport, &queue).await {
                    return Parting::Over(Note::warning("QueueRetained", text));
                }
                Parting::Blocked(text)
            }
            Err(error) => Parting::Blocked(format!("queue {name:?} cannot be deleted: {error}")),
        }
    }

    fn has_lost_patience(&self, key: &Key) -> bool {
        let attempts = locked(&self.former_queues.attempts);
        attempts
            .get(key)
            .is_some_and(|known| known.since.elapsed() >= PATIENCE)
    }

    /// Whether a queue is known to hold nothing.
    async fn is_empty(&self, transport: &Transport, queue: &QueueSpec) -> bool {
        let depth = self.parts.queues.depth(transport, queue).await;
        depth.is_ok_and(|depth| depth.queued == 0 && depth.processing.unwrap_or(0) == 0)
    }
}

/// Whether every pod of an actor was made from the template that its workload has now. A pod that ends counts until it
/// is gone: it may still work on a message.
pub(super) fn is_rolled_out(counts: &WorkloadCounts, pods: &[Pod]) -> bool {
    let mut left = pods
        .iter()
        .filter(|pod| !matches!(pod.phase.as_str(), "Succeeded" | "Failed"));
    let total = usize::try_from(counts.total).unwrap_or(usize::MAX);
    counts.is_observed
        && counts.updated == counts.total
        && left.clone().count() <= total
        && left.all(|pod| !pod.is_deleting && pod.created >= counts.created)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::is_rolled_out;
    use crate::status::{Pod, WorkloadCounts};

    #[test]
    fn a_rollout_is_over_when_no_pod_of_before_is_left_not_even_one_that_ends() {
        let counts = WorkloadCounts {
            total: 1,
            updated: 1,
            is_observed: true,
            created: "2025-01-02T03:00:00Z".parse().unwrap(),
            ..WorkloadCounts::default()
        };
        let pod = |name: &str, phase: &str, created: &str, deleted: Option<&str>| {
            let object: Value = json!({
                "metadata": {"name": name, "creationTimestamp": created, "deletionTimestamp": deleted},
                "status": {"phase": phase},
            });
            Pod::read(&serde_json::from_value(object).unwrap())
        };
        let later = "2025-01-02T04:00:00Z";
        let new = pod("new", "Running", later, None);
        let ending = pod("ending", "Running", later, Some(later));
        let older = pod("older", "Running", "2025-01-02T02:00:00Z", None);
        let over = pod("over", "Succeeded", later, None);
        assert!(is_rolled_out(&counts, &[]));
        assert!(is_rolled_out(&counts, &[new.clone(), over]));
        for pods in [
            vec![new.clone(), ending.clone()],
            vec![ending],
            vec![older],
            vec![new.clone(), new],
        ] {
            assert!(!is_rolled_out(&counts, &pods), "{pods:?}");
        }
        for unfinished in [
            WorkloadCounts {
                updated: 0,
                ..counts.clone()
            },
            WorkloadCounts {
                is_observed: false,
                ..counts
            },
        ] {
            assert!(!is_rolled_out(&unfinished, &[]));
        }
    }
}
