//! What pods that end by themselves need (contract operator §7.3).

use asya_manifest::WorkloadKind;
use serde_json::{Map, Value};

use super::refused;
use crate::desired::DesiredError;
use crate::resource::Actor;

/// When the sidecar of this actor has done its work: the value of its `ASYA_RUN_UNTIL`. `None` for pods that run until
/// they are stopped.
pub(super) fn run_until(actor: &Actor) -> Option<&'static str> {
    match (actor.spec.workload.effective_kind(), actor.spec.scaling.enabled) {
        (WorkloadKind::Job, true) => Some("one"),
        (WorkloadKind::Job, false) => Some("empty"),
        _ => None,
    }
}

/// Pods of a Job may not be restarted for ever: the user's policy or `OnFailure`.
pub(super) fn settle(actor: &Actor, spec: &mut Map<String, Value>) -> Result<(), DesiredError> {
    if actor.spec.workload.effective_kind() != WorkloadKind::Job {
        return Ok(());
    }
    match spec.get("restartPolicy").and_then(Value::as_str) {
        Some("Always") => Err(refused(
            "spec.workload.template.spec.restartPolicy",
            "\"Always\" is not for Jobs; remove it, or choose \"OnFailure\" or \"Never\"",
        )),
        Some(_) => Ok(()),
        None => {
            spec.insert("restartPolicy".into(), "OnFailure".into());
            Ok(())
        }
    }
}
