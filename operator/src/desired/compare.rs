//! Whether an object in the cluster holds everything that it should: how drift is seen without writing.
//!
//! What it is: the question "would applying this change anything that another hand has changed?", answered without the
//! API server. What the desired object does not mention is nobody's drift: defaults of the API server, `status`, and
//! what others add to maps and keyed lists, all of which server-side apply leaves alone too. What it is not: a memory
//! of fields that we wrote once and no longer want; whoever compares remembers what was applied last.

mod quantity;

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The first place in which `live` does not hold what `desired` says, e.g.
/// `spec.template.spec.containers[asya-sidecar].image`; `None` if it holds everything.
///
/// Spellings of one meaning are equal: quantities by value, an empty list, map or text, 0 and `false` like a field that
/// is not there (that is how the API server stores them), an explicit `null` like no opinion. Elements of lists with
/// merge keys are found by them, in any order; other lists are compared element by element.
pub fn contains(live: &Value, desired: &Value) -> Option<String> {
    let (Some(live), Some(desired)) = (live.as_object(), desired.as_object()) else {
        return (live != desired).then(String::new);
    };
    // Objects out of a list do not say what they are.
    let mut members = desired
        .iter()
        .filter(|(key, _)| *key != "apiVersion" && *key != "kind");
    members.find_map(|(key, value)| member(live, key, value, Place::Other))
}

/// What the parent says about a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Members of this map are quantities by resource name.
    Quantities,
    Other,
}

fn member(live: &Map<String, Value>, key: &str, desired: &Value, place: Place) -> Option<String> {
    let found = live.get(key).unwrap_or(&Value::Null);
    let rest = if place == Place::Quantities || is_quantity(key) {
        (!same_quantity(found, desired)).then(String::new)
    } else {
        value(found, key, desired)
    };
    rest.map(|rest| join(key, &rest))
}

fn value(live: &Value, key: &str, desired: &Value) -> Option<String> {
    let differs = |differs: bool| differs.then(String::new);
    match (live, desired) {
        (_, Value::Null) => None,
        (Value::Null, desired) => differs(!is_empty(desired)),
        (Value::Object(live), Value::Object(desired)) => object(live, key, desired),
        (Value::Array(live), Value::Array(desired)) => list(live, key, desired),
        (Value::Number(live), Value::Number(desired)) => differs(live.as_f64() != desired.as_f64()),
        (live, desired) => differs(live != desired),
    }
}

/// Whether the API server keeps nothing of it. In a struct of Go that is what `omitempty` drops.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

fn object(live: &Map<String, Value>, key: &str, desired: &Map<String, Value>) -> Option<String> {
    let place = match key {
        "limits" | "requests" | "overhead" => Place::Quantities,
        _ => Place::Other,
    };
    if is_whole(key, desired)
        && let Some(extra) = live.keys().find(|key| !desired.contains_key(*key))
    {
        return Some(extra.clone());
    }
    desired
        .iter()
        .find_map(|(key, value)| member(live, key, value, place))
}

/// Maps that belong to one writer as a whole, so that an additional member is drift.
fn is_whole(key: &str, desired: &Map<String, Value>) -> bool {
    match key {
        "matchLabels" | "nodeSelector" => true,
        // That of a Service holds labels, others hold `matchLabels`.
        "selector" => desired.values().all(Value::is_string),
        _ => false,
    }
}

fn list(live: &[Value], key: &str, desired: &[Value]) -> Option<String> {
    let is_keyed = !desired.is_empty() && desired.iter().all(|item| merge_key(key, item).is_some());
    if is_keyed {
        return desired.iter().find_map(|item| {
            let wanted = merge_key(key, item)?;
            match live
                .iter()
                .find(|other| merge_key(key, other).as_ref() == Some(&wanted))
            {
                Some(found) => value(found, key, item).map(|rest| join(&format!("[{wanted}]"), &rest)),
                None => Some(format!("[{wanted}]")),
            }
        });
    }
    if desired.is_empty() && is_mergeable(key) {
        return None;
    }
    if live.len() != desired.len() {
        return Some(String::new());
    }
    let mut pairs = live.iter().zip(desired).enumerate();
    pairs.find_map(|(index, (live, desired))| {
        value(live, key, desired).map(|rest| join(&format!("[{index}]"), &rest))
    })
}

/// Fields that make up an element's identity, of the lists that Kubernetes merges.
const MERGE_KEYS: [(&str, &[&str]); 14] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("ephemeralContainers", &["name"]),
    ("env", &["name"]),
    ("volumes", &["name"]),
    ("volumeMounts", &["mountPath"]),
    ("volumeDevices", &["devicePath"]),
    ("imagePullSecrets", &["name"]),
    ("hostAliases", &["ip"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("resourceClaims", &["name"]),
    ("claims", &["name"]),
    ("schedulingGates", &["name"]),
    ("ownerReferences", &["uid"]),
];

fn is_mergeable(key: &str) -> bool {
    key == "ports" || MERGE_KEYS.iter().any(|(list, _)| *list == key)
}

/// The identity of an element of the list `key`; `None` if the list has no keys or the element lacks one.
fn merge_key<'a>(key: &str, item: &'a Value) -> Option<Cow<'a, str>> {
    if key == "ports" {
        let port = item.get("containerPort").or_else(|| item.get("port"))?;
        let protocol = item.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        return Some(format!("{port}/{protocol}").into());
    }
    let (_, fields) = MERGE_KEYS.iter().find(|(list, _)| *list == key)?;
    let mut parts = fields.iter().map(|field| item.get(field).and_then(Value::as_str));
    let first = parts.next()??;
    let mut whole = Cow::from(first);
    for part in parts {
        whole.to_mut().push(',');
        whole.to_mut().push_str(part?);
    }
    Some(whole)
}

/// Single fields that are quantities.
fn is_quantity(key: &str) -> bool {
    matches!(key, "sizeLimit" | "divisor")
}

fn same_quantity(live: &Value, desired: &Value) -> bool {
    let amount = |value: &Value| match value {
        Value::String(text) => quantity::nanos(text),
        Value::Number(number) => quantity::nanos(&number.to_string()),
        _ => None,
    };
    match (live, desired) {
        (_, Value::Null) => true,
        // The API server writes the zero of a divisor that is not given, and any other.
        (Value::Null, desired) => is_empty(desired) || amount(desired) == Some(0),
        (live, desired) => live == desired || amount(live).is_some_and(|live| Some(live) == amount(desired)),
    }
}

fn join(first: &str, rest: &str) -> String {
    if rest.is_empty() || rest.starts_with('[') {
        format!("{first}{rest}")
    } else {
        format!("{first}.{rest}")
    }
}

#[cfg(test)]
mod tests;
