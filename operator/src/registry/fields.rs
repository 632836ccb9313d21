//! One JSON object of the registry, read key by key: every key is asked for once, what is left over is unknown.
//!
//! What it is: the strictness of the registry (contract operator §4.1) and the words of its mistakes. Each line is
//! `<key path>: <what is wrong>; <what to do>` and repeats no value, since a value in the wrong place may be a secret.
//! What it is not: it knows no key.

use std::cell::RefCell;

use serde_json::{Map, Value};

/// What is to be said about a registry, in reading order.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Why it cannot be used.
    pub(super) problems: Vec<String>,
    /// What is odd, and what holds instead.
    pub(super) warnings: Vec<String>,
}

/// Where lines go. Below a disabled entry nothing is a problem.
#[derive(Debug)]
pub(super) struct Notes {
    report: RefCell<Report>,
    only_warnings: bool,
}

impl Notes {
    pub(super) fn new(only_warnings: bool) -> Self {
        Self {
            report: RefCell::default(),
            only_warnings,
        }
    }

    pub(super) fn problem(&self, path: &str, text: impl AsRef<str>) {
        if self.only_warnings {
            return self.warn(
                path,
                format!("{}; ignored, since the transport is disabled", text.as_ref()),
            );
        }
        self.report
            .borrow_mut()
            .problems
            .push(format!("{path}: {}", text.as_ref()));
    }

    pub(super) fn warn(&self, path: &str, text: impl AsRef<str>) {
        self.report
            .borrow_mut()
            .warnings
            .push(format!("{path}: {}", text.as_ref()));
    }

    pub(super) fn into_report(self) -> Report {
        self.report.into_inner()
    }
}

/// One object. Ask for every key that may stand in it, then call [`Fields::finish`].
pub(super) struct Fields<'a> {
    path: String,
    members: &'a Map<String, Value>,
    notes: &'a Notes,
    known: RefCell<Vec<&'static str>>,
}

/// An object without members, for what is absent.
static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

impl<'a> Fields<'a> {
    /// The object `value`; absent and `null` are an empty one, as in the original.
    pub(super) fn new(path: String, value: Option<&'a Value>, notes: &'a Notes) -> Self {
        let members = match value {
            None | Some(Value::Null) => &EMPTY,
            Some(Value::Object(members)) => members,
            Some(other) => {
                notes.problem(&path, format!("expected an object, found {}", kind(other)));
                &EMPTY
            }
        };
        Self {
            path,
            members,
            notes,
            known: RefCell::default(),
        }
    }

    /// The path of a member.
    pub(super) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The value of a key; `null` is absent. A key in another case counts, as it did in the original, with a warning.
    pub(super) fn value(&self, key: &'static str) -> Option<&'a Value> {
        let is_first = !self.known.borrow().contains(&key);
        if is_first {
            self.known.borrow_mut().push(key);
        }
        let (found, value) = member(self.members, key)?;
        if found != key && is_first {
            self.notes
                .warn(&self.path(found), format!("read as {key}; write it so"));
        }
        Some(value).filter(|value| !value.is_null())
    }

    /// The object under a key.
    pub(super) fn object(&self, key: &'static str) -> Fields<'a> {
        Fields::new(self.path(key), self.value(key), self.notes)
    }

    /// Whether a key has a value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        member(self.members, key).is_some_and(|(_, value)| !value.is_null())
    }

    /// A text; an empty one is absent.
    pub(super) fn text(&self, key: &'static str) -> Option<&'a str> {
        match self.value(key)? {
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            other => {
                let hint = if other.is_number() {
                    "; put it in quotes"
                } else {
                    ""
                };
                self.wrong(key, "a text", other, hint);
                None
            }
        }
    }

    /// Yes or no.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(Value::Bool(value)) => *value,
            Some(other) => {
                let hint = if other.is_string() {
                    "; write it without quotes"
                } else {
                    ""
                };
                self.wrong(key, "true or false", other, hint);
                default
            }
        }
    }

    /// A whole number from 1 to `most`; 0 is absent, as in the original.
    pub(super) fn number(&self, key: &'static str, most: u32) -> Option<u32> {
        let value = self.value(key)?;
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        match number {
            Some(0) => None,
            Some(number) if number <= most => Some(number),
            _ => {
                let hint = if value.is_string() {
                    "; write it without quotes"
                } else {
                    ""
                };
                let found = if value.is_number() {
                    "another number"
                } else {
                    kind(value)
                };
                let text = format!("expected a whole number from 1 to {most}, found {found}{hint}");
                self.problem(key, text);
                None
            }
        }
    }

    /// Texts by name.
    pub(super) fn texts(&self, key: &'static str) -> impl Iterator<Item = (String, String)> + use<'a> {
        let inner = self.object(key);
        let mut texts = Vec::new();
        for (name, value) in inner.members {
            match value {
                Value::String(text) => texts.push((name.clone(), text.clone())),
                Value::Null => texts.push((name.clone(), String::new())),
                other => inner.wrong(name, "a text", other, "; put it in quotes"),
            }
        }
        texts.into_iter()
    }

    /// Everything in the object, under whatever keys.
    pub(super) fn members(&self) -> &'a Map<String, Value> {
        self.members
    }

    /// A key that somebody may write, and that does nothing.
    pub(super) fn ignored(&self, key: &'static str, why: &str) {
        if self.value(key).is_some() {
            self.notes.warn(&self.path(key), format!("without effect: {why}"));
        }
    }

    pub(super) fn problem(&self, key: &str, text: impl AsRef<str>) {
        self.notes.problem(&self.path(key), text);
    }

    /// Says what is missing, where that matters: a disabled entry may lack anything.
    pub(super) fn lacks(&self, key: &str, text: impl AsRef<str>) {
        if !self.notes.only_warnings {
            self.notes.warn(&self.path(key), text);
        }
    }

    fn wrong(&self, key: &str, expected: &str, found: &Value, hint: &str) {
        self.problem(key, format!("expected {expected}, found {}{hint}", kind(found)));
    }

    /// Complains of the keys that nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for name in self.members.keys() {
            if known.iter().any(|key| key.eq_ignore_ascii_case(name)) {
                continue;
            }
            let hint = match asya_program::nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.notes
                .problem(&join(&self.path, name), format!("unknown key; {hint}"));
        }
    }
}

/// The member of that name, or else of that name in another case, with the name as it is written.
pub(super) fn member<'a>(members: &'a Map<String, Value>, key: &str) -> Option<(&'a str, &'a Value)> {
    let exact = members.get_key_value(key);
    let found = exact.or_else(|| members.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)))?;
    Some((found.0.as_str(), found.1))
}

/// `parent.key`, and with brackets where the key is no plain word.
fn join(parent: &str, key: &str) -> String {
    let is_plain = !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    match (is_plain, parent.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{parent}.{key}"),
        (false, _) => format!("{parent}[{key:?}]"),
    }
}

/// What a value is, in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
