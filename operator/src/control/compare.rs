//! Whether a live object still is what was applied: fingerprints, and the part of a live object that a body speaks of.
//!
//! Pure. What it is not: a diff for people, and not a merge.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// First 16 hexadecimal digits of the SHA-256 of a value with sorted keys.
pub(super) fn fingerprint(value: &Value) -> String {
    let digest = Sha256::digest(value.to_string().as_bytes());
    digest.iter().take(8).fold(String::with_capacity(16), |mut text, byte| {
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What `live` says about exactly the fields that `body` names. Elements of a list of objects are found by `name`,
/// `uid`, `type` or `key`, as server-side apply finds them, so that what others added to the list does not matter.
pub(super) fn projection(body: &Value, live: &Value) -> Value {
    match (body, live) {
        (Value::Object(wanted), Value::Object(found)) => {
            let members = wanted.iter().map(|(key, value)| {
                let seen = found.get(key).map_or(Value::Null, |live| projection(value, live));
                (key.clone(), seen)
            });
            Value::Object(members.collect::<Map<_, _>>())
        }
        (Value::Array(wanted), Value::Array(found)) => project_list(wanted, found),
        _ => live.clone(),
    }
}

fn project_list(wanted: &[Value], found: &[Value]) -> Value {
    let Some(key) = merge_key(wanted) else {
        if wanted.len() != found.len() {
            return Value::Array(found.to_vec());
        }
        return wanted.iter().zip(found).map(|(body, live)| projection(body, live)).collect();
    };
    let matching = |body: &Value| found.iter().find(|live| live.get(key) == body.get(key));
    wanted
        .iter()
        .map(|body| matching(body).map_or(Value::Null, |live| projection(body, live)))
        .collect()
}

/// The member that tells the objects of a list apart, if all of them have it and no two share its value.
fn merge_key(list: &[Value]) -> Option<&'static str> {
    ["name", "uid", "mountPath", "type", "key"].into_iter().find(|key| {
        let mut values: Vec<&str> = Vec::with_capacity(list.len());
        for element in list {
            match element.get(key).and_then(Value::as_str) {
                Some(value) if !values.contains(&value) => values.push(value),
                _ => return false,
            }
        }
        !list.is_empty()
    })
}

/// Whether everything that `body` says holds in `live`. Empty values count as absent: the API server drops many of
/// them. `false` may also mean that the server writes a value in another way (`1000m` as `1`).
pub(super) fn holds_in(body: &Value, live: &Value) -> bool {
    agrees(body, &projection(body, live))
}

fn agrees(body: &Value, seen: &Value) -> bool {
    match (body, seen) {
        (Value::Object(wanted), Value::Object(found)) => wanted
            .iter()
            .all(|(key, value)| agrees(value, found.get(key).unwrap_or(&Value::Null))),
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len() && wanted.iter().zip(found).all(|(body, seen)| agrees(body, seen))
        }
        (body, Value::Null) => is_empty(body),
        (Value::Number(wanted), Value::Number(found)) => wanted.as_f64() == found.as_f64(),
        _ => body == seen,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{fingerprint, holds_in, projection};

    #[test]
    fn defaults_and_additions_of_others_do_not_matter() {
        let body = json!({"spec": {"containers": [{"name": "b", "env": [{"name": "X", "value": "1"}]}], "paused": false}});
        let live = json!({"spec": {"restartPolicy": "Always", "containers": [
            {"name": "injected", "image": "proxy"},
            {"name": "b", "imagePullPolicy": "Always", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}]},
        ]}});
        assert!(holds_in(&body, &live));
    }

    #[test]
    fn a_changed_and_a_missing_value_are_seen() {
        let body = json!({"spec": {"containers": [{"name": "b", "image": "one", "command": ["a", "b"]}]}});
        for live in [
            json!({"spec": {"containers": [{"name": "b", "image": "two", "command": ["a", "b"]}]}}),
            json!({"spec": {"containers": [{"name": "b", "image": "one", "command": ["a"]}]}}),
            json!({"spec": {"containers": [{"name": "c", "image": "one", "command": ["a", "b"]}]}}),
            json!({"spec": {}}),
        ] {
            assert!(!holds_in(&body, &live), "{live}");
        }
    }

    #[test]
    fn a_projection_stays_the_same_while_our_fields_do() {
        let body = json!({"resources": {"limits": {"cpu": "1000m"}}, "labels": {"a": "b"}});
        let applied = projection(&body, &json!({"resources": {"limits": {"cpu": "1"}}, "labels": {"a": "b"}}));
        let later = json!({"resources": {"limits": {"cpu": "1"}}, "labels": {"a": "b", "c": "d"}, "status": {"x": 1}});
        let drifted = json!({"resources": {"limits": {"cpu": "2"}}, "labels": {"a": "b"}});
        assert_eq!(projection(&body, &later), applied);
        assert_ne!(projection(&body, &drifted), applied);
    }

    #[test]
    fn a_fingerprint_is_sixteen_digits_and_follows_the_value() {
        let one = fingerprint(&json!({"a": 1, "b": 2}));
        assert_eq!(one.len(), 16);
        assert_eq!(one, fingerprint(&json!({"b": 2, "a": 1})));
        assert_ne!(one, fingerprint(&json!({"b": 2, "a": 2})));
    }
}
