//! Writes objects: by server-side apply, only when something differs, and never over somebody else's.
//!
//! An object carries the fingerprint of what was applied last (`asya.sh/applied`). If it is that of the desired body,
//! and the live object still says what it said then about our fields, nothing is sent. What "then" was is remembered
//! from the server's answer, because the server writes some values in another way than we do; without that memory (after
//! a restart) the body itself is compared, and at worst one request changes nothing.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::compare::{fingerprint, projection};
use super::memory::{Memory, Refusal, Remembered};
use super::ownership::{Ownership, ownership};
use super::view::{Live, ObjectKey, View, is_older};
use super::{adoption, backoff};
use crate::desired::{
    Kind, Object, REPLICAS_MANAGER, STRATEGY_MANAGER, TEMPLATE_HASH, contains, replicas_handover,
    strategy_change,
};
use crate::resource::{APPLIED_ANNOTATION, Actor, FIELD_MANAGER};

/// Annotation of workloads: the generation of the actor that they were written for.
const GENERATION_ANNOTATION: &str = "asya.sh/actor-generation";
/// Pauses after refusals.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// Repairs of one object within [`CALM`] of each other slow down: somebody else may want another state.
const CALM: Duration = Duration::from_mins(10);

/// What was done about one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applied {
    /// Nothing differed.
    Unchanged,
    /// It did not exist.
    Created,
    /// It was wanted differently.
    Updated,
    /// Somebody had changed it.
    Repaired,
    /// It cannot be changed in place and is being deleted, to be made anew.
    Replacing,
    /// It stays as it is until the actor changes: a predecessor's, or a Job that only the operator wants differently.
    Kept,
}

/// Why an object could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// An object of that name is somebody else's.
    #[error("{kind} {name:?} exists and is not this actor's: {whose}; delete or rename it")]
    Foreign {
        /// Its kind.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Whose it is.
        whose: String,
    },
    /// The definition is not installed.
    #[error("the KEDA CRDs are not installed: there is no kind {0} in this cluster")]
    NotInstalled(&'static str),
    /// The API server refused it, now or a moment ago.
    #[error("{message}")]
    Refused {
        /// Kind, name, and what the API server said.
        message: String,
        /// When it is tried again.
        again: Duration,
    },
}

/// Writes objects. See the module.
#[derive(Clone)]
pub(super) struct Applier {
    client: Client,
    view: Arc<View>,
    memory: Arc<Memory>,
}

/// An object to apply.
struct Wanted<'a> {
    key: ObjectKey,
    /// What is sent.
    body: Value,
    /// What is compared: without what is only set at creation.
    lasting: Value,
    fingerprint: String,
    owner: Option<&'a Actor>,
}

/// What has to be done about one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Update,
    Repair,
}

impl Applier {
    /// An applier that compares with `view`.
    pub(super) fn new(client: Client, view: Arc<View>, memory: Arc<Memory>) -> Self {
        Self { client, view, memory }
    }

    /// Makes sure of one object of an actor, or of a shared one (`owner` is `None`). `is_new` says that the body holds
    /// `spec.replicas` only because the workload does not exist yet.
    pub(super) async fn apply(
        &self,
        owner: Option<&Actor>,
        object: &Object,
        is_new: bool,
    ) -> Result<Applied, ApplyError> {
        let wanted = Wanted::new(owner, object, is_new);
        if object.kind.is_scaler() && self.view.is_absent(object.kind) {
            return Err(ApplyError::NotInstalled(object.kind.names().1));
        }
        let known = self.memory.get(&wanted.key);
        if let Some(refusal) = known
            .refusal
            .as_ref()
            .filter(|refusal| refusal.fingerprint == wanted.fingerprint)
            && let Some(again) = refusal.until.checked_duration_since(Instant::now())
        {
            return Err(ApplyError::Refused {
                message: refusal.message.clone(),
                again,
            });
        }
        match self.settle(&wanted, &known).await {
            Ok(applied) => {
                self.memory.change(&wanted.key, |known| known.refusal = None);
                Ok(applied)
            }
            Err(Failure::Final(error)) => Err(error),
            Err(Failure::Api(error)) => Err(self.refused(&wanted, &known, &error)),
        }
    }

