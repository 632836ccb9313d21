//! The ScaledJob of an actor whose pods end (contract operator §7.3): one pod for each message.

use serde_json::json;

use super::trigger::Trigger;
use super::{authentication, scaled_object};
use crate::desired::{DesiredError, Inputs, Kind, Object, job, metadata};

/// `<actor>`. A changed template leaves running jobs to finish: KEDA would otherwise delete them.
pub(super) fn object(inputs: &Inputs<'_>, trigger: &Trigger) -> Result<Object, DesiredError> {
    let actor = inputs.actor;
    let scaling = &actor.spec.scaling;
    let spec = json!({
        "jobTargetRef": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": job::BACKOFF_LIMIT,
            "template": job::template(inputs)?,
        },
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "pollingInterval": scaled_object::polling(inputs),
        "rollout": { "strategy": "gradual" },
        "scalingStrategy": { "strategy": "accurate" },
        "triggers": [trigger.body(&authentication::name(inputs))],
    });
    let annotations = scaled_object::source_generation(inputs);
    Ok(metadata::owned(actor, Kind::ScaledJob, actor.name.clone(), annotations, json!({ "spec": spec })))
}
