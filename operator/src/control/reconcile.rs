//! One pass over one actor, in the order of contract operator §8.1: queue before workload, workload before scaler, and
//! none of them kept back by a broker that is away.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::apply::{Applier, describe, is_unprocessable};
use super::collisions::Claims;
use super::events::{Events, Note};
use super::former_queue::{FormerQueues, is_rolled_out};
use super::judge::{Judgement, advice, judge};
use super::memory::Memory;
use super::queue_keeping::{QueueKeeper, Seen, queue_spec};
use super::rollouts::Rollouts;
use super::status_writer::StatusWriter;
use super::turns::Turns;
use super::verdicts::{
    conflict, invalid, no_transport, previous_scaling, transport_known, unreadable, waiting,
};
use super::view::{Live, ObjectKey, View};
use super::work_queue::{Key, WorkQueue};
use super::{Parts, Settings, backoff, metrics, ownership};
use crate::desired::{self, Kind};
use crate::queues::KubeSecrets;
use crate::registry::Transport;
use crate::resource::{Actor, AsyncActor, FINALIZER};
use crate::status::{
    self, EventKind, ObjectReference, Observation, QueueReference, Status, Verdict, WorkloadCounts,
};

/// Pauses after a pass that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A pass that takes longer is given up and made again.
const LONGEST_PASS: Duration = Duration::from_mins(2);

/// Everything that passes share.
pub(super) struct Controller {
    pub(super) client: Client,
    pub(super) settings: Settings,
    pub(super) parts: Parts,
    pub(super) view: Arc<View>,
    pub(super) queue: Arc<WorkQueue>,
    pub(super) memory: Arc<Memory>,
    pub(super) claims: Arc<Claims>,
    pub(super) applier: Applier,
    pub(super) keeper: QueueKeeper,
    pub(super) writer: StatusWriter,
    pub(super) events: Events,
    pub(super) deletions: super::deletion::Deletions,
    pub(super) former_queues: FormerQueues,
    /// For which generation a person was told what is odd about an actor.
    advised: Mutex<HashMap<Key, i64>>,
    pub(super) rollouts: Rollouts,
    pub(super) secrets: KubeSecrets,
    pub(super) user_names: Mutex<HashMap<(String, String), (Instant, bool)>>,
    /// Actors (by uid) that have our finalizer although the watch has not told yet.
    finalized: Mutex<HashSet<String>>,
    /// Failed passes in a row.
    failures: Mutex<HashMap<Key, u32>>,
    /// Actors that existed at the start and have not been told of yet; `None` once all have.
    untold: Mutex<Option<HashSet<Key>>>,
    /// The runtime script of one namespace is written by one pass at a time.
    pub(super) scripts: Turns,
    pub(super) server_minor: u32,
}

impl Controller {
    pub(super) fn new(client: Client, settings: Settings, parts: Parts, server_minor: u32) -> Self {
        let view = Arc::new(View::default());
        let memory = Arc::new(Memory::default());
        let manages = settings.defaults.manages_queues;
        Self {
            applier: Applier::new(client.clone(), view.clone(), memory.clone()),
            keeper: QueueKeeper::new(
                parts.queues.clone(),
                manages,
                settings.queue_check_interval,
                settings.status_refresh,
            ),
            writer: StatusWriter::new(client.clone()),
            events: Events::new(client.clone()),
            claims: Arc::new(Claims::new(settings.registry.clone())),
            rollouts: Rollouts::new(settings.rollouts),
            secrets: KubeSecrets {
                client: client.clone(),
            },
            deletions: super::deletion::Deletions::default(),
            former_queues: FormerQueues::default(),
            advised: Mutex::default(),
            queue: Arc::default(),
            user_names: Mutex::default(),
            finalized: Mutex::default(),
            failures: Mutex::default(),
            untold: Mutex::default(),
            scripts: Turns::default(),
            client,
            settings,
            parts,
            view,
            memory,
            server_minor,
        }
    }

    /// Once, when everything has been listed: the runtime script where it is wanted without actors, as far as possible.
    pub(super) async fn begin(&self) {
        let actors: HashSet<Key> = self.view.actors().into_iter().collect();
        if actors.is_empty() {
            self.parts.observer.synced();
        } else {
            *locked(&self.untold) = Some(actors);
        }
        if let Some(namespace) = &self.settings.runtime_namespace {
            let object = desired::runtime_config_map(namespace, &self.settings.defaults.script);
            if let Err(error) = self.applier.apply(None, &object, false).await {
                tracing::warn!(namespace, %error, "the runtime script was not written");
            }
        }
    }

