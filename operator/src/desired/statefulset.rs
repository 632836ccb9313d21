//! The `StatefulSet` of an actor and its headless Service (contract operator §7.2).

use std::collections::BTreeMap;

use serde_json::json;

use super::{DesiredError, Inputs, Kind, Object, metadata, pod, replicas, selector};

/// Longest name of a `StatefulSet` whose pods can be made: `<name>-<10 digits of a revision>` is a label value.
const LONGEST_NAME: usize = 52;

/// `<actor>`; its pods start and stop in any order. Its volumes outlive it, which is the API server's default.
pub(super) fn object(inputs: &Inputs<'_>) -> Result<Object, DesiredError> {
    let actor = inputs.actor;
    if actor.name.len() > LONGEST_NAME {
        return Err(DesiredError::Name {
            name: actor.name.clone(),
            message: format!(
                "a StatefulSet's name has at most {LONGEST_NAME} characters; choose a shorter name or another kind"
            ),
        });
    }
    let labels = selector::labels(inputs);
    let workload = &actor.spec.workload;
    let mut spec = json!({
        "selector": { "matchLabels": labels },
        "serviceName": service_name(inputs)?,
        "podManagementPolicy": "Parallel",
        "template": pod::template(inputs, &labels)?,
    });
    if let Some(claims) = &workload.volume_claim_templates {
        spec["volumeClaimTemplates"] = claims.clone().into();
    }
    if let Some(strategy) = &workload.strategy {
        spec["updateStrategy"] = strategy.clone();
    }
    if let Some(replicas) = replicas::written(inputs) {
        spec["replicas"] = replicas.into();
    }
    Ok(metadata::owned(
        actor,
        Kind::StatefulSet,
        actor.name.clone(),
        BTreeMap::new(),
        json!({ "spec": spec }),
    ))
}

/// The name of the Service, which has to be a DNS label that begins with a letter.
fn service_name<'a>(inputs: &Inputs<'a>) -> Result<&'a str, DesiredError> {
    let actor = inputs.actor;
    let given = actor
        .spec
        .workload
        .service_name
        .as_deref()
        .filter(|name| !name.is_empty());
    let name = given.unwrap_or(&actor.name);
    let is_label = name.len() <= 63
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.ends_with(|last: char| last.is_ascii_lowercase() || last.is_ascii_digit())
        && name
            .chars()
            .all(|each| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '-');
    if is_label {
        return Ok(name);
    }
    Err(DesiredError::Name {
        name: name.to_owned(),
        message: "a Service's name begins with a letter and has lower-case letters, digits and dashes, at most 63; \
                  write such a one into spec.workload.serviceName"
            .to_owned(),
    })
}

/// The headless Service that gives the pods their names; `None` if there is no name for it, which is the error of
/// [`object`].
///
/// A Service that somebody else has made under the name given in `serviceName` is a conflict for the controller to see.
pub(super) fn service(inputs: &Inputs<'_>) -> Option<Object> {
    let name = service_name(inputs).ok()?.to_owned();
    let spec = json!({
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": selector::labels(inputs),
    });
    Some(metadata::owned(
        inputs.actor,
        Kind::Service,
        name,
        BTreeMap::new(),
        json!({ "spec": spec }),
    ))
}
