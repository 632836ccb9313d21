//! The custom resource as the API server stores it, and the actor that it describes.
//!
//! [`AsyncActor`] holds `spec` and `status` as raw JSON, so that whatever one tenant writes can be listed and watched
//! (O-01); [`Actor::read`] decodes one object, and only that actor suffers if it cannot be.

use std::borrow::Cow;
use std::collections::BTreeMap;

use asya_manifest::{GROUP, KIND, Spec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The finalizer that keeps an actor until its queue is dealt with (contract operator §2).
pub const FINALIZER: &str = "asya.sh/finalizer";
/// Who we are in `managedFields`.
pub const FIELD_MANAGER: &str = "asya-operator";
/// The version of [`AsyncActor`].
pub const VERSION: &str = "v1alpha1";
/// `metadata.name` of the custom resource definition.
pub const CRD_NAME: &str = "asyncactors.asya.sh";
/// Label of workloads, pods and everything else that belongs to an actor; its value is the actor's name.
pub const ACTOR_LABEL: &str = "asya.sh/asya";
/// Annotation with which actors of one name in two namespaces agree to share one queue (contract operator §8.6).
pub const QUEUE_SHARING_ANNOTATION: &str = "asya.sh/queue-sharing";
/// Annotation of objects: the fingerprint of what was applied last.
pub const APPLIED_ANNOTATION: &str = "asya.sh/applied";
/// Annotation of a workload that was taken over: the generation of its actor at that time (contract operator §14).
pub const ADOPTED_ANNOTATION: &str = "asya.sh/adopted-generation";

/// An AsyncActor, undecoded.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AsyncActor {
    /// Standard metadata.
    pub metadata: ObjectMeta,
    /// Whatever was written under `spec`.
    #[serde(default)]
    pub spec: Value,
    /// Whatever stands under `status`, ours or a predecessor's.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub status: Value,
}

impl Resource for AsyncActor {
    type DynamicType = ();
    type Scope = kube::core::NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        KIND.into()
    }
    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }
    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        "asyncactors".into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// One actor whose `spec` could be read. What the pure parts of the operator work on.
#[derive(Debug, Clone, PartialEq)]
pub struct Actor {
    /// `metadata.name`; the queue is `asya-<name>`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.uid`; empty in a dry run.
    pub uid: String,
    /// `metadata.generation`; 0 in a dry run.
    pub generation: i64,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Whether deletion has begun.
    pub is_deleting: bool,
    /// The typed fields.
    pub spec: Spec,
}

/// Why a `spec` cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the spec cannot be read: {0}")]
pub struct UnreadableSpec(pub String);

impl Actor {
    /// Decodes one object.
    pub fn read(object: &AsyncActor) -> Result<Self, UnreadableSpec> {
        let spec = Spec::deserialize(&object.spec).map_err(|error| UnreadableSpec(error.to_string()))?;
        let metadata = &object.metadata;
        Ok(Self {
            name: metadata.name.clone().unwrap_or_default(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            annotations: metadata.annotations.clone().unwrap_or_default(),
            labels: metadata.labels.clone().unwrap_or_default(),
            is_deleting: metadata.deletion_timestamp.is_some(),
            spec,
        })
    }

    /// The owner reference that everything made for this actor carries.
    pub fn owner_reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: asya_manifest::API_VERSION.into(),
            kind: KIND.into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// The value of one of our annotations (`asya.sh/<key>`).
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations
            .get(&format!("{GROUP}/{key}"))
            .map(String::as_str)
    }
}
