//! The writing part of one pass: the objects of one actor, in the order of contract operator §8.1.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::adoption::{self, Standing};
use super::apply::{Applied, ApplyError, describe, differs};
use super::backoff;
use super::events::Note;
use super::reconcile::{Controller, is_ours, locked, workload_kind};
use super::view::{Live, ObjectKey};
use super::work_queue::Key;
use crate::desired::{self, Facts, Inputs, Kind, Object};
use crate::queues::Secrets as _;
use crate::registry::{Broker, Transport};
use crate::resource::Actor;
use crate::status::{Status, Verdict};

/// How long it is taken for granted whether a Secret holds a user name.
const SECRET_FRESH: Duration = Duration::from_mins(5);
/// How long what was known of a Secret is kept, for the time that it cannot be read.
const SECRET_FORGOTTEN: Duration = Duration::from_hours(1);
/// How long one pass keeps others of its namespace from writing the runtime script.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(30);
/// How often a workload asks for its turn in an upgrade.
const TURN: Duration = Duration::from_secs(10);
/// How soon taking an object over is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What one pass learnt of an actor's objects.
pub(super) struct Objects {
    /// `WorkloadReady`.
    pub(super) workload: Verdict,
    /// `ScalingReady`; `None` while scaling is manual.
    pub(super) scaling: Option<Verdict>,
    /// Whether the workload has been written as it is wanted now: it neither stays as it was nor waits for its turn.
    pub(super) is_written: bool,
    /// The workload as it was seen last.
    pub(super) live: Option<Arc<Live>>,
    /// What it is.
    pub(super) kind: Kind,
    /// What a user should see.
    pub(super) notes: Vec<Note>,
    /// When to look again.
    pub(super) again: Option<Duration>,
}

impl Controller {
    /// Writes the objects of an actor: first what the pods need, then the workload, then the scaler; last what is no
    /// longer wanted is deleted.
    pub(super) async fn write(
        &self,
        key: &Key,
        actor: &Actor,
        transport: &Transport,
        previous: &Status,
    ) -> Result<Objects, kube::Error> {
        let kind = workload_kind(actor);
        let found = self
            .applier
            .find(&ObjectKey {
                kind,
                namespace: key.namespace.clone(),
                name: key.name.clone(),
            })
            .await?;
        let body = found
            .as_ref()
            .map(|live| live.body())
            .filter(|body| is_ours(actor, body));
        let standing = body
            .as_ref()
            .map_or(Standing::Ours, |body| adoption::standing(actor, body));
        let facts = self.facts(key, actor, transport, body.as_ref()).await;
        let defaults = &self.settings.defaults;
        let desired = desired::objects(&Inputs {
            actor,
            transport,
            defaults,
            facts: &facts,
        });
        let mut round = Round {
            controller: self,
            key,
            actor,
            notes: Vec::new(),
            again: None,
            wanted: HashSet::new(),
            is_written: false,
            is_taken_over: standing != Standing::Ours,
            seen_generation: previous.observed_generation.unwrap_or(actor.generation),
        };
        round.want(&desired);
        if !actor.spec.scaling.enabled {
            round.delete_scalers(previous).await?;
        }
        if body.is_none() {
            self.mark_left_behind(key, actor, kind).await?;
        }
        let mut workload = round.prepare(&desired.common).await;
        if workload.is_ok() {
            workload = round
                .workload(&desired.workload, body.as_ref(), actor.spec.scaling.enabled)
                .await;
        }
        let is_there = workload.is_ok() || body.is_some();
        let scaling = round.scaling(&desired, is_there, workload.as_ref().err()).await;
        if workload.is_ok() {
            let is_scaling_settled = scaling.as_ref().is_none_or(|scaling| scaling.holds);
            round.delete_unwanted(is_scaling_settled).await?;
        }
        let (notes, again, is_written) = (round.notes, round.again, round.is_written);
        let live = self.view.object(&ObjectKey {
            kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        });
        let live = live.or(found);
        let workload = match workload {
            Ok(text) => Verdict {
                holds: true,
                reason: "WorkloadCreated",
                message: text,
            },
            Err(text) => Verdict {
                holds: false,
                reason: "ReconcileError",
                message: text,
            },
        };
        Ok(Objects {
            workload,
            scaling,
            is_written,
            live,
            kind,
            notes,
            again,
        })
    }

