//! Tools as YAML for people (contract gateway §10.1). Pure.

use saphyr::{Mapping, Yaml, YamlEmitter};
use serde_json::{Map, Value};

/// How much is said about parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Type, and whether it is required.
    Short,
    /// Description, default and options too.
    Full,
}

/// All tools.
pub(super) fn list(tools: &[Value]) -> Result<String, saphyr::EmitError> {
    emit(&Yaml::Sequence(
        tools.iter().map(|tool| describe(tool, Detail::Short)).collect(),
    ))
}

/// One tool.
pub(super) fn show(tool: &Value) -> Result<String, saphyr::EmitError> {
    emit(&describe(tool, Detail::Full))
}

fn describe(tool: &Value, detail: Detail) -> Yaml<'static> {
    let text = |key: &str| {
        tool.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut map = Mapping::new();
    put(&mut map, "name", string(text("name")));
    put(&mut map, "description", string(text("description")));
    put(&mut map, "parameters", parameters(tool, detail));
    Yaml::Mapping(map)
}

fn parameters(tool: &Value, detail: Detail) -> Yaml<'static> {
    let empty = Map::new();
    let schema = tool.get("inputSchema");
    let properties = schema
        .and_then(|it| it.get("properties"))
        .and_then(Value::as_object);
    let required = schema.and_then(|it| it.get("required")).and_then(Value::as_array);
    let mut map = Mapping::new();
    for (name, property) in properties.unwrap_or(&empty) {
        let is_required = required.is_some_and(|names| names.iter().any(|it| it == name));
        put(&mut map, name, parameter(property, is_required, detail));
    }
    Yaml::Mapping(map)
}

fn parameter(property: &Value, is_required: bool, detail: Detail) -> Yaml<'static> {
    let mut map = Mapping::new();
    put(
        &mut map,
        "type",
        property
            .get("type")
            .map_or_else(|| string("any".to_owned()), yaml),
    );
    put(
        &mut map,
        "required",
        Yaml::Value(saphyr::Scalar::Boolean(is_required)),
    );
    if detail == Detail::Full {
        for (from, to) in [
            ("description", "description"),
            ("default", "default"),
            ("enum", "options"),
        ] {
            if let Some(value) = property.get(from) {
                put(&mut map, to, yaml(value));
            }
        }
    }
    Yaml::Mapping(map)
}

fn put(map: &mut Mapping<'static>, key: &str, value: Yaml<'static>) {
    map.insert(string(key.to_owned()), value);
}

fn string(text: String) -> Yaml<'static> {
    Yaml::Value(saphyr::Scalar::String(text.into()))
}

fn yaml(value: &Value) -> Yaml<'static> {
    use saphyr::Scalar;
    match value {
        Value::Null => Yaml::Value(Scalar::Null),
        Value::Bool(value) => Yaml::Value(Scalar::Boolean(*value)),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Yaml::Value(Scalar::Integer(integer)),
            None => match number.as_f64() {
                Some(float) => Yaml::Value(Scalar::FloatingPoint(float.into())),
                None => string(number.to_string()),
            },
        },
        Value::String(text) => string(text.clone()),
        Value::Array(items) => Yaml::Sequence(items.iter().map(yaml).collect()),
        Value::Object(members) => {
            let mut map = Mapping::new();
            for (key, value) in members {
                put(&mut map, key, yaml(value));
            }
            Yaml::Mapping(map)
        }
    }
}

/// Without the `---` that begins a document.
fn emit(document: &Yaml<'static>) -> Result<String, saphyr::EmitError> {
    let mut text = String::new();
    YamlEmitter::new(&mut text).dump(document)?;
    let text = text.strip_prefix("---\n").unwrap_or(&text);
    Ok(format!("{}\n", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool() -> Value {
        serde_json::json!({"name": "digest", "description": "Reads: all", "inputSchema": {"type": "object",
            "properties": {
                "path": {"type": "string", "description": "Where", "default": "data"},
                "mode": {"type": "string", "enum": ["a", "yes"]},
                "n": {"type": "integer", "default": 6},
            },
            "required": ["path"]}})
    }

    #[test]
    fn a_list_names_tools_and_parameters() {
        let expected = "- name: digest\n  description: \"Reads: all\"\n  parameters:\n    path:\n      type: string\n      required: true\n    mode:\n      type: string\n      required: false\n    n:\n      type: integer\n      required: false\n";
        let mut tool = tool();
        // serde_json sorts members.
        let text = list(std::slice::from_ref(&tool)).expect("YAML");
        for line in expected.lines() {
            assert!(text.contains(line), "{line:?} in {text}");
        }
        tool["inputSchema"] = serde_json::json!({"type": "object"});
        assert!(list(&[tool]).expect("YAML").ends_with("  parameters: {}\n"));
    }

    #[test]
    fn one_tool_is_shown_with_defaults_and_options() {
        let text = show(&tool()).expect("YAML");
        for line in [
            "description: Where",
            "default: data",
            "default: 6",
            "options:",
            "- \"yes\"",
            "required: true",
        ] {
            assert!(text.contains(line), "{line:?} in {text}");
        }
    }
}
