//! A tool's parameter, and its reading from the file.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::arguments::fits;
use super::load::is_true;
use crate::path::KeyPath;
use crate::shape::Findings;
use crate::suggest;
use crate::yaml::{Kind, Node};

/// The type of a parameter, named as in JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterType {
    /// Text.
    String,
    /// Any number.
    Number,
    /// A number without a fraction; `1.0` is one.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// A list.
    Array,
    /// A JSON object.
    Object,
}

impl ParameterType {
    const ALL: [Self; 6] = [
        Self::String,
        Self::Number,
        Self::Integer,
        Self::Boolean,
        Self::Array,
        Self::Object,
    ];

    /// The name in JSON Schema and in the tool file.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl fmt::Display for ParameterType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A parameter of a tool, an item of an array or a property of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its type.
    pub kind: ParameterType,
    /// What it means; may be empty.
    pub description: String,
    /// Whether it must be given.
    pub required: bool,
    /// The only values allowed (`options`, or its alias `enum`); empty for any.
    pub options: Vec<Value>,
    /// Used when an optional parameter is absent.
    pub default: Option<Value>,
    /// Of an array: what each item must be.
    pub items: Option<Box<Parameter>>,
    /// Of an object: its known properties.
    pub properties: BTreeMap<String, Parameter>,
    /// Of an object: whether other properties pass; default true.
    pub additional_properties: bool,
}

impl Parameter {
    /// The parameters of a mapping; those with problems are reported and left out.
    pub(super) fn read_all(
        node: Option<&Node>,
        path: &KeyPath,
        label: &str,
        found: &mut Findings<'_>,
    ) -> BTreeMap<String, Parameter> {
        let entries = node.map(Node::entries).unwrap_or_default();
        let parameters = entries.iter().filter_map(|entry| {
            let label = format!("{label}: parameter {:?}", entry.key);
            let parameter = Self::read(&entry.value, &path.key(&entry.key), &label, found)?;
            Some((entry.key.clone(), parameter))
        });
        parameters.collect()
    }

    fn read(node: &Node, path: &KeyPath, label: &str, found: &mut Findings<'_>) -> Option<Self> {
        if !matches!(node.kind, Kind::Map(_)) {
            return None;
        }
        let kind = read_type(node, path, label, found);
        let items = node
            .get("items")
            .map(|items| Self::read(items, &path.key("items"), &format!("{label}: items"), found));
        let properties = Self::read_all(node.get("properties"), &path.key("properties"), label, found);
        let mut parameter = Self {
            kind: kind?,
            description: node
                .get("description")
                .and_then(Node::text)
                .unwrap_or_default()
                .to_owned(),
            required: node.get("required").is_some_and(is_true),
            options: Vec::new(),
            default: None,
            items: items.flatten().map(Box::new),
            properties,
            additional_properties: node.get("additionalProperties").is_none_or(is_true),
        };
        parameter.options = parameter.read_options(node, path, label, found);
        parameter.default = parameter.read_default(node, path, label, found);
        Some(parameter)
    }

    fn read_options(&self, node: &Node, path: &KeyPath, label: &str, found: &mut Findings<'_>) -> Vec<Value> {
        if let (Some(_), Some(second)) = (node.entry("options"), node.entry("enum")) {
            let message = format!("{label}: both options and enum are given");
            found.problem(
                second.position,
                &path.key("enum"),
                message,
                "keep one: they mean the same",
            );
        }
        let key = if node.get("options").is_some() {
            "options"
        } else {
            "enum"
        };
        let mut options = Vec::new();
        for (index, option) in node
            .get(key)
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let value = self.value_of(option);
            if self.admits(&value) {
                options.push(value);
            } else {
                let message = format!(
                    "{label}: {} is no option of the type {}",
                    option.describe(),
                    self.kind
                );
                found.problem(option.position, &path.key(key).index(index), message, "");
            }
        }
        options
    }

    fn read_default(
        &self,
        node: &Node,
        path: &KeyPath,
        label: &str,
        found: &mut Findings<'_>,
    ) -> Option<Value> {
        let node = node.get("default").filter(|node| !node.is_null())?;
        let value = self.value_of(node);
        if self.admits(&value) {
            return Some(value);
        }
        let message = format!(
            "{label}: the default, {}, is not allowed for this parameter",
            node.describe()
        );
        let hint = format!(
            "give a value of the type {}, among the options if there are any",
            self.kind
        );
        found.problem(node.position, &path.key("default"), message, &hint);
        None
    }

    /// Scalars are text where text is meant, as for the original loader.
    fn value_of(&self, node: &Node) -> Value {
        match (&node.plain, self.kind) {
            (Some(plain), ParameterType::String) if !node.is_null() => Value::String(plain.clone()),
            _ => node.to_json(),
        }
    }

    fn admits(&self, value: &Value) -> bool {
        fits(self, value)
    }
}

fn read_type(node: &Node, path: &KeyPath, label: &str, found: &mut Findings<'_>) -> Option<ParameterType> {
    let all = || ParameterType::ALL.into_iter();
    let written = match node.get("type") {
        Some(written) => written.text()?,
        None => "",
    };
    let kind = all().find(|kind| kind.name() == written);
    if kind.is_none() {
        let names: Vec<&str> = all().map(ParameterType::name).collect();
        let at = node.get("type").map_or(node.position, |written| written.position);
        let message = format!("{label}: invalid type {written:?} (must be {})", names.join(", "));
        let hint = suggest::nearest(written, names.into_iter()).map(|name| format!("did you mean {name}?"));
        found.problem(
            at,
            &path.key("type"),
            message,
            hint.as_deref().unwrap_or_default(),
        );
    }
    kind
}