    /// One pass, whatever comes of it.
    pub(super) async fn look_at(&self, key: &Key) {
        metrics::active(1.0);
        let started = Instant::now();
        let passed = tokio::time::timeout(LONGEST_PASS, self.pass(key)).await;
        let (result, again) = match passed {
            Ok(Ok(again)) => {
                locked(&self.failures).remove(key);
                (
                    if again.is_some() {
                        metrics::Result::RequeueAfter
                    } else {
                        metrics::Result::Success
                    },
                    again,
                )
            }
            // The server finds the object itself so wrong that it takes neither status nor finalizer: only a change of
            // the object can help.
            Ok(Err(error)) if is_unprocessable(&error) && is_about_actors(&error) && !self.is_going(key) => {
                tracing::warn!(actor = %key, error = describe(&error), "the API server takes no change of the actor");
                if let Some(object) = self.view.actor(key) {
                    self.events
                        .publish(&object, Note::warning("ValidationError", describe(&error)))
                        .await;
                }
                (metrics::Result::Error, None)
            }
            Ok(Err(error)) => {
                tracing::warn!(actor = %key, error = describe(&error), "a pass failed and is made again");
                (metrics::Result::Error, Some(self.pause_after_failure(key)))
            }
            Err(_) => {
                tracing::warn!(actor = %key, "a pass took too long and is made again");
                (metrics::Result::Error, Some(self.pause_after_failure(key)))
            }
        };
        metrics::reconciled(result, started.elapsed());
        metrics::active(-1.0);
        self.queue.done(key, again);
        self.told(key);
    }

    /// A deletion is tried again whatever is said: it has to come to its end.
    fn is_going(&self, key: &Key) -> bool {
        let actor = self.view.actor(key);
        actor.is_some_and(|actor| actor.metadata.deletion_timestamp.is_some())
    }

    pub(super) fn pause_after_failure(&self, key: &Key) -> Duration {
        let mut failures = locked(&self.failures);
        let attempts = failures.entry(key.clone()).or_default();
        *attempts += 1;
        backoff::delay(*attempts, FIRST_PAUSE, LONGEST_PAUSE)
    }

    pub(super) fn told(&self, key: &Key) {
        let mut untold = locked(&self.untold);
        if let Some(actors) = untold.as_mut() {
            actors.remove(key);
            if actors.is_empty() {
                *untold = None;
                drop(untold);
                self.parts.observer.synced();
            }
        }
    }

    async fn pass(&self, key: &Key) -> Result<Option<Duration>, kube::Error> {
        let Some(object) = self.view.actor(key) else {
            self.forget(key);
            return Ok(None);
        };
        if object.metadata.deletion_timestamp.is_some() {
            return self.delete(key, &object).await;
        }
        let actor = match Actor::read(&object) {
            Ok(actor) => actor,
            Err(error) => {
                let mut seen = self.refused(key, invalid(&unreadable(&object, &error)), transport_known());
                let previous = self.previous(key, &object);
                self.repeat(key, &previous, &mut seen);
                let next = status::assess_unreadable(&object, &previous, &seen, Timestamp::now());
                self.show(key, &object, &previous, &next).await?;
                return Ok(None);
            }
        };
        match judge(&object, &actor, &self.settings.registry) {
            Judgement::Invalid(problems) => {
                let transport = match self.settings.registry.find(&actor.spec.transport) {
                    Ok(_) => transport_known(),
                    Err(error) => no_transport(&error.to_string()),
                };
                self.refuse(key, &object, &actor, invalid(&problems), transport)
                    .await
            }
            Judgement::NoTransport(problem) => {
                let workload = waiting("nothing is written while the transport cannot be used");
                self.refuse(key, &object, &actor, workload, no_transport(&problem))
                    .await
            }
            Judgement::Sound(transport) => match self.claims.conflict(key) {
                Some(text) => {
                    let workload = waiting("nothing is written while the queue is another actor's");
                    let verdict = conflict(text);
                    self.refuse(key, &object, &actor, workload, verdict).await
                }
                None => self.make(key, &object, &actor, transport).await,
            },
        }
    }

