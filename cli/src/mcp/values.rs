//! The arguments of a call, from words of the command line to JSON text. Pure.
//!
//! With the tool's schema at hand a value is read as what the parameter is; without, as it looks (contract gateway
//! §10.1). Numbers go into the JSON text as they were typed, so none is too large.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The properties of a tool's `inputSchema`, by name.
pub(super) type Properties = Map<String, Value>;

/// Why words are no arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArgumentError {
    #[error("the arguments are not valid JSON: {0}")]
    NotJson(String),
    #[error("the arguments are not a JSON object")]
    NotAnObject,
    #[error("{0:?} is no flag; expected --name value, --name=value or one JSON object")]
    NotAFlag(String),
    #[error("--{0} is given more than once; only parameters that are arrays may be")]
    Twice(String),
    #[error("--{name} {value:?} is no {kind}")]
    Kind {
        name: String,
        value: String,
        kind: String,
    },
}

/// Checks arguments that were given as JSON text.
pub(super) fn from_json(text: &str) -> Result<String, ArgumentError> {
    // As raw text: a number may be larger than any that we could hold.
    let raw: &RawValue =
        serde_json::from_str(text).map_err(|error| ArgumentError::NotJson(error.to_string()))?;
    if !raw.get().starts_with('{') {
        return Err(ArgumentError::NotAnObject);
    }
    Ok(raw.get().to_owned())
}

/// Makes a JSON object of flags.
pub(super) fn from_flags(words: &[String], properties: Option<&Properties>) -> Result<String, ArgumentError> {
    let mut flags: Vec<(String, Vec<String>)> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let flag = word
            .strip_prefix("--")
            .filter(|flag| !flag.is_empty())
            .ok_or_else(|| ArgumentError::NotAFlag(word.clone()))?;
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match words.next_if(|next| !next.starts_with("--")) {
                Some(value) => (flag, value.clone()),
                None => (flag, "true".to_owned()),
            },
        };
        let name = parameter(name, properties);
        match flags.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value),
            None => flags.push((name, vec![value])),
        }
    }
    let members: Result<Vec<_>, _> = flags
        .iter()
        .map(|(name, values)| {
            let schema = properties.and_then(|properties| properties.get(name));
            Ok(format!("{}:{}", json_string(name), member(name, values, schema)?))
        })
        .collect();
    Ok(format!("{{{}}}", members?.join(",")))
}

/// The parameter that a flag means: as typed, or with `_` for `-` where only that is one, or where nothing is known.
fn parameter(flag: &str, properties: Option<&Properties>) -> String {
    let underscored = flag.replace('-', "_");
    match properties {
        Some(properties) if properties.contains_key(flag) || !properties.contains_key(&underscored) => {
            flag.to_owned()
        }
        _ => underscored,
    }
}

/// The JSON text of one parameter.
fn member(name: &str, values: &[String], schema: Option<&Value>) -> Result<String, ArgumentError> {
    let kind = kind_of(schema);
    if kind == Some("array") {
        return array(name, values, schema.and_then(|schema| schema.get("items")));
    }
    match values {
        [value] => single(name, value, kind),
        _ => Err(ArgumentError::Twice(name.to_owned())),
    }
}

fn kind_of(schema: Option<&Value>) -> Option<&str> {
    schema?.get("type")?.as_str()
}

/// One JSON array, or one item for each time that the flag was given.
fn array(name: &str, values: &[String], items: Option<&Value>) -> Result<String, ArgumentError> {
    if let [text] = values
        && let Some(array) = nested(text, '[')
    {
        return Ok(array);
    }
    let items: Result<Vec<_>, _> = values
        .iter()
        .map(|value| single(name, value, kind_of(items)))
        .collect();
    Ok(format!("[{}]", items?.join(",")))
}

fn single(name: &str, value: &str, kind: Option<&str>) -> Result<String, ArgumentError> {
    let wrong = || ArgumentError::Kind {
        name: name.to_owned(),
        value: value.to_owned(),
        kind: kind.unwrap_or_default().to_owned(),
    };
    match kind {
        Some("string") => Ok(json_string(value)),
        Some("boolean") => match value {
            "true" | "false" => Ok(value.to_owned()),
            _ => Err(wrong()),
        },
        Some("integer" | "number") => number(value).ok_or_else(wrong),
        Some("object") => nested(value, '{').ok_or_else(wrong),
        Some("array") => nested(value, '[').ok_or_else(wrong),
        _ => Ok(as_it_looks(value)),
    }
}

