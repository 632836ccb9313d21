//! Who decides how many pods there are (contract operator §9.4).

use serde_json::{Value, json};

use super::Inputs;
use crate::resource::FIELD_MANAGER;

/// The field manager that holds `spec.replicas` between the operator and the autoscaler.
///
/// A field that its only manager leaves out of the next apply is removed, and the API server's default takes its
/// place: one replica, whatever there was. So before the operator stops writing `spec.replicas` this manager takes it
/// over with its present value; KEDA and the HPA take it from there.
pub const REPLICAS_MANAGER: &str = "asya-operator-replicas";

/// `spec.replicas` as the operator writes it: the actor's number while scaling is off; with scaling nothing, except
/// that a workload which does not exist yet starts with the minimum, so that scaling from zero wastes no pod.
pub(super) fn written(inputs: &Inputs<'_>) -> Option<u32> {
    let spec = &inputs.actor.spec;
    match (spec.scaling.enabled, inputs.facts.workload_exists) {
        (false, _) => Some(spec.workload.replicas),
        (true, false) => Some(spec.scaling.min_replicas),
        (true, true) => None,
    }
}

/// What to apply as [`REPLICAS_MANAGER`] (forced) before `desired` is applied to `live`, if anything: nothing if
/// `desired` says how many replicas there are, or if somebody else than the operator answers for the number.
pub fn replicas_handover(live: &Value, desired: &Value) -> Option<Value> {
    if desired.pointer("/spec/replicas").is_some() {
        return None;
    }
    let replicas = live.pointer("/spec/replicas")?;
    let managers = live
        .pointer("/metadata/managedFields")
        .and_then(Value::as_array)?;
    let owns = |manager: &&Value| manager.pointer("/fieldsV1/f:spec/f:replicas").is_some();
    let mut owners = managers.iter().filter(owns).peekable();
    owners.peek()?;
    let is_ours = |manager: &Value| manager["manager"] == FIELD_MANAGER && manager["operation"] == "Apply";
    owners.all(is_ours).then(|| {
        json!({
            "apiVersion": live["apiVersion"],
            "kind": live["kind"],
            "metadata": { "name": live["metadata"]["name"], "namespace": live["metadata"]["namespace"] },
            "spec": { "replicas": replicas },
        })
    })
}
