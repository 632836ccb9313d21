//! The Deployment of an actor (contract operator §7.1).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DesiredError, Inputs, Kind, Object, metadata, pod, replicas, selector};

/// `<actor>`, without whatever the actor leaves to the API server.
pub(super) fn object(inputs: &Inputs<'_>) -> Result<Object, DesiredError> {
    let labels = selector::labels(inputs);
    let mut spec = json!({
        "selector": { "matchLabels": labels },
        "template": pod::template(inputs, &labels)?,
    });
    if let Some(strategy) = &inputs.actor.spec.workload.strategy {
        spec["strategy"] = whole_strategy(strategy);
    }
    if let Some(replicas) = replicas::written(inputs) {
        spec["replicas"] = replicas.into();
    }
    let name = inputs.actor.name.clone();
    Ok(metadata::owned(inputs.actor, Kind::Deployment, name, BTreeMap::new(), json!({ "spec": spec })))
}

/// The strategy as it is given; without `rollingUpdate` it is also told that there is none. The API server has put its
/// own default there, which would stay and be refused beside any other type.
pub(super) fn whole_strategy(strategy: &Value) -> Value {
    let mut strategy = strategy.clone();
    let rolls = strategy.get("type").is_none_or(|kind| kind == "RollingUpdate");
    if let (false, Some(members)) = (rolls, strategy.as_object_mut()) {
        members.entry("rollingUpdate").or_insert(Value::Null);
    }
    strategy
}