    async fn facts(
        &self,
        key: &Key,
        actor: &Actor,
        transport: &Transport,
        workload: Option<&Value>,
    ) -> Facts {
        let selector = workload.and_then(|body| body.pointer("/spec/selector/matchLabels"));
        Facts {
            selector: selector.and_then(|labels| serde_json::from_value(labels.clone()).ok()),
            workload_exists: workload.is_some(),
            secret_has_username: actor.spec.scaling.enabled
                && self.secret_has_user_name(key, transport).await,
            server_minor: self.server_minor,
        }
    }

    /// Asked rarely: it changes rarely, and only the scaler wants to know (contract operator §9.2 a).
    async fn secret_has_user_name(&self, key: &Key, transport: &Transport) -> bool {
        let Broker::RabbitMq(broker) = &transport.broker else {
            return false;
        };
        let Some(secret) = &broker.password else {
            return false;
        };
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
        let mut names = locked(&self.user_names);
        // Whoever still needs a Secret asks again and again.
        names.retain(|_, (at, _)| at.elapsed() < SECRET_FORGOTTEN);
        names.insert(place, (Instant::now(), has));
        has
    }
}

/// The writing part of one pass.
struct Round<'a> {
    controller: &'a Controller,
    key: &'a Key,
    actor: &'a Actor,
    notes: Vec<Note>,
    again: Option<Duration>,
    /// Everything that should exist, whether it could be written or not.
    wanted: HashSet<ObjectKey>,
    is_written: bool,
    /// Whether the workload is a predecessor's, so that other objects may be too.
    is_taken_over: bool,
    /// Generation of the actor that was processed last, by us or by a predecessor.
    seen_generation: i64,
}