/// The text if it is JSON that begins with this bracket.
fn nested(text: &str, bracket: char) -> Option<String> {
    let raw: &RawValue = serde_json::from_str(text).ok()?;
    raw.get().starts_with(bracket).then(|| raw.get().to_owned())
}

/// A value of which nothing is known.
fn as_it_looks(value: &str) -> String {
    match value {
        "true" | "false" => value.to_owned(),
        _ => number(value).unwrap_or_else(|| json_string(value)),
    }
}

/// The text if JSON takes it for a number, which `01234` (a postal code) is not.
fn number(value: &str) -> Option<String> {
    serde_json::from_str::<&RawValue>(value)
        .is_ok_and(|raw| raw.get() == value && value.starts_with(|c: char| c == '-' || c.is_ascii_digit()))
        .then(|| value.to_owned())
}

fn json_string(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn properties() -> Properties {
        let schema = serde_json::json!({
            "text": {"type": "string"}, "count": {"type": "integer"}, "ratio": {"type": "number"},
            "deep": {"type": "boolean"}, "my_arg": {"type": "string"}, "dash-ed": {"type": "string"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "sizes": {"type": "array", "items": {"type": "integer"}}, "options": {"type": "object"},
        });
        schema.as_object().expect("an object").clone()
    }

    #[test]
    fn without_a_schema_values_are_what_they_look_like() {
        for (line, expected) in [
            ("", "{}"),
            (
                "--a 5 --b=1.50 --c true --d",
                r#"{"a":5,"b":1.50,"c":true,"d":true}"#,
            ),
            (
                "--zip 01234 --v 1.2.3 --t x",
                r#"{"zip":"01234","v":"1.2.3","t":"x"}"#,
            ),
            ("--my-arg -5 --e=", r#"{"my_arg":-5,"e":""}"#),
            (
                "--big 123456789012345678901234567890",
                r#"{"big":123456789012345678901234567890}"#,
            ),
            ("--n null --o {} --u NaN", r#"{"n":"null","o":"{}","u":"NaN"}"#),
            ("--q a=b=c --p=a=b", r#"{"q":"a=b=c","p":"a=b"}"#),
        ] {
            assert_eq!(from_flags(&words(line), None).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn a_schema_decides_what_a_value_is() {
        let properties = properties();
        for (line, expected) in [
            (
                "--text 5 --count 5 --ratio 1",
                r#"{"text":"5","count":5,"ratio":1}"#,
            ),
            (
                "--my-arg x --dash-ed y --deep",
                r#"{"my_arg":"x","dash-ed":"y","deep":true}"#,
            ),
            ("--tags a --tags 2", r#"{"tags":["a","2"]}"#),
            (
                "--tags [\"a\"] --sizes 1 --sizes 2",
                r#"{"tags":["a"],"sizes":[1,2]}"#,
            ),
            ("--options {\"n\":1.0}", r#"{"options":{"n":1.0}}"#),
            ("--text true", r#"{"text":"true"}"#),
            ("--un-known 7", r#"{"un-known":7}"#),
        ] {
            assert_eq!(
                from_flags(&words(line), Some(&properties)).as_deref(),
                Ok(expected),
                "{line}"
            );
        }
    }

    #[test]
    fn what_does_not_fit_is_told_by_name() {
        let properties = properties();
        for (line, told) in [
            ("--count many", "--count \"many\" is no integer"),
            ("--deep maybe", "--deep \"maybe\" is no boolean"),
            ("--options 5", "--options \"5\" is no object"),
            ("--sizes 1 --sizes x", "--sizes \"x\" is no integer"),
            ("--text a --text b", "--text is given more than once"),
            ("--text a b", "\"b\" is no flag"),
            ("-- a", "\"--\" is no flag"),
        ] {
            let error = from_flags(&words(line), Some(&properties))
                .expect_err(line)
                .to_string();
            assert!(error.contains(told), "{line}: {error}");
        }
        assert_eq!(from_json("[1]"), Err(ArgumentError::NotAnObject));
        assert!(matches!(from_json("{"), Err(ArgumentError::NotJson(_))));
        assert_eq!(from_json(" {\"n\": 1e400} ").as_deref(), Ok("{\"n\": 1e400}"));
    }
}
