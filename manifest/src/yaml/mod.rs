//! YAML text to a tree in which every key and value knows its line.
//!
//! [`parse`] turns a file into [`Node`]s: JSON's data model plus a [`Position`] on each key and value. Anchors,
//! aliases and merge keys (`<<`) are expanded under a budget; duplicate keys, unknown tags and values that
//! JSON cannot hold are faults. Plain scalars follow the YAML 1.2 core schema.

mod builder;
mod scalar;

use serde_json::{Map, Number, Value};

pub(crate) use builder::parse;

use crate::problem::Position;

/// A value and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) position: Position,
    pub(crate) kind: Kind,
    /// The text of a scalar that stands unquoted in the file.
    pub(crate) plain: Option<String>,
}

/// JSON's data model, keys in file order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One `key: value` of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// Where the key begins.
    pub(crate) position: Position,
    pub(crate) value: Node,
}

impl Entry {
    /// A member of an object, without a line.
    pub(crate) fn from_json(key: &str, value: &Value) -> Self {
        Self {
            key: key.to_owned(),
            position: Position { line: 0, column: 0 },
            value: Node::from_json(value),
        }
    }
}

impl Node {
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The value under a chain of keys.
    pub(crate) fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The entries of a mapping; none for any other value.
    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.kind {
            Kind::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for any other value.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn integer(&self) -> Option<i64> {
        match &self.kind {
            Kind::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// A scalar as a person wrote it, for messages; collections by their kind.
    pub(crate) fn describe(&self) -> String {
        let plain = self.plain.as_deref().unwrap_or_default();
        match &self.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::Bool(_) => format!("the boolean {plain}"),
            Kind::Number(_) => format!("the number {plain}"),
            Kind::Text(text) => format!("the text {:?}", shorten(text)),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
        }
    }

    /// A tree without lines; every place is 0:0.
    pub(crate) fn from_json(value: &Value) -> Self {
        let kind = match value {
            Value::Null => Kind::Null,
            Value::Bool(value) => Kind::Bool(*value),
            Value::Number(number) => Kind::Number(number.clone()),
            Value::String(text) => Kind::Text(text.clone()),
            Value::Array(items) => Kind::List(items.iter().map(Self::from_json).collect()),
            Value::Object(members) => Kind::Map(
                members
                    .iter()
                    .map(|(key, value)| Entry::from_json(key, value))
                    .collect(),
            ),
        };
        let plain = matches!(kind, Kind::Bool(_) | Kind::Number(_)).then(|| value.to_string());
        Self {
            position: Position { line: 0, column: 0 },
            kind,
            plain,
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        self.convert(&|_| None)
    }

    /// As `kubectl` reads it, which goes by YAML 1.1.
    pub(crate) fn to_kubernetes_json(&self) -> Value {
        self.convert(&|node| node.older_bool().map(Value::Bool))
    }

    /// The boolean that YAML 1.1, and with it `kubectl`, makes of an unquoted word which is text in YAML 1.2.
    pub(crate) fn older_bool(&self) -> Option<bool> {
        match (&self.kind, self.plain.as_deref()?) {
            (Kind::Text(_), "yes" | "Yes" | "YES" | "on" | "On" | "ON") => Some(true),
            (Kind::Text(_), "no" | "No" | "NO" | "off" | "Off" | "OFF") => Some(false),
            _ => None,
        }
    }

    /// As JSON, except for scalars that `special` knows better.
    fn convert(&self, special: &impl Fn(&Node) -> Option<Value>) -> Value {
        if let Some(value) = special(self) {
            return value;
        }
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => items.iter().map(|item| item.convert(special)).collect(),
            Kind::Map(entries) => {
                let members: Map<String, Value> = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.value.convert(special)))
                    .collect();
                Value::Object(members)
            }
        }
    }
}

/// Long text cut for a message.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    if text.chars().count() <= SHOWN {
        return text.to_owned();
    }
    text.chars().take(SHOWN).chain(['…']).collect()
}
