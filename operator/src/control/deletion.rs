//! The end of an actor (contract operator §8.2, rulings 12): consumption stops first, then the queue goes if it may, and
//! only then the finalizer. Nothing is swallowed: what stays is told in an event. Nothing waits for ever either.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::apply::is_unprocessable;
use super::backoff::delay;
use super::events::Note;
use super::judge::deletion_policy;
use super::ownership::{Ownership, ownership};
use super::reconcile::{Controller, counts, locked, reference, workload_kind};
use super::view::ObjectKey;
use super::work_queue::Key;
use crate::desired::Kind;
use crate::queues::{Deleted, DeletionPolicy, QueueSpec};
use crate::resource::{Actor, AsyncActor, FINALIZER};
use crate::status::{self, Observation, QueueReference, State, Verdict};

/// Pods get their grace period, and this to be gone from the API server.
const AFTER_GRACE: Duration = Duration::from_secs(30);
/// The grace period of pods whose actor cannot be read.
const USUAL_GRACE: Duration = Duration::from_secs(330);
/// A broker notices only after a moment that a consumer is gone.
const LAST_CONSUMERS: Duration = Duration::from_secs(10);
/// Between looks at a queue that must be empty for a while before it may go (SQS).
const SETTLING_PAUSE: Duration = Duration::from_secs(15);
/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is remembered of deletions under way.
#[derive(Debug, Default)]
pub(super) struct Deletions {
    attempts: Mutex<HashMap<Key, Attempts>>,
}

#[derive(Debug, Clone, Default)]
struct Attempts {
    count: u32,
    /// When a queue without messages was kept back for the first time.
    kept_since: Option<Instant>,
}

impl Deletions {
    /// The actor is gone.
    pub(super) fn forget(&self, key: &Key) {
        locked(&self.attempts).remove(key);
    }

    fn count(&self, key: &Key) -> u32 {
        let mut attempts = locked(&self.attempts);
        let known = attempts.entry(key.clone()).or_default();
        known.count += 1;
        known.count
    }

    fn kept_for(&self, key: &Key) -> Duration {
        let mut attempts = locked(&self.attempts);
        let known = attempts.entry(key.clone()).or_default();
        known.kept_since.get_or_insert_with(Instant::now).elapsed()
    }
}

/// What became of one queue.
pub(super) enum Release {
    /// It is gone, or stays for good; what a user should see.
    Over(Note),
    /// Not yet; why, and when to try again.
    Later(String, Duration),
}

impl Controller {
    /// One pass over an actor that is being deleted.
    pub(super) async fn delete(
        &self,
        key: &Key,
        object: &AsyncActor,
    ) -> Result<Option<Duration>, kube::Error> {
        let finalizers = object.metadata.finalizers.as_deref().unwrap_or_default();
        if !finalizers.iter().any(|name| name == FINALIZER) {
            // Others hold it, or it is about to go.
            return Ok(None);
        }
        let uid = object.metadata.uid.clone().unwrap_or_default();
        // What held it up last is shown until something else is known: taken back at each look and said again after it,
        // it would be a change each time, and every change is a reason to look.
        self.show_terminating(key, object, self.blocked(key, object))
            .await?;
        let queues = self.queues_of(key, object);
        let policy = deletion_policy(object);
        if !queues.is_empty() && policy != DeletionPolicy::Retain {
            self.stop_consumption(key, &uid).await?;
            if let Some(wait) = self.pods_left(key, object) {
                return Ok(Some(wait));
            }
        }
        let mut notes = Vec::new();
        for queue in &queues {
            match self.release(key, object, queue, policy).await {
                Release::Over(note) => notes.push(note),
                Release::Later(reason, wait) => {
                    self.show_terminating(key, object, Some(reason)).await?;
                    return Ok(Some(wait));
                }
            }
        }
        for note in notes {
            self.events.publish(object, note).await;
        }
        self.drop_finalizer(key, &uid).await?;
        Ok(None)
    }

    /// The queues that are this actor's: the one that its status names, and the one that its spec leads to. A queue of
    /// which another actor is the rightful owner is not (contract operator §8.6).
    fn queues_of(&self, key: &Key, object: &AsyncActor) -> Vec<QueueReference> {
        if !self.settings.defaults.manages_queues {
            return Vec::new();
        }
        let mut queues: Vec<QueueReference> = self.previous(key, object).queue_ref.into_iter().collect();
        let transport = object.spec.get("transport").and_then(Value::as_str);
        if let Some(transport) = transport.and_then(|name| self.settings.registry.transports.get(name))
            && self.claims.conflict(key).is_none()
        {
            let name = transport.queue_name(&key.namespace, &key.name);
            let own = QueueReference {
                transport: transport.name.clone(),
                name,
            };
            if !queues.contains(&own) {
                queues.push(own);
            }
        }
        queues
    }

