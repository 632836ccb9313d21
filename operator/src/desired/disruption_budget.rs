//! The `PodDisruptionBudget` of workloads that may have more than one pod (contract operator §7.1).

use std::collections::BTreeMap;

use asya_manifest::WorkloadKind;
use serde_json::json;

use super::{Inputs, Kind, Object, metadata, selector};

/// From this version on a pod that is not ready may be evicted whatever the budget says.
const UNHEALTHY_POD_POLICY_SINCE: u32 = 27;

/// `<actor>`: at most one pod at a time goes because a node is drained. `None` where there is at most one pod, for
/// Jobs, and where it is switched off.
pub(super) fn object(inputs: &Inputs<'_>) -> Option<Object> {
    let spec = &inputs.actor.spec;
    let most = if spec.scaling.enabled {
        spec.scaling.max_replicas
    } else {
        spec.workload.replicas
    };
    let is_wanted = spec
        .workload
        .disruption_budget
        .unwrap_or(inputs.defaults.disruption_budgets);
    if !is_wanted || most <= 1 || spec.workload.effective_kind() == WorkloadKind::Job {
        return None;
    }
    let mut budget = json!({
        "maxUnavailable": 1,
        "selector": { "matchLabels": selector::labels(inputs) },
    });
    if inputs.facts.server_minor >= UNHEALTHY_POD_POLICY_SINCE {
        budget["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
    }
    let name = inputs.actor.name.clone();
    Some(metadata::owned(
        inputs.actor,
        Kind::PodDisruptionBudget,
        name,
        BTreeMap::new(),
        json!({ "spec": budget }),
    ))
}
