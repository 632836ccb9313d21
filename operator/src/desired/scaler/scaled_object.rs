//! The `ScaledObject` of a Deployment or `StatefulSet` (contract operator §9.1).

use std::collections::BTreeMap;

use asya_manifest::WorkloadKind;
use serde_json::{Value, json};

use super::trigger::Trigger;
use super::{authentication, behavior, modifiers};
use crate::desired::{DesiredError, Inputs, Kind, Object, hash, metadata};

/// Annotation with the generation that the object was written for.
const SOURCE_GENERATION: &str = "asya.sh/source-generation";
/// Seconds between two looks at the queue if the actor says 0.
const DEFAULT_POLLING: u32 = 10;
/// Seconds of quiet before scaling to zero if the actor says 0.
const DEFAULT_COOLDOWN: u32 = 300;

/// `<actor>`.
pub(super) fn object(inputs: &Inputs<'_>, trigger: &Trigger) -> Result<Object, DesiredError> {
    let actor = inputs.actor;
    let scaling = &actor.spec.scaling;
    let cooldown = if scaling.cooldown_period == 0 {
        DEFAULT_COOLDOWN
    } else {
        scaling.cooldown_period
    };
    let spec = json!({
        "scaleTargetRef": target(inputs),
        "minReplicaCount": scaling.min_replicas,
        "maxReplicaCount": scaling.max_replicas,
        "pollingInterval": polling(inputs),
        "cooldownPeriod": cooldown,
        "triggers": [trigger.body(&authentication::name(inputs))],
        "advanced": advanced(inputs)?,
    });
    let annotations = source_generation(inputs);
    Ok(metadata::owned(
        actor,
        Kind::ScaledObject,
        actor.name.clone(),
        annotations,
        json!({ "spec": spec }),
    ))
}

pub(super) fn source_generation(inputs: &Inputs<'_>) -> BTreeMap<&'static str, String> {
    BTreeMap::from([(SOURCE_GENERATION, inputs.actor.generation.to_string())])
}

pub(super) fn polling(inputs: &Inputs<'_>) -> u32 {
    match inputs.actor.spec.scaling.polling_interval {
        0 => DEFAULT_POLLING,
        seconds => seconds,
    }
}

/// A Deployment goes unnamed, as it always did: it is what KEDA assumes.
fn target(inputs: &Inputs<'_>) -> Value {
    let name = &inputs.actor.name;
    match inputs.actor.spec.workload.effective_kind() {
        WorkloadKind::StatefulSet => json!({ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name }),
        WorkloadKind::Deployment | WorkloadKind::Job => json!({ "name": name }),
    }
}

fn advanced(inputs: &Inputs<'_>) -> Result<Value, DesiredError> {
    let mut autoscaler = json!({ "behavior": behavior::behavior(inputs) });
    if let Some(name) = autoscaler_name(&inputs.actor.name) {
        autoscaler["name"] = name.into();
    }
    let mut advanced = json!({ "horizontalPodAutoscalerConfig": autoscaler });
    let given = inputs.actor.spec.scaling.advanced.as_ref();
    if let Some(restore) = given.and_then(|given| given.restore_to_original_replica_count) {
        advanced["restoreToOriginalReplicaCount"] = restore.into();
    }
    if let Some(modifiers) = modifiers::modifiers(inputs)? {
        advanced["scalingModifiers"] = modifiers;
    }
    Ok(advanced)
}

/// A name for KEDA's autoscaler where the one that KEDA would choose, `keda-hpa-<actor>`, is too long for it.
fn autoscaler_name(actor: &str) -> Option<String> {
    const LONGEST: usize = 63;
    let name = format!("keda-hpa-{actor}");
    (name.len() > LONGEST).then(|| {
        let hash = hash::short(name.as_bytes());
        let kept = LONGEST - hash.len() - 1;
        let kept: String = name.chars().take(kept).collect();
        format!("{}-{hash}", kept.trim_end_matches(['-', '.']))
    })
}