    /// Takes the scaler away and the workload to zero; both only if they are this actor's.
    async fn stop_consumption(&self, key: &Key, uid: &str) -> Result<(), kube::Error> {
        for kind in [
            Kind::ScaledObject,
            Kind::ScaledJob,
            Kind::Deployment,
            Kind::StatefulSet,
            Kind::Job,
        ] {
            let place = ObjectKey {
                kind,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            };
            // A predecessor's objects have no label of ours, so that the view may lack them.
            let Some(live) = self.applier.find(&place).await? else {
                continue;
            };
            let body = live.body();
            if ownership(&key.name, uid, &body) != Ownership::Ours
                || body.pointer("/metadata/deletionTimestamp").is_some()
            {
                continue;
            }
            match kind {
                Kind::Deployment | Kind::StatefulSet => {
                    if body.pointer("/spec/replicas").and_then(Value::as_u64) != Some(0) {
                        self.applier
                            .merge(&place, &json!({"spec": {"replicas": 0}}))
                            .await?;
                    }
                }
                _ => self.applier.delete(&place, Some(&live.uid)).await?,
            }
        }
        Ok(())
    }

    /// How long to wait for pods that are still there; `None` if there are none, or if they had their time.
    fn pods_left(&self, key: &Key, object: &AsyncActor) -> Option<Duration> {
        if self.view.pods(key).is_empty() {
            return None;
        }
        let grace = Actor::read(object).map_or(USUAL_GRACE, |actor| {
            Duration::from_secs(crate::desired::pod::grace_seconds(&actor).into())
        });
        let left = (grace + AFTER_GRACE).saturating_sub(since_deletion(object));
        (!left.is_zero()).then_some(left)
    }

    /// Gives one queue up, as far as that is possible now.
    pub(super) async fn release(
        &self,
        key: &Key,
        object: &AsyncActor,
        queue: &QueueReference,
        policy: DeletionPolicy,
    ) -> Release {
        let QueueReference {
            transport: transport_name,
            name,
        } = queue;
        let Some(transport) = self.settings.registry.transports.get(transport_name) else {
            let text = format!(
                "queue {name:?} stays: transport {transport_name:?} is not in the operator's registry"
            );
            return Release::Over(Note::warning("QueueRetained", text));
        };
        let seconds = object
            .spec
            .pointer("/timeout/processing")
            .and_then(Value::as_u64)
            .unwrap_or(300);
        let spec = QueueSpec {
            name: name.clone(),
            actor: key.name.clone(),
            namespace: key.namespace.clone(),
            processing_seconds: u32::try_from(seconds).unwrap_or(u32::MAX),
        };
        match self.parts.queues.release(transport, &spec, policy).await {
            Ok(Deleted::Gone) => {
                Release::Over(Note::normal("QueueDeleted", format!("deleted queue {name:?}")))
            }
            Ok(Deleted::Kept(reason)) if policy == DeletionPolicy::Retain => Release::Over(Note::normal(
                "QueueRetained",
                format!("queue {name:?} stays: {reason}"),
            )),
            Ok(Deleted::Later(reason)) if since_deletion(object) < self.settings.deletion_patience => {
                Release::Later(format!("queue {name:?}: {reason}"), SETTLING_PAUSE)
            }
            Ok(Deleted::Later(reason)) => Release::Over(Note::warning(
                "QueueRetained",
                format!("queue {name:?} stays: {reason}"),
            )),
            Ok(Deleted::Kept(reason)) => {
                let depth = self.parts.queues.depth(transport, &spec).await;
                let has_messages = depth.is_ok_and(|depth| depth.queued > 0);
                // An empty queue may be kept back by a consumer whose connection the broker has not given up yet.
                if has_messages || self.deletions.kept_for(key) >= LAST_CONSUMERS {
                    let text = format!("queue {name:?} stays: {reason}");
                    return Release::Over(Note::warning("QueueRetained", text));
                }
                Release::Later(format!("queue {name:?}: {reason}"), LAST_CONSUMERS / 5)
            }
            Err(error) => {
                let text = format!("queue {name:?} cannot be deleted: {error}");
                if object.metadata.deletion_timestamp.is_some()
                    && since_deletion(object) >= self.settings.deletion_patience
                {
                    return Release::Over(Note::warning("QueueRetained", format!("{text}; it stays")));
                }
                let attempt = self.deletions.count(key);
                if attempt == 1 {
                    self.events
                        .publish(object, Note::warning("DeletionBlocked", text.clone()))
                        .await;
                }
                let left = self
                    .settings
                    .deletion_patience
                    .saturating_sub(since_deletion(object));
                Release::Later(
                    text,
                    delay(attempt, FIRST_PAUSE, LONGEST_PAUSE).min(left.max(FIRST_PAUSE)),
                )
            }
        }
    }

