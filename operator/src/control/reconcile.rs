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

use super::adoption::{self, Standing};
use super::apply::{Applied, Applier, ApplyError, Memory, describe};
use super::collisions::Claims;
use super::events::{Events, Note};
use super::judge::{Judgement, judge};
use super::queue_keeping::{QueueKeeper, Seen, queue_spec};
use super::rollouts::Rollouts;
use super::status_writer::StatusWriter;
use super::view::{Live, ObjectKey, View};
use super::work_queue::{Key, WorkQueue};
use super::{Parts, Settings, backoff, metrics, ownership};
use crate::desired::{self, Facts, Inputs, Kind, Object};
use crate::queues::{Deleted, KubeSecrets, QueueSpec, Secrets as _};
use crate::registry::{Broker, Transport};
use crate::resource::{AsyncActor, Actor, FINALIZER};
use crate::status::{self, EventKind, ObjectReference, Observation, QueueReference, Status, Verdict, WorkloadCounts};

/// Pauses after a pass that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// A pass that takes longer is given up and made again.
const LONGEST_PASS: Duration = Duration::from_mins(2);
/// How long it is taken for granted whether a Secret holds a user name.
const SECRET_FRESH: Duration = Duration::from_mins(5);
/// How often a workload asks for its turn in an upgrade.
const TURN: Duration = Duration::from_secs(10);
/// How often a queue that was left is looked at, until it can go.
const LEFT_QUEUE: Duration = Duration::from_secs(15);

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
    rollouts: Rollouts,
    secrets: KubeSecrets,
    user_names: Mutex<HashMap<(String, String), (Instant, bool)>>,
    /// Actors (by uid) that have our finalizer although the watch has not told yet.
    finalized: Mutex<HashSet<String>>,
    /// Failed passes in a row.
    failures: Mutex<HashMap<Key, u32>>,
    /// Actors that existed at the start and have not been told of yet; `None` once all have.
    untold: Mutex<Option<HashSet<Key>>>,
    /// The runtime script of one namespace is written by one pass at a time.
    scripts: tokio::sync::Mutex<()>,
    server_minor: u32,
}

/// What one pass learnt of an actor's objects.
struct Objects {
    workload: Verdict,
    scaling: Option<Verdict>,
    live: Option<Arc<Live>>,
    kind: Kind,
    notes: Vec<Note>,
    again: Option<Duration>,
}

