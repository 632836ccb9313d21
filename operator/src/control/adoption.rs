//! Workloads that a Go operator made (contract operator §14, rulings 28): they are taken over without touching their
//! pods, and written as ours at the next change of the actor's spec.
//!
//! This module decides; [`super::reconcile`] does it.

use serde_json::{Value, json};

use super::ownership::{Ownership, ownership};
use crate::desired::Object;
use crate::resource::{ACTOR_LABEL, ADOPTED_ANNOTATION, APPLIED_ANNOTATION, Actor};

/// What a workload that exists is to us.
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

/// What `live`, the workload of `actor`, is to us.
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

/// The merge patch that marks a workload as taken over: nothing of it reaches its pods.
pub(super) fn mark(actor: &Actor) -> Value {
    json!({"metadata": {
        "labels": {ACTOR_LABEL: actor.name, "app.kubernetes.io/managed-by": "asya-operator"},
        "annotations": {ADOPTED_ANNOTATION: actor.generation.to_string()},
    }})
}

/// Whether an object is the workload itself, which is left alone while it stands [`Standing::Adopted`]; everything else
/// of a taken-over actor is written as usual.
pub(super) fn is_kept(standing: Standing, object: &Object) -> bool {
    object.kind.is_workload() && matches!(standing, Standing::Found | Standing::Adopted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Standing, standing};
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
}
