//! The Deployment of an actor (contract operator §7.1).

use std::collections::BTreeMap;

use serde_json::json;

use super::{DesiredError, Inputs, Kind, Object, metadata, pod, replicas, selector};

/// `<actor>`, without whatever the actor leaves to the API server.
pub(super) fn object(inputs: &Inputs<'_>) -> Result<Object, DesiredError> {
    let labels = selector::labels(inputs);
    let mut spec = json!({
        "selector": { "matchLabels": labels },
        "template": pod::template(inputs, &labels)?,
    });
    if let Some(strategy) = &inputs.actor.spec.workload.strategy {
        spec["strategy"] = strategy.clone();
    }
    if let Some(replicas) = replicas::written(inputs) {
        spec["replicas"] = replicas.into();
    }
    let name = inputs.actor.name.clone();
    Ok(metadata::owned(
        inputs.actor,
        Kind::Deployment,
        name,
        BTreeMap::new(),
        json!({ "spec": spec }),
    ))
}
