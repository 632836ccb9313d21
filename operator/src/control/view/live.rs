//! One object as it was seen on the API server, kept small.

use kube::api::DynamicObject;
use serde_json::Value;

use crate::desired::Kind;
use crate::resource::{ACTOR_LABEL, FIELD_MANAGER};

/// Kind, namespace and name of an object that the operator may have written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::control) struct ObjectKey {
    /// What it is.
    pub(in crate::control) kind: Kind,
    /// `metadata.namespace`.
    pub(in crate::control) namespace: String,
    /// `metadata.name`.
    pub(in crate::control) name: String,
}

/// An object as it is, as text: thousands of parsed templates would not fit into a small pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) struct Live {
    /// `metadata.uid`.
    pub(in crate::control) uid: String,
    /// `metadata.resourceVersion`.
    pub(in crate::control) version: String,
    /// Whether our field manager owns `spec.replicas`: then leaving it out of the next apply would reset it.
    pub(in crate::control) owns_replicas: bool,
    /// The actor that its label names.
    pub(in crate::control) actor: Option<String>,
    text: Box<str>,
}

impl Live {
    /// Reduces what the API server sent.
    pub(in crate::control) fn reduce(mut object: DynamicObject) -> Self {
        let owns_replicas = owns_replicas(&object);
        object.metadata.managed_fields = None;
        let metadata = &object.metadata;
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            owns_replicas,
            actor: metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(ACTOR_LABEL))
                .cloned(),
            // An object that came as JSON can be written as JSON.
            text: serde_json::to_string(&object).unwrap_or_default().into(),
        }
    }

    /// The whole object without `managedFields`.
    pub(in crate::control) fn body(&self) -> Value {
        // Written by `reduce`.
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

fn owns_replicas(object: &DynamicObject) -> bool {
    let entries = object.metadata.managed_fields.iter().flatten();
    entries
        .filter(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER))
        .filter(|entry| entry.operation.as_deref() == Some("Apply"))
        .filter_map(|entry| entry.fields_v1.as_ref())
        .any(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
}

/// Whether version `one` of an object is older than version `other`. Versions are numbers in all servers that exist;
/// if one is not, nothing is known to be older.
pub(in crate::control) fn is_older(one: &str, other: &str) -> bool {
    match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one < other,
        _ => false,
    }
}
