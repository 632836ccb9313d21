//! `scalingModifiers`: a formula over the queue's length (contract operator §9.1), checked as KEDA would check it.

use serde_json::Value;

use crate::desired::{DesiredError, Inputs};

/// `spec.advanced.scalingModifiers` with the keys that the actor gives; `None` if it gives none.
///
/// # Errors
/// If KEDA would refuse it.
pub(super) fn modifiers(inputs: &Inputs<'_>) -> Result<Option<Value>, DesiredError> {
    let Some(advanced) = &inputs.actor.spec.scaling.advanced else {
        return Ok(None);
    };
    let mut modifiers = serde_json::Map::new();
    let texts = [
        ("formula", &advanced.formula),
        ("target", &advanced.target),
        ("activationTarget", &advanced.activation_target),
    ];
    for (key, value) in texts {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            modifiers.insert(key.to_owned(), value.clone().into());
        }
    }
    if let Some(metric_type) = advanced.metric_type {
        modifiers.insert("metricType".to_owned(), serde_json::json!(metric_type));
    }
    Ok((!modifiers.is_empty()).then(|| modifiers.into()))
}
