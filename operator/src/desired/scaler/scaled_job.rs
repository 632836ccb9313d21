//! The `ScaledJob` of an actor whose pods end (contract operator §7.3): one pod for each message.

use serde_json::json;

use super::trigger::Trigger;
use super::{authentication, scaled_object};
use crate::desired::{DesiredError, Inputs, Kind, Object, job, metadata, pod, selector};

/// `<actor>`. A changed template leaves running jobs to finish: KEDA would otherwise delete them.
pub(super) fn object(inputs: &Inputs<'_>, trigger: &Trigger) -> Result<Object, DesiredError> {
    let actor = inputs.actor;
    let scaling = &actor.spec.scaling;
    job::check(inputs)?;
    check(inputs)?;
    let spec = json!({
        "jobTargetRef": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": job::BACKOFF_LIMIT,
            "template": pod::template(inputs, &selector::labels(inputs))?,
        },
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "pollingInterval": scaled_object::polling(inputs),
        "rollout": { "strategy": "gradual" },
        "scalingStrategy": { "strategy": "accurate" },
        "triggers": [trigger.body(&authentication::name(inputs))],
    });
    let annotations = scaled_object::source_generation(inputs);
    Ok(metadata::owned(
        actor,
        Kind::ScaledJob,
        actor.name.clone(),
        annotations,
        json!({ "spec": spec }),
    ))
}

/// A `ScaledJob` has no autoscaler behind it that could follow a formula or a behaviour.
fn check(inputs: &Inputs<'_>) -> Result<(), DesiredError> {
    let scaling = &inputs.actor.spec.scaling;
    let given = [
        ("advanced", scaling.advanced.is_some()),
        ("behavior", scaling.behavior.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((field, _)) => Err(DesiredError::Scaling {
            field,
            message: "is not possible for a Job, which KEDA starts for each message; remove it".to_owned(),
        }),
    }
}
