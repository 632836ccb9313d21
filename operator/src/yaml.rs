//! Objects as YAML, for people: `--dry-run`, `crd`, and the snapshots of tests.

use saphyr::{Mapping, Scalar, Yaml, YamlEmitter};
use serde_json::Value;

/// One document, keys in the order of `value`, with a newline at its end and without `---`.
pub fn document(value: &Value) -> Result<String, saphyr::EmitError> {
    let mut text = String::new();
    let mut emitter = YamlEmitter::new(&mut text);
    emitter.multiline(true);
    emitter.dump(&node(value))?;
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    Ok(format!("{text}\n"))
}

fn node(value: &Value) -> Yaml<'static> {
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(value) => Yaml::Value(Scalar::Boolean(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Yaml::Value(Scalar::Integer(integer)),
            (None, Some(float)) => Yaml::Value(Scalar::FloatingPoint(float.into())),
            (None, None) => text(&number.to_string()),
        },
        Value::String(string) => text(string),
        Value::Array(values) => Yaml::Sequence(values.iter().map(node).collect()),
        Value::Object(members) => {
            let mut mapping = Mapping::new();
            for (key, value) in members {
                mapping.insert(text(key), node(value));
            }
            Yaml::Mapping(mapping)
        }
    }
}

fn text(string: &str) -> Yaml<'static> {
    Yaml::Value(Scalar::String(string.to_owned().into()))
}
