//! Whose a live object is. Pure.

use serde_json::Value;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ownership {
    /// Its controller is this actor.
    Ours,
    /// Its controller was an actor of the same name that is gone.
    Abandoned,
    /// Somebody else's; the text says whose.
    Foreign(String),
}

/// Whose `object` is, seen from the actor of this name and uid.
pub(super) fn ownership(actor: &str, uid: &str, object: &Value) -> Ownership {
    let references = object
        .pointer("/metadata/ownerReferences")
        .and_then(Value::as_array);
    let text = |reference: &Value, key: &str| reference[key].as_str().unwrap_or_default().to_owned();
    let controller = references
        .into_iter()
        .flatten()
        .find(|reference| reference["controller"] == true);
    let Some(controller) = controller else {
        return Ownership::Foreign("it has no controller".to_owned());
    };
    if text(controller, "uid") == uid {
        return Ownership::Ours;
    }
    let (kind, name) = (text(controller, "kind"), text(controller, "name"));
    let is_actor = kind == asya_manifest::KIND && text(controller, "apiVersion").starts_with("asya.sh/");
    if is_actor && name == actor {
        return Ownership::Abandoned;
    }
    Ownership::Foreign(format!("it belongs to {kind} {name:?}"))
}
