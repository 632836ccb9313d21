//! How the pods of a workload are replaced: `spec.strategy` of a Deployment, `spec.updateStrategy` of a `StatefulSet`.

use serde_json::{Value, json};

/// The field manager of changes to another type of strategy.
///
/// The API server gives `rollingUpdate` its own values, which belong to nobody, so that server-side apply can never
/// take them away; and it refuses them beside any other type. So the type is changed by a merge patch of this manager,
/// and only then applied.
pub const STRATEGY_MANAGER: &str = "asya-operator-strategy";

/// What to send as a merge patch by [`STRATEGY_MANAGER`] before `desired` is applied to `live`, if anything. Also takes
/// back what this manager has set once the actor says nothing about a strategy any more, for which `live` needs its
/// `managedFields`.
pub fn strategy_change(live: &Value, desired: &Value) -> Option<Value> {
    let field = match desired.get("kind").and_then(Value::as_str)? {
        "Deployment" => "strategy",
        "StatefulSet" => "updateStrategy",
        _ => return None,
    };
    let kind = |object: &Value| {
        object
            .get("spec")?
            .get(field)?
            .get("type")?
            .as_str()
            .map(str::to_owned)
    };
    let live_kind = kind(live)?;
    let change = match (
        desired.get("spec").and_then(|spec| spec.get(field)),
        kind(desired),
    ) {
        (Some(_), Some(wanted)) if wanted != live_kind && wanted != DEFAULT => {
            json!({ "type": wanted, "rollingUpdate": null })
        }
        // Without a type it is the default one.
        (Some(_), wanted) if live_kind != wanted.as_deref().unwrap_or(DEFAULT) => Value::Null,
        (None, _) if live_kind != DEFAULT && is_set_by_us(live, field) => Value::Null,
        _ => return None,
    };
    Some(json!({ "spec": { field: change } }))
}

/// The type that the API server gives to a workload that has none.
const DEFAULT: &str = "RollingUpdate";

fn is_set_by_us(live: &Value, field: &str) -> bool {
    let managers = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let owned = format!("/fieldsV1/f:spec/f:{field}/f:type");
    let mut ours = managers
        .into_iter()
        .flatten()
        .filter(|manager| manager["manager"] == STRATEGY_MANAGER);
    ours.any(|manager| manager.pointer(&owned).is_some())
}
