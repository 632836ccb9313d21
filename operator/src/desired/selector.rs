//! How a workload finds its pods (contract operator §6.6).

use std::collections::BTreeMap;

use asya_manifest::WorkloadKind;
use serde_json::Value;

use super::Inputs;
use crate::resource::ACTOR_LABEL;

/// Label with the kind of workload.
const WORKLOAD_LABEL: &str = "asya.sh/workload";

/// Labels of the selector, which are also labels of the pods.
///
/// An existing workload keeps the selector that it has, whatever it is: the API server refuses any other. A new one
/// leaves `app` out if the actor gives its pods an `app` of its own.
pub(super) fn labels(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let actor = inputs.actor;
    let kind = actor.spec.workload.effective_kind();
    if let (Some(existing), true) = (&inputs.facts.selector, has_selector(kind)) {
        return existing.clone();
    }
    let mut labels = BTreeMap::from([
        (ACTOR_LABEL.to_owned(), actor.name.clone()),
        (WORKLOAD_LABEL.to_owned(), label_value(kind).to_owned()),
    ]);
    let own_app = actor.spec.workload.template.metadata.pointer("/labels/app");
    if own_app
        .and_then(Value::as_str)
        .is_none_or(|app| app == actor.name)
    {
        labels.insert("app".to_owned(), actor.name.clone());
    }
    labels
}

/// Selectors of Jobs are made by the API server.
fn has_selector(kind: WorkloadKind) -> bool {
    kind != WorkloadKind::Job
}

fn label_value(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => "deployment",
        WorkloadKind::StatefulSet => "statefulset",
        WorkloadKind::Job => "job",
    }
}
