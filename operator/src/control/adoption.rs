//! Objects that a Go operator made (contract operator §14, rulings 28): they are taken over without touching their pods
//! or their scaling, and written as ours at the next change of the actor's spec.
//!
//! This module decides; [`super::round`] does it.

use serde_json::{Value, json};

use super::ownership::{Ownership, ownership};
use crate::resource::{ACTOR_LABEL, ADOPTED_ANNOTATION, APPLIED_ANNOTATION, Actor, FIELD_MANAGER};

/// The field manager of the Go operator: the name of its binary.
const PREDECESSOR: &str = "manager";

/// What an object that exists is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is written as any other object.
    Ours,
    /// It is a predecessor's and has not been marked yet.
    Found,
    /// It is a predecessor's, marked, and the actor has not changed since: left alone.
    Adopted,
    /// It is a predecessor's, marked, and the actor has changed since: the predecessor's hold on its fields ends, and it
    /// is written as any other object.
    Due,
}

/// What `live`, an object of `actor`, is to us.
pub(super) fn standing(actor: &Actor, live: &Value) -> Standing {
    let annotation = |key: &str| {
        let annotations = live.pointer("/metadata/annotations")?;
        annotations.get(key).and_then(Value::as_str)
    };
    if annotation(APPLIED_ANNOTATION).is_some() || ownership(&actor.name, &actor.uid, live) != Ownership::Ours
    {
        return Standing::Ours;
    }
    match annotation(ADOPTED_ANNOTATION) {
        None => Standing::Found,
        Some(generation) if *generation == actor.generation.to_string() => Standing::Adopted,
        Some(_) => Standing::Due,
    }
}

/// The merge patch that marks an object as taken over: nothing of it reaches its pods. It stays as it is while the actor's
/// generation is `seen`, the one that the predecessor processed last: what it never saw is written at once.
pub(super) fn mark(actor: &Actor, seen: i64) -> Value {
    json!({"metadata": {
        "labels": {ACTOR_LABEL: actor.name, "app.kubernetes.io/managed-by": "asya-operator"},
        "annotations": {ADOPTED_ANNOTATION: seen.to_string()},
    }})
}

/// `managedFields` after the predecessor's hold on an object has become ours, so that what it once wrote and nobody wants
/// any more goes with the next apply; `None` if it holds nothing. What it wrote through a subresource, and what others
/// hold, stays theirs.
pub(super) fn inherited(managed: &[Value]) -> Option<Vec<Value>> {
    let is_predecessors = |entry: &Value| {
        let holder = entry["manager"].as_str().unwrap_or_default();
        [PREDECESSOR, FIELD_MANAGER].contains(&holder)
            && entry["operation"] == "Update"
            && entry["subresource"].as_str().unwrap_or_default().is_empty()
    };
    let is_ours = |entry: &Value| entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply";
    let (theirs, mut others): (Vec<Value>, Vec<Value>) = managed.iter().cloned().partition(is_predecessors);
    let mut entry = theirs.first()?.clone();
    for more in theirs.iter().chain(managed.iter().filter(|entry| is_ours(entry))) {
        unite(&mut entry["fieldsV1"], &more["fieldsV1"]);
    }
    entry["manager"] = FIELD_MANAGER.into();
    entry["operation"] = "Apply".into();
    others.retain(|entry| !is_ours(entry));
    others.push(entry);
    Some(others)
}

fn unite(fields: &mut Value, more: &Value) {
    if let (Some(fields), Some(more)) = (fields.as_object_mut(), more.as_object()) {
        for (key, value) in more {
            unite(fields.entry(key.clone()).or_insert_with(|| json!({})), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Standing, inherited, standing};
    use crate::resource::{Actor, AsyncActor};

    #[test]
    fn a_workload_of_the_go_operator_is_left_alone_until_the_spec_changes() {
        let object: AsyncActor = serde_json::from_value(json!({
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 3},
            "spec": {"transport": "t", "workload": {"template": {}}},
        }))
        .unwrap();
        let actor = Actor::read(&object).unwrap();
        let live = |annotations: serde_json::Value| {
            let owner = json!({"apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor", "name": "a", "uid": "u", "controller": true});
            json!({"metadata": {"ownerReferences": [owner], "annotations": annotations}})
        };
        for (annotations, expected) in [
            (json!({}), Standing::Found),
            (json!({"asya.sh/adopted-generation": "3"}), Standing::Adopted),
            (json!({"asya.sh/adopted-generation": "2"}), Standing::Due),
            (
                json!({"asya.sh/adopted-generation": "3", "asya.sh/applied": "x"}),
                Standing::Ours,
            ),
        ] {
            assert_eq!(
                standing(&actor, &live(annotations.clone())),
                expected,
                "{annotations}"
            );
        }
    }

    #[test]
    fn what_the_predecessor_wrote_becomes_ours_and_what_others_hold_stays_theirs() {
        let entry = |manager: &str, operation: &str, subresource: &str, fields: serde_json::Value| {
            let mut entry = json!({"manager": manager, "operation": operation, "fieldsV1": fields});
            if !subresource.is_empty() {
                entry["subresource"] = subresource.into();
            }
            entry
        };
        let hpa = entry(
            "kube-controller-manager",
            "Update",
            "scale",
            json!({"f:spec": {"f:replicas": {}}}),
        );
        let status = entry("manager", "Update", "status", json!({"f:status": {}}));
        let managed = [
            entry(
                "manager",
                "Update",
                "",
                json!({"f:spec": {"f:template": {"f:a": {}}}}),
            ),
            entry(
                "asya-operator",
                "Update",
                "",
                json!({"f:metadata": {"f:labels": {}}}),
            ),
            hpa.clone(),
            status.clone(),
        ];
        let united = json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:template": {"f:a": {}}}});
        let ours = entry("asya-operator", "Apply", "", united);
        assert_eq!(inherited(&managed), Some(vec![hpa.clone(), status, ours.clone()]));
        assert_eq!(inherited(&[hpa, ours]), None);
    }
}