    /// The actor is gone: nothing is remembered of it.
    fn forget(&self, key: &Key) {
        self.keeper.forget(key);
        self.writer.forget(key);
        self.rollouts.observed(key, None);
        self.deletions.forget(key);
        self.former_queues.forget(key);
        locked(&self.advised).remove(key);
        self.memory.forget_actor(&key.namespace, &key.name);
        self.parts.observer.deleted(&key.namespace, &key.name);
    }

    /// Shows that an actor is refused; what exists of it is left alone. Nothing is tried again before something changes.
    async fn refuse(
        &self,
        key: &Key,
        object: &AsyncActor,
        actor: &Actor,
        workload: Verdict,
        transport: Verdict,
    ) -> Result<Option<Duration>, kube::Error> {
        // Whatever it was about to roll, it does not now.
        self.rollouts.observed(key, None);
        let mut seen = self.refused(key, workload, transport);
        let previous = self.previous(key, object);
        self.repeat(key, &previous, &mut seen);
        seen.scaling = previous_scaling(actor, &previous);
        self.assess_and_show(key, object, actor, &previous, &seen).await
    }

    /// What a refused actor already has stays what it is: its workload, and the record of its queue.
    fn repeat(&self, key: &Key, previous: &Status, seen: &mut Observation) {
        let known = Kind::ALL
            .into_iter()
            .filter(|kind| kind.is_workload())
            .find_map(|kind| {
                let place = ObjectKey {
                    kind,
                    namespace: key.namespace.clone(),
                    name: key.name.clone(),
                };
                Some((kind, self.view.object(&place)?))
            });
        seen.counts = known.as_ref().map(|(kind, live)| counts(*kind, live));
        seen.workload_reference = known.map(|(kind, _)| reference(kind, key));
        seen.queue_reference.clone_from(&previous.queue_ref);
    }

    fn refused(&self, key: &Key, workload: Verdict, transport: Verdict) -> Observation {
        Observation {
            transport,
            workload,
            scaling: None,
            counts: None,
            pods: self.view.pods(key),
            scaler_desired: self.view.scaler_desired(key),
            queue: None,
            queue_reference: None,
            workload_reference: None,
        }
    }

    /// Makes everything that a sound actor needs.
    async fn make(
        &self,
        key: &Key,
        object: &AsyncActor,
        actor: &Actor,
        transport: &Transport,
    ) -> Result<Option<Duration>, kube::Error> {
        self.add_finalizer(key, object).await?;
        let previous = self.previous(key, object);
        let queue = self
            .keeper
            .keep(key, actor, transport, previous.queue_ref.as_ref())
            .await;
        let Seen {
            verdict,
            depth,
            is_there,
            note,
            again,
        } = queue;
        if let Some(note) = note {
            self.events.publish(object, note).await;
        }
        let objects = self.write(key, actor, transport, &previous).await?;
        let counts = objects.live.as_ref().map(|live| counts(objects.kind, live));
        let place = ObjectKey {
            kind: objects.kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        };
        let is_current = objects
            .live
            .as_ref()
            .is_none_or(|live| self.applier.is_current(&place, live));
        if is_current {
            self.rollouts.observed(key, counts.as_ref());
        }
        let pods = self.view.pods(key);
        // A workload that could not be written, or not yet, still makes pods that use the former queue.
        let is_unused = objects.is_written
            && is_current
            && counts.as_ref().is_some_and(|counts| is_rolled_out(counts, &pods));
        let own = QueueReference {
            transport: transport.name.clone(),
            name: queue_spec(actor, transport).name,
        };
        let (queue_reference, left) = self
            .leave_former_queue(
                key,
                object,
                actor,
                (previous.queue_ref.as_ref(), own),
                (is_there, is_unused),
            )
            .await;
        for note in objects.notes {
            self.events.publish(object, note).await;
        }
        let seen = Observation {
            transport: verdict,
            workload: objects.workload,
            scaling: objects.scaling,
            workload_reference: objects.live.as_ref().map(|_| reference(objects.kind, key)),
            counts,
            pods,
            scaler_desired: self.view.scaler_desired(key),
            queue: depth,
            queue_reference,
        };
        let shown = self.assess_and_show(key, object, actor, &previous, &seen).await?;
        Ok([Some(again), objects.again, left, shown]
            .into_iter()
            .flatten()
            .min())
    }

