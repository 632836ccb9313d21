//! Labels and annotations of the pods (contract operator §6.6).

use std::collections::BTreeMap;

use asya_manifest::{GROUP, RuntimeKind};
use serde_json::{Map, Value};

use super::object;
use crate::desired::{DesiredError, Inputs};

/// Who made the pods, unless the user's template says otherwise.
const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "asya-operator");

/// The user's metadata with our labels and annotations in it.
pub(super) fn of(
    inputs: &Inputs<'_>,
    mut metadata: Map<String, Value>,
    selector: &BTreeMap<String, String>,
) -> Result<Map<String, Value>, DesiredError> {
    let mut labels = part(&metadata, "labels")?;
    labels.entry(MANAGED_BY.0).or_insert_with(|| MANAGED_BY.1.into());
    labels
        .entry("app")
        .or_insert_with(|| inputs.actor.name.clone().into());
    labels.insert(format!("{GROUP}/actor"), inputs.actor.name.clone().into());
    // A pod that the selector does not find is refused with its workload, so these hold.
    labels.extend(
        selector
            .iter()
            .map(|(key, value)| (key.clone(), value.clone().into())),
    );
    metadata.insert("labels".into(), labels.into());
    if inputs.actor.spec.workload.runtime == RuntimeKind::Python {
        let mut annotations = part(&metadata, "annotations")?;
        // A script that is mounted by its path never changes in a pod that runs: another script is another template.
        annotations.insert(
            format!("{GROUP}/runtime-hash"),
            inputs.defaults.script.hash.clone().into(),
        );
        metadata.insert("annotations".into(), annotations.into());
    }
    Ok(metadata)
}

fn part(metadata: &Map<String, Value>, key: &str) -> Result<Map<String, Value>, DesiredError> {
    let value = metadata.get(key).unwrap_or(&Value::Null);
    object(value, &format!("spec.workload.template.metadata.{key}"))
}
