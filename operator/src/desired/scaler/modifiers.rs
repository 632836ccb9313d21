//! `scalingModifiers`: a formula over the queue's length (contract operator §9.1), checked as KEDA's admission does.

use asya_manifest::{AdvancedScaling, MetricType};
use serde_json::{Map, Value, json};

use super::{formula, trigger};
use crate::desired::{DesiredError, Inputs};

/// `spec.advanced.scalingModifiers` with the keys that the actor gives; `None` if it gives none.
///
/// # Errors
/// If KEDA would refuse it.
pub(super) fn modifiers(inputs: &Inputs<'_>) -> Result<Option<Value>, DesiredError> {
    let Some(advanced) = &inputs.actor.spec.scaling.advanced else {
        return Ok(None);
    };
    let mut modifiers = Map::new();
    let texts = [
        ("formula", &advanced.formula),
        ("target", &advanced.target),
        ("activationTarget", &advanced.activation_target),
    ];
    for (key, value) in texts {
        if let Some(value) = given(value.as_ref()) {
            modifiers.insert(key.to_owned(), value.into());
        }
    }
    if let Some(metric_type) = advanced.metric_type {
        modifiers.insert("metricType".to_owned(), json!(metric_type));
    }
    if modifiers.is_empty() {
        return Ok(None);
    }
    check(advanced)?;
    Ok(Some(modifiers.into()))
}

fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.trim().is_empty())
}

fn check(advanced: &AdvancedScaling) -> Result<(), DesiredError> {
    let refused = |field, message: String| Err(DesiredError::Scaling { field, message });
    let Some(formula) = given(advanced.formula.as_ref()) else {
        return refused(
            "advanced.formula",
            format!(
                "is missing; write one over `{}`, or remove spec.scaling.advanced",
                trigger::NAME
            ),
        );
    };
    if let Some(unknown) = formula::unknown_name(formula, trigger::NAME) {
        let name = trigger::NAME;
        return refused(
            "advanced.formula",
            format!("refers to `{unknown}`; the only trigger is called `{name}`"),
        );
    }
    let Some(target) = given(advanced.target.as_ref()) else {
        return refused(
            "advanced.target",
            "is missing; a formula needs one, such as \"5\"".to_owned(),
        );
    };
    if !number(target).is_some_and(|number| number > 0.0) {
        return refused(
            "advanced.target",
            format!("is {target:?}; write a number above 0"),
        );
    }
    if let Some(activation) = given(advanced.activation_target.as_ref())
        && number(activation).is_none()
    {
        return refused(
            "advanced.activationTarget",
            format!("is {activation:?}; write a number"),
        );
    }
    if advanced.metric_type == Some(MetricType::Utilization) {
        let message = "is Utilization, which no queue has; write AverageValue or Value".to_owned();
        return refused("advanced.metricType", message);
    }
    Ok(())
}

fn number(text: &str) -> Option<f64> {
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite())
}
