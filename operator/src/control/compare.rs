//! Fingerprints, and the part of a live object that a body speaks of: what a server made of it once is compared with
//! what it says later.
//!
//! Pure. What it is not: the question whether an object is as it should be, which [`crate::desired::contains`] answers.

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

/// First 16 hexadecimal digits of the SHA-256 of a value with sorted keys.
pub(super) fn fingerprint(value: &Value) -> String {
    let digest = Sha256::digest(value.to_string().as_bytes());
    digest
        .iter()
        .take(8)
        .fold(String::with_capacity(16), |mut text, byte| {
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
        return wanted
            .iter()
            .zip(found)
            .map(|(body, live)| projection(body, live))
            .collect();
    };
    let matching = |body: &Value| found.iter().find(|live| live.get(key) == body.get(key));
    wanted
        .iter()
        .map(|body| matching(body).map_or(Value::Null, |live| projection(body, live)))
        .collect()
}

/// The member that tells the objects of a list apart, if all of them have it and no two share its value.
fn merge_key(list: &[Value]) -> Option<&'static str> {
    ["name", "uid", "mountPath", "type", "key"]
        .into_iter()
        .find(|key| {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{fingerprint, projection};

    #[test]
    fn a_projection_stays_the_same_while_our_fields_do() {
        let body = json!({"resources": {"limits": {"cpu": "1000m"}}, "labels": {"a": "b"}});
        let applied = projection(
            &body,
            &json!({"resources": {"limits": {"cpu": "1"}}, "labels": {"a": "b"}}),
        );
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
