//! What values of the operator's own variables look like.

use std::time::Duration;

use asya_program::Expected;
use asya_program::environment::{json_object, positive_duration};
use serde_json::Value;

use crate::desired::SidecarMode;
use crate::report::{GatewayAddress, GatewayToken};

/// The name of a namespace.
pub(super) fn namespace(value: &str) -> Result<String, Expected> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = (1..=63).contains(&value.len())
        && value.chars().all(good)
        && !value.starts_with('-')
        && !value.ends_with('-');
    if is_label {
        Ok(value.to_owned())
    } else {
        Err(Expected::new("the name of a namespace"))
    }
}

/// Names of namespaces with commas between them.
pub(super) fn namespaces(value: &str) -> Result<Vec<String>, Expected> {
    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
    let mut read = Vec::new();
    for name in names {
        let name = namespace(name).map_err(|_| {
            Expected::new("names of namespaces with commas between them").because(format!("holds {name:?}"))
        })?;
        if !read.contains(&name) {
            read.push(name);
        }
    }
    Ok(read)
}

/// A whole number, of either sign.
pub(super) fn whole(value: &str) -> Result<i64, Expected> {
    value.parse().map_err(|_| Expected::new("a whole number"))
}

/// The name of a cluster: part of names and tags on brokers.
pub(super) fn cluster(value: &str) -> Result<String, Expected> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if value.len() <= 63 && value.chars().all(good) {
        Ok(value.to_owned())
    } else {
        Err(Expected::new("at most 63 letters, digits, `-`, `_` and `.`"))
    }
}

/// How often counts are refreshed. More often than every second nobody can look.
pub(super) fn refresh(value: &str) -> Result<Duration, Expected> {
    let least = Duration::from_secs(1);
    match positive_duration(value) {
        Ok(duration) if duration < least => Err(Expected::new("a duration of 1s or more")),
        other => other,
    }
}

/// `ResourceRequirements` of a container.
pub(super) fn resources(value: &str) -> Result<Value, Expected> {
    let example = r#"a JSON object such as {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {…}}"#;
    let object = json_object(value).map_err(|expected| {
        Expected::new(example).because(expected.problem.unwrap_or_else(|| "is none".into()))
    })?;
    for (key, quantities) in &object {
        if !matches!(key.as_str(), "requests" | "limits" | "claims") {
            return Err(Expected::new(example).because(format!("has the unknown key {key:?}")));
        }
        let quantities = quantities.as_object().into_iter().flatten();
        if let Some((name, _)) = quantities
            .into_iter()
            .find(|(_, value)| !(value.is_string() || value.is_number()))
        {
            return Err(Expected::new(example).because(format!("has no quantity at {key}.{name}")));
        }
    }
    Ok(Value::Object(object))
}

/// Where the sidecar stands.
pub(super) fn sidecar_mode(value: &str) -> Result<SidecarMode, Expected> {
    match value {
        "container" => Ok(SidecarMode::Container),
        "native" => Ok(SidecarMode::Native),
        _ => Err(Expected::new("container or native")),
    }
}

/// The gateway's address.
pub(super) fn gateway(value: &str) -> Result<GatewayAddress, Expected> {
    GatewayAddress::parse(value).map_err(|error| {
        Expected::new("a URL such as http://asya-gateway.asya:8080")
            .because(format!("cannot be used: {error}"))
    })
}

/// A token, as it can stand in a header.
pub(super) fn token(value: &str) -> Result<GatewayToken, Expected> {
    GatewayToken::text(value).map_err(|_| {
        Expected::new("one word of visible ASCII characters").because("cannot stand in a header")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_labels() {
        assert_eq!(
            namespaces("a, b-1,,a"),
            Ok(vec!["a".to_owned(), "b-1".to_owned()])
        );
        for text in ["A", "a_b", "-a", "a/b", &"x".repeat(64)] {
            assert!(namespaces(text).is_err(), "{text}");
        }
    }

    #[test]
    fn resources_are_quantities_under_known_keys() {
        assert!(resources(r#"{"requests": {"cpu": "50m", "memory": 1}, "limits": {}}"#).is_ok());
        for text in ["[]", "{\"request\": {}}", r#"{"limits": {"cpu": {}}}"#, "cpu: 1"] {
            assert!(resources(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_gateway_is_reached_over_http() {
        assert!(gateway("http://asya-gateway:8080").is_ok());
        for text in ["asya-gateway:8080", "grpc://a", "http://", "http://me:hush@a"] {
            assert!(gateway(text).is_err(), "{text}");
        }
    }

    #[test]
    fn other_words_are_refused() {
        assert!(sidecar_mode("sidecar").is_err() && cluster("a b").is_err() && whole("ten").is_err());
        assert!(refresh("0").is_err() && refresh("100ms").is_err() && refresh("30s").is_ok());
        assert!(token("").is_err() && token("a\nb").is_err());
    }
}