    /// Before anything is made that must not outlive the actor.
    async fn add_finalizer(&self, key: &Key, object: &AsyncActor) -> Result<(), kube::Error> {
        let uid = object.uid().unwrap_or_default();
        let mut finalizers = object.metadata.finalizers.clone().unwrap_or_default();
        if finalizers.iter().any(|name| name == FINALIZER) {
            locked(&self.finalized).remove(&uid);
            return Ok(());
        }
        if locked(&self.finalized).contains(&uid) {
            return Ok(());
        }
        finalizers.push(FINALIZER.to_owned());
        let version = &object.metadata.resource_version;
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": version}});
        self.patch_actor(key, &patch).await?;
        locked(&self.finalized).insert(uid);
        Ok(())
    }

    /// Changes the metadata of an actor; its `spec` is never written (O-02).
    pub(super) async fn patch_actor(&self, key: &Key, patch: &Value) -> Result<(), kube::Error> {
        let actors: Api<AsyncActor> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams {
            field_manager: Some(crate::resource::FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        actors.patch(&key.name, &parameters, &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// The status that is shown now. A predecessor's status that cannot be read counts as none.
    pub(super) fn previous(&self, key: &Key, object: &AsyncActor) -> Status {
        serde_json::from_value(self.writer.shown(key, object)).unwrap_or_default()
    }

    async fn assess_and_show(
        &self,
        key: &Key,
        object: &AsyncActor,
        actor: &Actor,
        previous: &Status,
        seen: &Observation,
    ) -> Result<Option<Duration>, kube::Error> {
        self.advise(key, object, actor, previous).await;
        let now = Timestamp::now();
        let next = status::assess(actor, previous, seen, now);
        self.show(key, object, previous, &next).await?;
        Ok(status::reassess_after(actor, &next, seen, now))
    }

    /// Tells once for each generation what is odd about a manifest, though it is honoured. A status without a queue is a
    /// new one's or a predecessor's, who told nothing.
    async fn advise(&self, key: &Key, object: &AsyncActor, actor: &Actor, previous: &Status) {
        let is_known = previous.observed_generation == Some(actor.generation) && previous.queue_ref.is_some();
        let told = locked(&self.advised).insert(key.clone(), actor.generation);
        if is_known || told == Some(actor.generation) {
            return;
        }
        for note in advice(object, actor) {
            self.events.publish(object, note).await;
        }
    }

    /// Writes the status if it changed, with its events, and tells the observer.
    pub(super) async fn show(
        &self,
        key: &Key,
        object: &AsyncActor,
        previous: &Status,
        next: &Status,
    ) -> Result<(), kube::Error> {
        self.parts.observer.observed(object, next);
        if self.writer.write(key, object, next).await? {
            for note in status::events(previous, next) {
                let is_warning = note.kind == EventKind::Warning;
                let note = Note {
                    is_warning,
                    reason: note.reason.to_owned(),
                    message: note.message,
                };
                self.events.publish(object, note).await;
            }
        }
        Ok(())
    }
}

/// The kind of the object that runs an actor's pods.
pub(super) fn workload_kind(actor: &Actor) -> Kind {
    use asya_manifest::WorkloadKind;
    match actor.spec.workload.effective_kind() {
        WorkloadKind::Deployment => Kind::Deployment,
        WorkloadKind::StatefulSet => Kind::StatefulSet,
        WorkloadKind::Job if actor.spec.scaling.enabled => Kind::ScaledJob,
        WorkloadKind::Job => Kind::Job,
    }
}

pub(super) fn is_ours(actor: &Actor, body: &Value) -> bool {
    ownership::ownership(&actor.name, &actor.uid, body) == ownership::Ownership::Ours
}

pub(super) fn counts(kind: Kind, live: &Live) -> WorkloadCounts {
    WorkloadCounts::read(kind, &live.body())
}

pub(super) fn reference(kind: Kind, key: &Key) -> ObjectReference {
    let (api_version, kind, _) = kind.names();
    ObjectReference {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
        name: key.name.clone(),
        namespace: key.namespace.clone(),
    }
}

/// Whether it is the actor itself that the API server refused, and not another object.
fn is_about_actors(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let details = status.details.as_ref();
    details.is_some_and(|details| details.kind == "AsyncActor")
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