impl Controller {
    pub(super) fn new(client: Client, settings: Settings, parts: Parts, server_minor: u32) -> Self {
        let view = Arc::new(View::default());
        let memory = Arc::new(Memory::default());
        let manages = settings.defaults.manages_queues;
        Self {
            applier: Applier::new(client.clone(), view.clone(), memory.clone()),
            keeper: QueueKeeper::new(parts.queues.clone(), manages, settings.queue_check_interval, settings.status_refresh),
            writer: StatusWriter::new(client.clone()),
            events: Events::new(client.clone()),
            claims: Arc::new(Claims::new(settings.registry.clone())),
            rollouts: Rollouts::new(settings.rollouts),
            secrets: KubeSecrets { client: client.clone() },
            deletions: super::deletion::Deletions::default(),
            queue: Arc::default(),
            user_names: Mutex::default(),
            finalized: Mutex::default(),
            failures: Mutex::default(),
            untold: Mutex::default(),
            scripts: tokio::sync::Mutex::default(),
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
                (if again.is_some() { metrics::Result::RequeueAfter } else { metrics::Result::Success }, again)
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

    fn pause_after_failure(&self, key: &Key) -> Duration {
        let mut failures = locked(&self.failures);
        let attempts = failures.entry(key.clone()).or_default();
        *attempts += 1;
        backoff::delay(*attempts, FIRST_PAUSE, LONGEST_PAUSE)
    }

    fn told(&self, key: &Key) {
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
                let seen = self.refused(key, invalid(&error.to_string()), transport_unknown());
                let previous = self.previous(key, &object);
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
                self.refuse(key, &object, &actor, invalid(&problems), transport).await
            }
            Judgement::NoTransport(problem) => {
                let workload = waiting("nothing is written while the transport cannot be used");
                self.refuse(key, &object, &actor, workload, no_transport(&problem)).await
            }
            Judgement::Sound(transport) => match self.claims.conflict(key) {
                Some(conflict) => {
                    let workload = waiting("nothing is written while the queue is another actor's");
                    let verdict = Verdict { holds: false, reason: "QueueNameConflict", message: conflict };
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
        let mut seen = self.refused(key, workload, transport);
        let previous = self.previous(key, object);
        let kind = workload_kind(actor);
        let live = self.view.object(&ObjectKey { kind, namespace: key.namespace.clone(), name: key.name.clone() });
        seen.counts = live.as_ref().and_then(|live| counts(kind, live));
        seen.workload_reference = live.map(|_| reference(kind, key));
        seen.scaling = previous_scaling(actor, &previous);
        seen.queue_reference.clone_from(&previous.queue_ref);
        self.assess_and_show(key, object, actor, &previous, &seen).await
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
        let queue = self.keeper.keep(key, actor, transport, previous.queue_ref.as_ref()).await;
        let Seen { verdict, depth, is_there, note, again } = queue;
        if let Some(note) = note {
            self.events.publish(object, note).await;
        }
        let objects = self.write(key, actor, transport, &previous).await?;
        let counts = objects.live.as_ref().and_then(|live| counts(objects.kind, live));
        self.rollouts.observed(key, counts.as_ref());
        let own = QueueReference { transport: transport.name.clone(), name: queue_spec(actor, transport).name };
        let (queue_reference, left) =
            self.leave_old_queue(key, object, actor, previous.queue_ref.as_ref(), own, is_there, counts.as_ref()).await;
        for note in objects.notes {
            self.events.publish(object, note).await;
        }
        let seen = Observation {
            transport: verdict,
            workload: objects.workload,
            scaling: objects.scaling,
            workload_reference: objects.live.as_ref().map(|_| reference(objects.kind, key)),
            counts,
            pods: self.view.pods(key),
            scaler_desired: self.view.scaler_desired(key),
            queue: depth,
            queue_reference,
        };
        let shown = self.assess_and_show(key, object, actor, &previous, &seen).await?;
        Ok([Some(again), objects.again, left, shown].into_iter().flatten().min())
    }

    /// Writes the objects of an actor: first what the pods need, then the workload, then the scaler; last what is no
    /// longer wanted is deleted.
    async fn write(
        &self,
        key: &Key,
        actor: &Actor,
        transport: &Transport,
        previous: &Status,
    ) -> Result<Objects, kube::Error> {
        let kind = workload_kind(actor);
        let found = self.applier.find(&ObjectKey { kind, namespace: key.namespace.clone(), name: key.name.clone() }).await?;
        let body = found.as_ref().map(|live| live.body()).filter(|body| is_ours(actor, body));
        let mut standing = body.as_ref().map_or(Standing::Ours, |body| adoption::standing(actor, body));
        let facts = self.facts(key, actor, transport, body.as_ref()).await;
        let defaults = &self.settings.defaults;
        let desired = desired::objects(&Inputs { actor, transport, defaults, facts: &facts });
        let mut round = Round { controller: self, key, actor, notes: Vec::new(), again: None, wanted: HashSet::new() };
        if standing == Standing::Found {
            round.adopt(kind).await?;
            standing = Standing::Adopted;
        }
        if !actor.spec.scaling.enabled {
            round.delete_scalers(previous).await?;
        }
        let mut workload = round.prepare(&desired.common).await;
        if workload.is_ok() {
            workload = round.workload(&desired.workload, standing, body.as_ref(), actor.spec.scaling.enabled).await;
        }
        let is_there = workload.is_ok() || body.is_some();
        let scaling = round.scaling(&desired, is_there, workload.as_ref().err()).await;
        let is_settled = workload.is_ok() && desired.scaler.is_ok();
        if is_settled {
            round.delete_unwanted().await?;
        }
        let (notes, again) = (round.notes, round.again);
        let live = self.view.object(&ObjectKey { kind, namespace: key.namespace.clone(), name: key.name.clone() });
        let live = live.or(found);
        let workload = match workload {
            Ok(text) => Verdict { holds: true, reason: "WorkloadCreated", message: text },
            Err(text) => Verdict { holds: false, reason: "ReconcileError", message: text },
        };
        Ok(Objects { workload, scaling, live, kind, notes, again })
    }

    async fn facts(&self, key: &Key, actor: &Actor, transport: &Transport, workload: Option<&Value>) -> Facts {
        let selector = workload.and_then(|body| body.pointer("/spec/selector/matchLabels"));
        Facts {
            selector: selector.and_then(|labels| serde_json::from_value(labels.clone()).ok()),
            workload_exists: workload.is_some(),
            secret_has_username: actor.spec.scaling.enabled && self.secret_has_user_name(key, transport).await,
            server_minor: self.server_minor,
        }
    }

    /// Asked rarely: it changes rarely, and only the scaler wants to know (contract operator §9.2 a).
    async fn secret_has_user_name(&self, key: &Key, transport: &Transport) -> bool {
        let Broker::RabbitMq(broker) = &transport.broker else { return false };
        let Some(secret) = &broker.password else { return false };
        let place = (key.namespace.clone(), secret.name.clone());
        let known = locked(&self.user_names).get(&place).copied();
        if let Some((_, has)) = known.filter(|(at, _)| at.elapsed() < SECRET_FRESH) {
            return has;
        }
        let has = match self.secrets.read(&key.namespace, &secret.name).await {
            Ok(data) => data.is_some_and(|data| data.contains_key("username")),
            // Whoever needs the password reports that it cannot be read.
            Err(_) => known.is_some_and(|(_, has)| has),
        };
        locked(&self.user_names).insert(place, (Instant::now(), has));
        has
    }

    /// After a change of transport or of the queue's name: the old queue goes as at a deletion, once nobody consumes it
    /// any more. Gives the queue to record, and when to look again.
    #[expect(clippy::too_many_arguments, reason = "they are what one pass knows")]
    async fn leave_old_queue(
        &self,
        key: &Key,
        object: &AsyncActor,
        actor: &Actor,
        recorded: Option<&QueueReference>,
        own: QueueReference,
        is_there: bool,
        counts: Option<&WorkloadCounts>,
    ) -> (Option<QueueReference>, Option<Duration>) {
        let old = match recorded {
            None => return ((is_there && self.settings.defaults.manages_queues).then_some(own), None),
            Some(old) if *old == own => return (Some(own), None),
            Some(old) => old,
        };
        if !is_there {
            return (Some(old.clone()), None);
        }
        let spec = QueueSpec {
            name: old.name.clone(),
            actor: key.name.clone(),
            namespace: key.namespace.clone(),
            processing_seconds: actor.spec.timeout.processing,
        };
        let is_rolled_out = counts.is_none_or(|counts| counts.is_observed && counts.updated == counts.total);
        if !is_rolled_out {
            return (Some(old.clone()), Some(LEFT_QUEUE));
        }
        let Some(transport) = self.settings.registry.transports.get(&old.transport) else {
            let text = format!("queue {:?} stays: transport {:?} is not in the operator's registry", old.name, old.transport);
            self.events.publish(object, Note::warning("QueueRetained", text)).await;
            return (Some(own), None);
        };
        let policy = super::judge::deletion_policy(object);
        match self.parts.queues.release(transport, &spec, policy).await {
            Ok(Deleted::Gone) => {
                let text = format!("deleted queue {:?} on transport {:?}, which is no longer used", old.name, old.transport);
                self.events.publish(object, Note::normal("QueueDeleted", text)).await;
                (Some(own), None)
            }
            Ok(Deleted::Kept(reason)) => {
                let text = format!("queue {:?} on transport {:?} is no longer used and stays: {reason}", old.name, old.transport);
                self.events.publish(object, Note::warning("QueueRetained", text)).await;
                (Some(own), None)
            }
            Err(error) => {
                tracing::info!(actor = %key, queue = old.name, %error, "a queue that is no longer used was not deleted yet");
                (Some(old.clone()), Some(LEFT_QUEUE))
            }
        }
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
        let parameters = PatchParams { field_manager: Some(crate::resource::FIELD_MANAGER.into()), ..PatchParams::default() };
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
        let now = Timestamp::now();
        let next = status::assess(actor, previous, seen, now);
        self.show(key, object, previous, &next).await?;
        Ok(status::reassess_after(actor, &next, seen, now))
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
                let note = Note { is_warning, reason: note.reason.to_owned(), message: note.message };
                self.events.publish(object, note).await;
            }
        }
        Ok(())
    }
}

/// The writing part of one pass.
struct Round<'a> {
    controller: &'a Controller,
    key: &'a Key,
    actor: &'a Actor,
    notes: Vec<Note>,
    again: Option<Duration>,
    wanted: HashSet<ObjectKey>,
}

