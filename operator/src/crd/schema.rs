//! From what `schemars` derives to what an API server takes: a structural schema of OpenAPI v3.
//!
//! Structural means: one `type` for each value, no references, no `oneOf` to tell types apart, and nothing that a
//! server could not prune or fill in by (Kubernetes' "Specifying a structural schema"). What the Rust types cannot say
//! is laid over it in [`super::definition`].

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Keywords that a structural schema keeps as they are.
const KEPT: [&str; 12] = [
    "description",
    "enum",
    "format",
    "maxItems",
    "maxLength",
    "maximum",
    "minLength",
    "minimum",
    "pattern",
    "required",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
];

/// Whether the values that `serde` fills in are written into the object by the server too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defaults {
    /// They are, so that a reader of the object sees what holds.
    Written,
    /// They are not.
    Silent,
}

/// The structural schema of a type.
pub(super) fn of<T: JsonSchema>(defaults: Defaults) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    structural(&schema, defaults)
}

fn structural(schema: &Value, defaults: Defaults) -> Value {
    let schema = one_variant(schema);
    let Value::Object(from) = &schema else {
        return json!({"x-kubernetes-preserve-unknown-fields": true});
    };
    let mut to = Map::new();
    for keyword in KEPT {
        if let Some(value) = from.get(keyword) {
            to.insert(keyword.to_owned(), value.clone());
        }
    }
    if let Some(Value::String(text)) = to.get_mut("description") {
        *text = plain(text);
    }
    if let Some(kind) = type_of(from) {
        to.insert("type".to_owned(), kind.into());
    }
    as_signed(&mut to);
    if let Some(Value::Object(properties)) = from.get("properties") {
        let properties = properties
            .iter()
            .map(|(name, property)| (name.clone(), structural(property, defaults)));
        to.insert("properties".to_owned(), properties.collect());
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = from
            .get(keyword)
            .filter(|inner| inner.is_object() || keyword == "items")
        {
            to.insert(keyword.to_owned(), structural(inner, defaults));
        }
    }
    if defaults == Defaults::Written
        && let Some(default) = from.get("default").and_then(worth_writing)
    {
        to.insert("default".to_owned(), default);
    }
    Value::Object(to)
}

/// An optional type without its `null`, and the words of an enumeration in one list.
fn one_variant(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let Some(own) = schema.as_object_mut() else {
        return schema;
    };
    if let Some(Value::Array(variants)) = own.remove("anyOf") {
        let mut variants = variants.into_iter().filter(|variant| variant["type"] != "null");
        if let Some(Value::Object(variant)) = variants.next() {
            for (keyword, value) in variant {
                own.entry(keyword).or_insert(value);
            }
        }
        return one_variant(&schema);
    }
    if let Some(Value::Array(variants)) = own.remove("oneOf") {
        let words = variants
            .iter()
            .filter_map(|variant| variant.get("const").cloned());
        own.insert("enum".to_owned(), words.collect());
        own.insert("type".to_owned(), "string".into());
    }
    if let Some(Value::Array(words)) = own.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    schema
}

fn type_of(schema: &Map<String, Value>) -> Option<&str> {
    match schema.get("type")? {
        Value::String(kind) => Some(kind),
        Value::Array(kinds) => kinds
            .iter()
            .filter_map(Value::as_str)
            .find(|kind| *kind != "null"),
        _ => None,
    }
}

/// OpenAPI has no unsigned formats; 32 bits are what the fields of Kubernetes hold that these become.
fn as_signed(schema: &mut Map<String, Value>) {
    let unsigned = schema
        .get("format")
        .and_then(Value::as_str)
        .is_some_and(|format| format.starts_with("uint"));
    if unsigned {
        schema.insert("format".to_owned(), "int32".into());
        schema.entry("maximum").or_insert_with(|| i32::MAX.into());
    }
}

/// A default that changes something when it is written. An object's fields have defaults of their own, so it begins
/// empty.
fn worth_writing(default: &Value) -> Option<Value> {
    match default {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Array(items) if items.is_empty() => None,
        Value::Object(members) => members
            .values()
            .any(|member| worth_writing(member).is_some())
            .then(|| json!({})),
        other => Some(other.clone()),
    }
}

/// A documentation comment as plain text: no links into the code, no line breaks inside a paragraph.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        out.push_str(before);
        let Some((label, tail)) = after.split_once("`]") else {
            out.push_str("[`");
            rest = after;
            continue;
        };
        out.extend(["`", label, "`"]);
        rest = match tail.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, tail)) => tail,
            None => tail,
        };
    }
    out.push_str(rest);
    out.split("\n\n")
        .map(|paragraph| paragraph.replace('\n', " "))
        .collect::<Vec<_>>()
        .join("\n\n")
}
