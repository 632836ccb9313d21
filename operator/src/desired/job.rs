//! The Job of an actor whose scaling is off (contract operator §7.3).

use std::collections::BTreeMap;

use serde_json::json;

use super::{DesiredError, Inputs, Kind, Object, hash, metadata, pod, selector};

/// How often pods of a Job may fail before the Job does.
pub(super) const BACKOFF_LIMIT: u32 = 6;
/// Annotation of Jobs: the hash of their template, which cannot be changed. Another hash means another Job.
pub const TEMPLATE_HASH: &str = "asya.sh/template-hash";

/// `<actor>`: as many pods as replicas, each of which works until the queue is empty.
pub(super) fn object(inputs: &Inputs<'_>) -> Result<Object, DesiredError> {
    check(inputs)?;
    // Objects print with sorted keys, so equal templates have equal texts.
    let template = pod::template(inputs, &selector::labels(inputs))?;
    let annotations = BTreeMap::from([(TEMPLATE_HASH, hash::short(template.to_string().as_bytes()))]);
    let spec = json!({
        "parallelism": inputs.actor.spec.workload.replicas,
        "backoffLimit": BACKOFF_LIMIT,
        "template": template,
    });
    Ok(metadata::owned(
        inputs.actor,
        Kind::Job,
        inputs.actor.name.clone(),
        annotations,
        json!({ "spec": spec }),
    ))
}

/// Refuses what a Job cannot do, rather than leaving it out.
pub(super) fn check(inputs: &Inputs<'_>) -> Result<(), DesiredError> {
    let workload = &inputs.actor.spec.workload;
    let given = [
        ("strategy", workload.strategy.is_some()),
        ("volumeClaimTemplates", workload.volume_claim_templates.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((field, _)) => Err(DesiredError::Template {
            path: format!("spec.workload.{field}"),
            message: "a Job has none; remove it, or choose another spec.workload.kind".to_owned(),
        }),
    }
}