impl Round<'_> {
    /// Marks a predecessor's workload as taken over.
    async fn adopt(&mut self, kind: Kind) -> Result<(), kube::Error> {
        let key = self.object_key(kind, &self.key.name);
        self.controller.applier.merge(&key, &adoption::mark(self.actor)).await?;
        let text = format!("took over {} {:?}; its pods are not touched before the actor changes", kind.names().1, key.name);
        self.notes.push(Note::normal("WorkloadAdopted", text));
        Ok(())
    }

    /// What stands before the workload: the runtime script, and the common objects. A PodDisruptionBudget that cannot be
    /// written holds nothing up.
    async fn prepare(&mut self, common: &[Object]) -> Result<String, String> {
        if self.actor.spec.workload.runtime == asya_manifest::RuntimeKind::Python {
            let script = &self.controller.settings.defaults.script;
            let object = desired::runtime_config_map(&self.key.namespace, script);
            let one_at_a_time = self.controller.scripts.lock().await;
            let applied = self.controller.applier.apply(None, &object, false).await;
            drop(one_at_a_time);
            self.note_refusal(applied).map_err(|error| error.to_string())?;
        }
        for object in common {
            let applied = self.apply(object, false).await;
            match applied {
                Err(error) if object.kind == Kind::PodDisruptionBudget => {
                    tracing::info!(actor = %self.key, %error, "no PodDisruptionBudget");
                }
                other => {
                    other.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(String::new())
    }

    async fn workload(
        &mut self,
        desired: &Result<Vec<Object>, desired::DesiredError>,
        standing: Standing,
        live: Option<&Value>,
        is_scaled: bool,
    ) -> Result<String, String> {
        let objects = desired.as_ref().map_err(ToString::to_string)?;
        let mut text = String::new();
        for object in objects {
            let (_, kind, _) = object.kind.names();
            if adoption::is_kept(standing, object) {
                self.wanted.insert(self.object_key(object.kind, &object.name));
                text = format!("{kind} {:?} was taken over; it is written when the actor changes", object.name);
                continue;
            }
            let is_new = is_scaled && live.is_none();
            if object.kind.is_workload()
                && let Some(live) = live
                && self.controller.applier.differs(self.actor, object, live)
                && !self.controller.rollouts.may_roll(self.key, self.actor, live)
            {
                self.wanted.insert(self.object_key(object.kind, &object.name));
                self.look_again(backoff::jittered(TURN));
                text = format!("{kind} {:?} waits for its turn to be upgraded", object.name);
                continue;
            }
            let applied = self.apply(object, is_new).await.map_err(|error| error.to_string())?;
            if object.kind.is_workload() {
                text = format!("{kind} {:?} is as it should be", object.name);
                if matches!(applied, Applied::Updated | Applied::Repaired) {
                    let what = if applied == Applied::Updated { "updated" } else { "put right" };
                    self.notes.push(Note::normal("WorkloadUpdated", format!("{what} {kind} {:?}", object.name)));
                }
                if applied == Applied::Replacing {
                    return Err(format!("{kind} {:?} is being deleted, to be made anew", object.name));
                }
            }
        }
        Ok(text)
    }

    /// `ScalingReady`, after the scaler has been written. A `ScaledJob` is workload and scaler in one.
    async fn scaling(&mut self, desired: &desired::Desired, is_there: bool, workload: Option<&String>) -> Option<Verdict> {
        if !self.actor.spec.scaling.enabled {
            return None;
        }
        let failed = |message: String| Some(Verdict { holds: false, reason: "ReconcileError", message });
        let objects = match &desired.scaler {
            Ok(objects) => objects,
            Err(error) => return failed(error.to_string()),
        };
        if workload_kind(self.actor) == Kind::ScaledJob
            && let Some(message) = workload
        {
            return failed(message.clone());
        }
        if !is_there {
            return failed("there is no workload to scale yet".to_owned());
        }
        for object in objects {
            match self.apply(object, false).await {
                Ok(_) => {}
                Err(error @ ApplyError::Foreign { .. }) => {
                    return Some(Verdict { holds: false, reason: "Conflict", message: error.to_string() });
                }
                Err(error) => return failed(error.to_string()),
            }
        }
        let message = "the autoscaler is as it should be".to_owned();
        Some(Verdict { holds: true, reason: "ScaledObjectCreated", message })
    }

    /// While scaling is manual nothing else may set the number of replicas: the scaler goes before the workload is
    /// written. A predecessor's scaler has no label of ours: the status names it.
    async fn delete_scalers(&mut self, previous: &Status) -> Result<(), kube::Error> {
        for kind in [Kind::ScaledObject, Kind::ScaledJob, Kind::TriggerAuthentication] {
            for (key, live) in self.controller.view.children(self.key) {
                if key.kind == kind && is_ours(self.actor, &live.body()) {
                    self.controller.applier.delete(&key, Some(&live.uid)).await?;
                }
            }
        }
        if previous.scaled_object_ref.is_none() {
            return Ok(());
        }
        let auth = format!("{}-trigger-auth", self.key.name);
        for (kind, name) in [(Kind::ScaledObject, &self.key.name), (Kind::TriggerAuthentication, &auth)] {
            let key = self.object_key(kind, name);
            let live = self.controller.applier.find(&key).await?;
            if let Some(live) = live.filter(|live| is_ours(self.actor, &live.body())) {
                self.controller.applier.delete(&key, Some(&live.uid)).await?;
            }
        }
        Ok(())
    }

    /// Objects of this actor that are no longer wanted, e.g. the workload of another kind (contract operator §7.4).
    async fn delete_unwanted(&mut self) -> Result<(), kube::Error> {
        for (key, live) in self.controller.view.children(self.key) {
            if !self.wanted.contains(&key) && is_ours(self.actor, &live.body()) {
                self.controller.applier.delete(&key, Some(&live.uid)).await?;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, object: &Object, is_new: bool) -> Result<Applied, ApplyError> {
        self.wanted.insert(self.object_key(object.kind, &object.name));
        let applied = self.controller.applier.apply(Some(self.actor), object, is_new).await;
        self.note_refusal(applied)
    }

    fn note_refusal(&mut self, applied: Result<Applied, ApplyError>) -> Result<Applied, ApplyError> {
        if let Err(ApplyError::Refused { again, .. }) = &applied {
            self.look_again(*again);
        }
        applied
    }

    fn look_again(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |known| known.min(after)));
    }

    fn object_key(&self, kind: Kind, name: &str) -> ObjectKey {
        ObjectKey { kind, namespace: self.key.namespace.clone(), name: name.to_owned() }
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

pub(super) fn counts(kind: Kind, live: &Live) -> Option<WorkloadCounts> {
    Some(WorkloadCounts::read(kind, &live.body()))
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

fn invalid(problems: &str) -> Verdict {
    Verdict { holds: false, reason: "ValidationError", message: problems.to_owned() }
}

fn waiting(message: &str) -> Verdict {
    Verdict { holds: false, reason: "ReconcileError", message: message.to_owned() }
}

fn no_transport(problem: &str) -> Verdict {
    Verdict { holds: false, reason: "InvalidTransport", message: problem.to_owned() }
}

fn transport_known() -> Verdict {
    Verdict { holds: true, reason: "TransportValidated", message: "the transport is known".to_owned() }
}

fn transport_unknown() -> Verdict {
    transport_known()
}

/// A refused actor keeps the scaler that it has.
fn previous_scaling(actor: &Actor, previous: &Status) -> Option<Verdict> {
    let condition = previous.conditions.iter().find(|condition| condition.kind == "ScalingReady");
    let holds = condition.is_some_and(|condition| condition.status == "True");
    actor.spec.scaling.enabled.then(|| Verdict {
        holds,
        reason: if holds { "ScaledObjectCreated" } else { "ReconcileError" },
        message: "nothing is written while the actor is refused".to_owned(),
    })
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