    /// What the status says of a queue that holds the deletion up.
    fn blocked(&self, key: &Key, object: &AsyncActor) -> Option<String> {
        let shown = self.previous(key, object);
        if shown.status.as_deref() != Some(State::Terminating.as_str()) {
            return None;
        }
        let mut conditions = shown.conditions.into_iter();
        conditions
            .find(|condition| condition.kind == "TransportReady" && condition.reason == "QueueError")
            .map(|condition| condition.message)
    }

    async fn show_terminating(
        &self,
        key: &Key,
        object: &AsyncActor,
        blocked: Option<String>,
    ) -> Result<(), kube::Error> {
        let previous = self.previous(key, object);
        let going = |reason| Verdict {
            holds: true,
            reason,
            message: "the actor is being deleted".to_owned(),
        };
        let transport = match blocked {
            Some(message) => Verdict {
                holds: false,
                reason: "QueueError",
                message,
            },
            None => going("TransportValidated"),
        };
        let actor = Actor::read(object).ok();
        let kind = actor.as_ref().map(workload_kind);
        let live = kind.and_then(|kind| {
            let place = ObjectKey {
                kind,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            };
            Some((kind, self.view.object(&place)?))
        });
        let seen = Observation {
            transport,
            workload: going("WorkloadCreated"),
            scaling: None,
            counts: live.as_ref().map(|(kind, live)| counts(*kind, live)),
            pods: self.view.pods(key),
            scaler_desired: None,
            queue: None,
            queue_reference: previous.queue_ref.clone(),
            workload_reference: live.map(|(kind, _)| reference(kind, key)),
        };
        let now = Timestamp::now();
        let next = match &actor {
            Some(actor) => status::assess(actor, &previous, &seen, now),
            None => status::assess_unreadable(object, &previous, &seen, now),
        };
        match self.show(key, object, &previous, &next).await {
            // An object that the server finds so wrong that it takes no status can still be deleted.
            Err(error) if is_unprocessable(&error) => Ok(()),
            other => other,
        }
    }

    async fn drop_finalizer(&self, key: &Key, uid: &str) -> Result<(), kube::Error> {
        let actors: Api<AsyncActor> = Api::namespaced(self.client.clone(), &key.namespace);
        // As it is now: the status has just been written, and others may have finalizers of their own.
        let Some(object) = actors.get_opt(&key.name).await? else {
            return Ok(());
        };
        let mut finalizers = object.metadata.finalizers.unwrap_or_default();
        if object.metadata.uid.as_deref() != Some(uid) || !finalizers.iter().any(|name| name == FINALIZER) {
            return Ok(());
        }
        finalizers.retain(|name| name != FINALIZER);
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.metadata.resource_version}});
        match self.patch_actor(key, &patch).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) if is_unprocessable(&error) => {
                // The server's rules cannot even be evaluated on what a predecessor let in; with a spec that they can be
                // evaluated on it may go. Nobody needs its spec any more.
                let mut patch = patch;
                patch["spec"] = minimal_spec();
                self.patch_actor(key, &patch).await
            }
            other => other,
        }
    }
}

/// A spec that every rule of the custom resource definition can be evaluated on.
fn minimal_spec() -> Value {
    let container = json!({"name": "asya-runtime", "image": "deleted"});
    json!({
        "transport": "deleted",
        "workload": {"template": {"spec": {"containers": [container], "initContainers": null, "volumes": null}}},
    })
}

/// How long ago the deletion was asked for.
fn since_deletion(object: &AsyncActor) -> Duration {
    let Some(at) = object.metadata.deletion_timestamp.as_ref() else {
        return Duration::ZERO;
    };
    Duration::try_from(Timestamp::now().duration_since(at.0)).unwrap_or_default()
}
