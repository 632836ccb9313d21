//! The StatefulSet of an actor and its headless Service (contract operator §7.2).

use std::collections::BTreeMap;

use serde_json::json;

use super::{DesiredError, Inputs, Kind, Object, metadata, pod, replicas, selector};

/// `<actor>`; its pods start and stop in any order, and their volumes outlive it.
pub(super) fn object(inputs: &Inputs<'_>) -> Result<Object, DesiredError> {
    let labels = selector::labels(inputs);
    let workload = &inputs.actor.spec.workload;
    let mut spec = json!({
        "selector": { "matchLabels": labels },
        "serviceName": service_name(inputs),
        "podManagementPolicy": "Parallel",
        "template": pod::template(inputs, &labels)?,
    });
    if let Some(claims) = &workload.volume_claim_templates {
        spec["volumeClaimTemplates"] = claims.clone().into();
    }
    if let Some(replicas) = replicas::written(inputs) {
        spec["replicas"] = replicas.into();
    }
    let name = inputs.actor.name.clone();
    Ok(metadata::owned(inputs.actor, Kind::StatefulSet, name, BTreeMap::new(), json!({ "spec": spec })))
}

fn service_name<'a>(inputs: &Inputs<'a>) -> &'a str {
    let actor = inputs.actor;
    actor.spec.workload.service_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(&actor.name)
}

/// The headless Service that gives the pods their names.
pub(super) fn service(inputs: &Inputs<'_>) -> Object {
    let spec = json!({
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": selector::labels(inputs),
    });
    let name = service_name(inputs).to_owned();
    metadata::owned(inputs.actor, Kind::Service, name, BTreeMap::new(), json!({ "spec": spec }))
}