    async fn settle(&self, wanted: &Wanted<'_>, known: &Remembered) -> Result<Applied, Failure> {
        let seen = self.view.object(&wanted.key);
        let live = match seen {
            Some(live) => Some(live),
            // Just created: the watch has not told yet.
            None if known.is_fresh() && known.fingerprint == wanted.fingerprint => {
                return Ok(Applied::Unchanged);
            }
            None => self.fetch(&wanted.key).await?.map(Arc::new),
        };
        let Some(live) = live else {
            self.send(wanted, None).await?;
            return Ok(Applied::Created);
        };
        let body = live.body();
        match wanted
            .owner
            .map_or(Ownership::Ours, |actor| ownership(&actor.name, &actor.uid, &body))
        {
            Ownership::Ours => {}
            Ownership::Abandoned => {
                self.delete(&wanted.key, Some(&live.uid)).await?;
                return Ok(Applied::Replacing);
            }
            Ownership::Foreign(whose) => {
                let kind = wanted.key.kind.names().1;
                return Err(Failure::Final(ApplyError::Foreign {
                    kind,
                    name: wanted.key.name.clone(),
                    whose,
                }));
            }
        }
        let need = need(wanted, &live, &body, known);
        if need == Need::Nothing {
            return Ok(Applied::Unchanged);
        }
        if need == Need::Update && is_same_job(wanted, &body) {
            return Ok(Applied::Kept);
        }
        if need == Need::Repair {
            self.slow_down(wanted, known)?;
        }
        self.smooth_the_way(wanted, &live, &body).await?;
        match self.send(wanted, Some(&live.uid)).await {
            Ok(()) if need == Need::Update => Ok(Applied::Updated),
            Ok(()) => Ok(Applied::Repaired),
            Err(error) if wanted.key.kind == Kind::Job && describe(&error).contains("immutable") => {
                // The template of a Job cannot be changed (contract operator §7.3).
                self.delete(&wanted.key, Some(&live.uid)).await?;
                Ok(Applied::Replacing)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The object as it is now, past the view: it may lack our label.
    async fn fetch(&self, key: &ObjectKey) -> Result<Option<Live>, kube::Error> {
        Ok(self.api(key).get_opt(&key.name).await?.map(Live::reduce))
    }

    /// The object as it is, from the view or else from the server.
    pub(super) async fn find(&self, key: &ObjectKey) -> Result<Option<Arc<Live>>, kube::Error> {
        match self.view.object(key) {
            Some(live) => Ok(Some(live)),
            None if key.kind.is_scaler() && self.view.is_absent(key.kind) => Ok(None),
            None => Ok(self.fetch(key).await?.map(Arc::new)),
        }
    }

    /// With the uid of the object that is to be changed the server refuses to make a new one (409), should that one have
    /// gone meanwhile: what is applied to a workload that exists says nothing of its replicas.
    async fn send(&self, wanted: &Wanted<'_>, uid: Option<&str>) -> Result<(), kube::Error> {
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let mut body = wanted.body.clone();
        if let Some(uid) = uid {
            body["metadata"]["uid"] = Value::from(uid);
        }
        let answer = self
            .api(&wanted.key)
            .patch(&wanted.key.name, &parameters, &Patch::Apply(&body))
            .await?;
        let live = Live::reduce(answer);
        let seen = fingerprint(&projection(&wanted.lasting, &live.body()));
        tracing::debug!(
            kind = wanted.key.kind.names().1,
            namespace = wanted.key.namespace,
            name = wanted.key.name,
            "applied"
        );
        self.memory.change(&wanted.key, |known| {
            known.fingerprint.clone_from(&wanted.fingerprint);
            known.version = live.version;
            known.projection = seen;
            known.applied = Some(Instant::now());
        });
        Ok(())
    }

    /// What server-side apply alone would get wrong about a workload that exists: `spec.replicas` that is left out from
    /// now on gets another manager first, else the server would reset it to 1 (contract operator §9.4); and another type
    /// of strategy is set first, else the server would refuse it.
    async fn smooth_the_way(
        &self,
        wanted: &Wanted<'_>,
        live: &Live,
        body: &Value,
    ) -> Result<(), kube::Error> {
        if !matches!(wanted.key.kind, Kind::Deployment | Kind::StatefulSet) {
            return Ok(());
        }
        // What was just taken over is not in the view yet.
        let is_taken_over = body
            .pointer("/metadata/annotations")
            .is_none_or(|all| all.get(APPLIED_ANNOTATION).is_none());
        let hands_over =
            (live.owns_replicas || is_taken_over) && wanted.lasting.pointer("/spec/replicas").is_none();
        let strategy = ["/spec/strategy/type", "/spec/updateStrategy/type"]
            .into_iter()
            .find_map(|path| body.pointer(path));
        let has_strategy = strategy.is_some_and(|kind| kind != "RollingUpdate");
        if !hands_over && !has_strategy && strategy_change(body, &wanted.lasting).is_none() {
            return Ok(());
        }
        // As it is now, with its managers, which the view does not keep.
        let Some(now) = self.api(&wanted.key).get_opt(&wanted.key.name).await? else {
            return Ok(());
        };
        // What came as JSON can be written as JSON.
        let mut now = serde_json::to_value(now).unwrap_or_default();
        let (api_version, kind, _) = wanted.key.kind.names();
        now["apiVersion"] = api_version.into();
        now["kind"] = kind.into();
        let api = self.api(&wanted.key);
        if let Some(part) = replicas_handover(&now, &wanted.lasting) {
            let parameters = PatchParams::apply(REPLICAS_MANAGER).force();
            api.patch(&wanted.key.name, &parameters, &Patch::Apply(&part))
                .await?;
        }
        if let Some(change) = strategy_change(&now, &wanted.lasting) {
            let parameters = PatchParams {
                field_manager: Some(STRATEGY_MANAGER.into()),
                ..PatchParams::default()
            };
            api.patch(&wanted.key.name, &parameters, &Patch::Merge(&change))
                .await?;
        }
        Ok(())
    }

    /// Whether `live` is as new as what was applied last. Until then it says nothing about the rollout that this began.
    pub(super) fn is_current(&self, key: &ObjectKey, live: &Live) -> bool {
        !is_older(&live.version, &self.memory.get(key).version)
    }

    /// Ends a predecessor's hold on an object ([`adoption::inherited`]).
    pub(super) async fn take_over(&self, key: &ObjectKey) -> Result<(), kube::Error> {
        let Some(object) = self.api(key).get_opt(&key.name).await? else {
            return Ok(());
        };
        // What came as JSON can be written as JSON.
        let managed = serde_json::to_value(&object.metadata.managed_fields).unwrap_or_default();
        let Some(managed) = managed
            .as_array()
            .and_then(|managed| adoption::inherited(managed))
        else {
            return Ok(());
        };
        let version = &object.metadata.resource_version;
        self.merge(
            key,
            &json!({"metadata": {"managedFields": managed, "resourceVersion": version}}),
        )
        .await
    }

    /// Changes a part of an object by a merge patch.
    pub(super) async fn merge(&self, key: &ObjectKey, patch: &Value) -> Result<(), kube::Error> {
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        self.api(key)
            .patch(&key.name, &parameters, &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    /// Deletes one object, with its pods in the background. An object that is gone, or another one of that name, is
    /// fine.
    pub(super) async fn delete(&self, key: &ObjectKey, uid: Option<&str>) -> Result<(), kube::Error> {
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api(key).delete(&key.name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn api(&self, key: &ObjectKey) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, &key.kind.api_resource())
    }

    /// Repairs that follow each other closely wait longer and longer.
    fn slow_down(&self, wanted: &Wanted<'_>, known: &Remembered) -> Result<(), Failure> {
        let now = Instant::now();
        let recent = known.repaired.filter(|at| now.duration_since(*at) < CALM);
        let repairs = if recent.is_some() { known.repairs } else { 0 };
        if let Some(last) = recent
            && repairs > 2
        {
            let pause = FIRST_PAUSE
                .saturating_mul(2_u32.saturating_pow(repairs))
                .min(LONGEST_PAUSE);
            if let Some(again) = (last + pause).checked_duration_since(now) {
                let kind = wanted.key.kind.names().1;
                let message = format!(
                    "{kind} {:?} keeps being changed by somebody else",
                    wanted.key.name
                );
                return Err(Failure::Final(ApplyError::Refused { message, again }));
            }
        }
        self.memory.change(&wanted.key, |known| {
            known.repairs = repairs + 1;
            known.repaired = Some(now);
        });
        Ok(())
    }

    fn refused(&self, wanted: &Wanted<'_>, known: &Remembered, error: &kube::Error) -> ApplyError {
        let same = known
            .refusal
            .as_ref()
            .filter(|refusal| refusal.fingerprint == wanted.fingerprint);
        let attempts = same.map_or(0, |refusal| refusal.attempts) + 1;
        // What is invalid stays invalid, unless a quota, a webhook or the server changes.
        let first = if is_invalid(error) {
            Duration::from_mins(1)
        } else {
            FIRST_PAUSE
        };
        let again = backoff::delay(attempts, first, LONGEST_PAUSE);
        let message = format!(
            "{} {:?}: {}",
            wanted.key.kind.names().1,
            wanted.key.name,
            describe(error)
        );
        let refusal = Refusal {
            fingerprint: wanted.fingerprint.clone(),
            attempts,
            until: Instant::now() + again,
            message: message.clone(),
        };
        self.memory
            .change(&wanted.key, |known| known.refusal = Some(refusal));
        ApplyError::Refused { message, again }
    }
}

impl<'a> Wanted<'a> {
    fn new(owner: Option<&'a Actor>, object: &Object, is_new: bool) -> Self {
        let mut lasting = object.body.clone();
        if is_new && let Some(spec) = lasting.get_mut("spec").and_then(Value::as_object_mut) {
            spec.remove("replicas");
        }
        let fingerprint = fingerprint(&lasting);
        let mut body = object.body.clone();
        for value in [&mut body, &mut lasting] {
            value["metadata"]["annotations"][APPLIED_ANNOTATION] = Value::from(fingerprint.as_str());
        }
        let key = ObjectKey {
            kind: object.kind,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        };
        Self {
            key,
            body,
            lasting,
            fingerprint,
            owner,
        }
    }
}

/// Whether applying `object` over `live` would change what was applied last.
pub(super) fn differs(owner: &Actor, object: &Object, live: &Value) -> bool {
    let wanted = Wanted::new(Some(owner), object, false);
    annotation(live, APPLIED_ANNOTATION) != Some(wanted.fingerprint.as_str())
}

/// Whether a Job that exists was made for the actor as it is, so that only the operator, its script or its defaults want
/// another template. It would have to be deleted for that, and what it has done would be done again.
fn is_same_job(wanted: &Wanted<'_>, body: &Value) -> bool {
    let is_same = |key: &str| {
        let live = annotation(body, key);
        live.is_some() && live == annotation(&wanted.lasting, key)
    };
    wanted.key.kind == Kind::Job && is_same(GENERATION_ANNOTATION) && !is_same(TEMPLATE_HASH)
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.pointer("/metadata/annotations")?.get(key)?.as_str()
}

/// Decides whether an object has to be applied.
fn need(wanted: &Wanted<'_>, live: &Live, body: &Value, known: &Remembered) -> Need {
    let is_known = known.fingerprint == wanted.fingerprint;
    if is_known && (live.version == known.version || is_older(&live.version, &known.version)) {
        return Need::Nothing;
    }
    let is_applied = annotation(body, APPLIED_ANNOTATION) == Some(wanted.fingerprint.as_str());
    if !is_applied && !is_known {
        return Need::Update;
    }
    if is_known && fingerprint(&projection(&wanted.lasting, body)) == known.projection {
        return Need::Nothing;
    }
    match contains(body, &wanted.lasting) {
        None => Need::Nothing,
        Some(path) => {
            let ObjectKey {
                kind,
                namespace,
                name,
            } = &wanted.key;
            tracing::info!(
                kind = kind.names().1,
                namespace,
                name,
                path,
                "somebody changed an object; it is put right"
            );
            Need::Repair
        }
    }
}

enum Failure {
    Final(ApplyError),
    Api(kube::Error),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

/// Whether the API server will say the same again as long as nothing changes.
fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422))
}

/// Whether the API server finds an object to be against its rules.
pub(super) fn is_unprocessable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

/// What went wrong, in the API server's words where it has any.
pub(super) fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}