impl Round<'_> {
    /// Before anything is tried: what cannot be written is no less wanted for that.
    fn want(&mut self, desired: &desired::Desired) {
        let parts = [
            Ok(&desired.common),
            desired.workload.as_ref(),
            desired.scaler.as_ref(),
        ];
        for object in parts.into_iter().flatten().flatten() {
            self.wanted.insert(self.object_key(object.kind, &object.name));
        }
    }

    /// Whether an object is a predecessor's and stays as it is for now; it is marked as taken over, or freed from the
    /// predecessor's hold if its time has come. That of a scaler has come with that of the workload.
    async fn keeps(&mut self, key: &ObjectKey) -> Result<bool, kube::Error> {
        let applier = &self.controller.applier;
        let Some(live) = applier.find(key).await? else {
            return Ok(false);
        };
        match adoption::standing(self.actor, &live.body()) {
            Standing::Ours => Ok(false),
            Standing::Adopted if self.is_taken_over => Ok(true),
            Standing::Found if self.is_taken_over => {
                applier
                    .merge(key, &adoption::mark(self.actor, self.seen_generation))
                    .await?;
                let text = format!(
                    "took over {} {:?}; it stays as it is until the actor changes",
                    key.kind.names().1,
                    key.name
                );
                self.notes.push(Note::normal("WorkloadAdopted", text));
                Ok(true)
            }
            Standing::Found | Standing::Adopted | Standing::Due => {
                applier.take_over(key).await?;
                Ok(false)
            }
        }
    }

    /// What stands before the workload: the runtime script, and the common objects. A `PodDisruptionBudget` that cannot be
    /// written holds nothing up.
    async fn prepare(&mut self, common: &[Object]) -> Result<String, String> {
        if self.actor.spec.workload.runtime == asya_manifest::RuntimeKind::Python {
            let script = &self.controller.settings.defaults.script;
            let object = desired::runtime_config_map(&self.key.namespace, script);
            let one_at_a_time = self.controller.scripts.take(&self.key.namespace).await;
            let applying = self.controller.applier.apply(None, &object, false);
            let applied = tokio::time::timeout(SCRIPT_PATIENCE, applying).await;
            drop(one_at_a_time);
            let Ok(applied) = applied else {
                self.look_again(backoff::jittered(TURN));
                return Err(format!(
                    "ConfigMap {:?}: no answer of the API server within {SCRIPT_PATIENCE:?}",
                    object.name
                ));
            };
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
        live: Option<&Value>,
        is_scaled: bool,
    ) -> Result<String, String> {
        let objects = desired.as_ref().map_err(ToString::to_string)?;
        let mut text = String::new();
        for object in objects {
            let (_, kind, _) = object.kind.names();
            let is_new = is_scaled && live.is_none();
            if object.kind.is_workload()
                // Jobs never roll: they stay, or the actor itself has changed.
                && object.kind != Kind::Job
                && let Some(live) = live
                && differs(self.actor, object, live)
                && !self.controller.rollouts.may_roll(self.key, self.actor, live)
            {
                self.look_again(backoff::jittered(TURN));
                text = format!("{kind} {:?} waits for its turn to be upgraded", object.name);
                continue;
            }
            let applied = self
                .apply(object, is_new)
                .await
                .map_err(|error| error.to_string())?;
            if object.kind.is_workload() {
                self.is_written = !matches!(applied, Applied::Kept | Applied::Replacing);
                text = match applied {
                    Applied::Kept => format!(
                        "{kind} {:?} stays as it is; it is written when the actor changes",
                        object.name
                    ),
                    _ => format!("{kind} {:?} is as it should be", object.name),
                };
                if matches!(applied, Applied::Updated | Applied::Repaired) {
                    let what = if applied == Applied::Updated {
                        "updated"
                    } else {
                        "put right"
                    };
                    self.notes.push(Note::normal(
                        "WorkloadUpdated",
                        format!("{what} {kind} {:?}", object.name),
                    ));
                }
                if applied == Applied::Replacing {
                    return Err(format!(
                        "{kind} {:?} is being deleted, to be made anew",
                        object.name
                    ));
                }
            }
        }
        Ok(text)
    }

    /// `ScalingReady`, after the scaler has been written. A `ScaledJob` is workload and scaler in one.
    async fn scaling(
        &mut self,
        desired: &desired::Desired,
        is_there: bool,
        workload: Option<&String>,
    ) -> Option<Verdict> {
        if !self.actor.spec.scaling.enabled {
            return None;
        }
        let failed = |message: String| {
            Some(Verdict {
                holds: false,
                reason: "ReconcileError",
                message,
            })
        };
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
                    return Some(Verdict {
                        holds: false,
                        reason: "Conflict",
                        message: error.to_string(),
                    });
                }
                Err(error) => return failed(error.to_string()),
            }
        }
        let message = "the autoscaler is as it should be".to_owned();
        Some(Verdict {
            holds: true,
            reason: "ScaledObjectCreated",
            message,
        })
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
        for (kind, name) in [
            (Kind::ScaledObject, &self.key.name),
            (Kind::TriggerAuthentication, &auth),
        ] {
            let key = self.object_key(kind, name);
            let live = self.controller.applier.find(&key).await?;
            if let Some(live) = live.filter(|live| is_ours(self.actor, &live.body())) {
                self.controller.applier.delete(&key, Some(&live.uid)).await?;
            }
        }
        Ok(())
    }

    /// Objects of this actor that are no longer wanted, e.g. the workload of another kind (contract operator §7.4). While
    /// the scaler is not what it should be, only workloads go: the scaler that there is may need the rest.
    async fn delete_unwanted(&mut self, is_scaling_settled: bool) -> Result<(), kube::Error> {
        for (key, live) in self.controller.view.children(self.key) {
            let may_go = is_scaling_settled || key.kind.is_workload();
            if may_go && !self.wanted.contains(&key) && is_ours(self.actor, &live.body()) {
                self.controller.applier.delete(&key, Some(&live.uid)).await?;
            }
        }
        Ok(())
    }

    async fn apply(&mut self, object: &Object, is_new: bool) -> Result<Applied, ApplyError> {
        let key = self.object_key(object.kind, &object.name);
        // What of a takeover is missing after the workload was written is seen from the scaler itself.
        if self.is_taken_over || key.kind.is_scaler() {
            match self.keeps(&key).await {
                Ok(false) => {}
                Ok(true) => return Ok(Applied::Kept),
                Err(error) => {
                    let message = format!("{} {:?}: {}", key.kind.names().1, key.name, describe(&error));
                    return self.note_refusal(Err(ApplyError::Refused {
                        message,
                        again: RETRY,
                    }));
                }
            }
        }
        let applied = self
            .controller
            .applier
            .apply(Some(self.actor), object, is_new)
            .await;
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
        ObjectKey {
            kind,
            namespace: self.key.namespace.clone(),
            name: name.to_owned(),
        }
    }
}
