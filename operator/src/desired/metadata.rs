//! `metadata` of the objects that are written for an actor.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Kind, Object};
use crate::resource::{ACTOR_LABEL, Actor};

/// Label that says who looks after an object.
pub(super) const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// Its value.
pub(super) const MANAGED_BY: &str = "asya-operator";
/// Annotation of workloads: the generation of the actor that they were written for.
const ACTOR_GENERATION: &str = "asya.sh/actor-generation";

/// An object of this actor: labelled, owned by it, with `annotations` and the other members of `body`.
pub(super) fn owned(
    actor: &Actor,
    kind: Kind,
    name: String,
    annotations: BTreeMap<&'static str, String>,
    mut body: Value,
) -> Object {
    let (api_version, kind_name, _) = kind.names();
    let mut annotations = annotations;
    if kind.is_workload() {
        annotations.insert(ACTOR_GENERATION, actor.generation.to_string());
    }
    let mut metadata = json!({
        "name": name,
        "namespace": actor.namespace,
        "labels": { ACTOR_LABEL: actor.name, MANAGED_BY_LABEL: MANAGED_BY },
    });
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    // In a dry run there is no object that could own anything.
    if !actor.uid.is_empty() {
        metadata["ownerReferences"] = json!([actor.owner_reference()]);
    }
    body["apiVersion"] = api_version.into();
    body["kind"] = kind_name.into();
    body["metadata"] = metadata;
    Object {
        kind,
        namespace: actor.namespace.clone(),
        name,
        body,
    }
}
