//! The Job of an actor whose scaling is off (contract operator §7.3).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DesiredError, Inputs, Kind, Object, metadata, pod, selector};

/// How often pods of a Job may fail before the Job does.
pub(super) const BACKOFF_LIMIT: u32 = 6;
/// Annotation of Jobs: the hash of their template, which cannot be changed. Another hash means another Job.
const TEMPLATE_HASH: &str = "asya.sh/template-hash";

/// `<actor>`: as many pods as replicas, each of which works until the queue is empty.
pub(super) fn object(inputs: &Inputs<'_>) -> Result<Object, DesiredError> {
    let template = template(inputs)?;
    let annotations = BTreeMap::from([(TEMPLATE_HASH, selector::template_hash(&template))]);
    let spec = json!({
        "parallelism": inputs.actor.spec.workload.replicas,
        "backoffLimit": BACKOFF_LIMIT,
        "template": template,
    });
    Ok(metadata::owned(inputs.actor, Kind::Job, inputs.actor.name.clone(), annotations, json!({ "spec": spec })))
}

/// The pod template with a restart policy that Jobs may have.
pub(super) fn template(inputs: &Inputs<'_>) -> Result<Value, DesiredError> {
    let mut template = pod::template(inputs, &selector::labels(inputs))?;
    let policy = template.pointer("/spec/restartPolicy").and_then(Value::as_str);
    match policy {
        Some("OnFailure" | "Never") => {}
        None | Some("") => template["spec"]["restartPolicy"] = "OnFailure".into(),
        Some(other) => {
            return Err(DesiredError::Template {
                path: "spec.workload.template.spec.restartPolicy".to_owned(),
                message: format!("{other:?} is not possible for a Job; write OnFailure or Never, or leave it out"),
            });
        }
    }
    Ok(template)
}
