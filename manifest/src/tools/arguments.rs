//! Arguments of a call: checked against the parameters, completed with defaults, otherwise left byte for byte.
//!
//! Values are never decoded and encoded again, so big integers, `1e400`, key order and spacing arrive as sent: only
//! what a parameter names is looked at, and defaults are inserted into the text.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Parameter, ParameterType, Tool};
use crate::path::KeyPath;
use crate::yaml::shorten;

/// One mistake in a call's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentProblem {
    /// The parameter, e.g. `options.sizes[2]`; empty for the arguments as a whole.
    pub parameter: String,
    /// What is wrong, the parameter named; never the value of text.
    pub message: String,
}

/// Every mistake in a call's arguments; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentProblems(Vec<ArgumentProblem>);

impl ArgumentProblems {
    /// In the order of the parameters.
    pub fn iter(&self) -> std::slice::Iter<'_, ArgumentProblem> {
        self.0.iter()
    }

    fn whole(message: String) -> Self {
        Self(vec![ArgumentProblem {
            parameter: String::new(),
            message,
        }])
    }
}

impl<'a> IntoIterator for &'a ArgumentProblems {
    type Item = &'a ArgumentProblem;
    type IntoIter = std::slice::Iter<'a, ArgumentProblem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ArgumentProblems {
    /// All messages on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}", problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for ArgumentProblems {}

impl Tool {
    /// Checks the arguments of a call (JSON text: an object, or `null` for none) and adds defaults for absent
    /// optional parameters; the result is the payload of the envelope.
    ///
    /// Arguments that no parameter describes pass unless `additionalProperties: false` is set. The text is returned
    /// as it came but for inserted defaults.
    ///
    /// # Errors
    /// Every mistake at once; an absent parameter reads `missing required parameter: <name>`.
    pub fn arguments<'a>(&self, json: &'a str) -> Result<Cow<'a, str>, ArgumentProblems> {
        let json = json.trim();
        let needed = |parameter: &Parameter| parameter.required || parameter.default.is_some();
        let json = match json {
            "null" if self.parameters.values().any(needed) => "{}",
            "null" => return Ok(Cow::Borrowed(json)),
            _ => json,
        };
        let raw: &RawValue = serde_json::from_str(json)
            .map_err(|error| ArgumentProblems::whole(format!("the arguments are not JSON: {error}")))?;
        if !raw.get().starts_with('{') {
            return Err(ArgumentProblems::whole(
                "the arguments must be a JSON object".to_owned(),
            ));
        }
        let mut check = Check {
            text: json,
            insertions: Vec::new(),
            problems: Vec::new(),
        };
        check.object(
            raw,
            &self.parameters,
            self.additional_properties,
            &KeyPath::default(),
        );
        if check.problems.is_empty() {
            Ok(check.complete())
        } else {
            Err(ArgumentProblems(check.problems))
        }
    }
}

/// Whether a value of the file (a default, an option) fits its own parameter.
pub(super) fn fits(parameter: &Parameter, value: &Value) -> bool {
    let text = value.to_string();
    let Ok(raw) = serde_json::from_str::<&RawValue>(&text) else {
        return false;
    };
    let mut check = Check {
        text: &text,
        insertions: Vec::new(),
        problems: Vec::new(),
    };
    check.value(raw, parameter, &KeyPath::default());
    check.problems.is_empty()
}

struct Check<'a> {
    text: &'a str,
    /// Byte offset in `text`, and what goes there.
    insertions: Vec<(usize, String)>,
    problems: Vec<ArgumentProblem>,
}

impl<'a> Check<'a> {
    fn value(&mut self, raw: &'a RawValue, parameter: &Parameter, path: &KeyPath) {
        if !is_of(raw, parameter.kind) {
            let message = format!(
                "parameter {path}: expected {}, got {}",
                article(parameter.kind),
                describe(raw)
            );
            return self.problem(path, message);
        }
        if !parameter.options.is_empty() && !parameter.options.iter().any(|option| equal(raw, option)) {
            let options: Vec<String> = parameter.options.iter().map(Value::to_string).collect();
            let message = format!(
                "parameter {path}: must be one of {}",
                shorten(&options.join(", "))
            );
            return self.problem(path, message);
        }
        match (parameter.kind, &parameter.items) {
            (ParameterType::Object, _) => {
                self.object(raw, &parameter.properties, parameter.additional_properties, path);
            }
            (ParameterType::Array, Some(items)) => match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
                Ok(values) => {
                    for (index, value) in values.into_iter().enumerate() {
                        self.value(value, items, &path.index(index));
                    }
                }
                Err(error) => self.problem(path, format!("parameter {path}: {error}")),
            },
            _ => {}
        }
    }

    fn object(
        &mut self,
        raw: &'a RawValue,
        properties: &BTreeMap<String, Parameter>,
        additional: bool,
        path: &KeyPath,
    ) {
        let members = match serde_json::from_str::<Members<'a>>(raw.get()) {
            Ok(Members(members)) => members,
            Err(error) => return self.problem(path, format!("the arguments are not JSON: {error}")),
        };
        let mut defaults = Vec::new();
        for (name, parameter) in properties {
            let path = path.key(name);
            match (members.get(name), &parameter.default) {
                (Some(value), _) => self.value(value, parameter, &path),
                (None, _) if parameter.required => {
                    self.problem(&path, format!("missing required parameter: {path}"));
                }
                (None, Some(default)) => defaults.push(format!("{}:{default}", Value::from(name.as_str()))),
                (None, None) => {}
            }
        }
        if !additional {
            for name in members.keys().filter(|name| !properties.contains_key(*name)) {
                let path = path.key(name);
                self.problem(&path, format!("unknown parameter: {path}"));
            }
        }
        self.insert(raw, members.is_empty(), &defaults);
    }

    /// Notes members to add before the closing brace of an object of the text.
    fn insert(&mut self, object: &RawValue, empty: bool, members: &[String]) {
        if members.is_empty() {
            return;
        }
        // Raw values borrow from the text, so the difference of the addresses is the object's place in it.
        let start = object.get().as_ptr() as usize - self.text.as_ptr() as usize;
        let brace = start + object.get().len() - 1;
        let separator = if empty { "" } else { "," };
        self.insertions
            .push((brace, format!("{separator}{}", members.join(","))));
    }

    fn complete(mut self) -> Cow<'a, str> {
        if self.insertions.is_empty() {
            return Cow::Borrowed(self.text);
        }
        self.insertions.sort_by_key(|(offset, _)| *offset);
        let mut out = String::with_capacity(self.text.len() + 64);
        let mut done = 0;
        for (offset, text) in &self.insertions {
            out.push_str(&self.text[done..*offset]);
            out.push_str(text);
            done = *offset;
        }
        out.push_str(&self.text[done..]);
        Cow::Owned(out)
    }

    fn problem(&mut self, path: &KeyPath, message: String) {
        self.problems.push(ArgumentProblem {
            parameter: path.to_string(),
            message,
        });
    }
}

/// An object's members; of two with one name the last counts.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    members.insert(name, value);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect).map(Members)
    }
}

fn is_of(raw: &RawValue, kind: ParameterType) -> bool {
    let text = raw.get();
    match (kind, text.as_bytes().first()) {
        (ParameterType::String, first) => first == Some(&b'"'),
        (ParameterType::Boolean, first) => matches!(first, Some(b't' | b'f')),
        (ParameterType::Array, first) => first == Some(&b'['),
        (ParameterType::Object, first) => first == Some(&b'{'),
        (ParameterType::Number, first) => matches!(first, Some(b'-' | b'0'..=b'9')),
        (ParameterType::Integer, first) => matches!(first, Some(b'-' | b'0'..=b'9')) && is_whole(text),
    }
}

/// JSON Schema's integers: `10`, `1.0` and `1e2`, of any size.
fn is_whole(number: &str) -> bool {
    if number.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit()) {
        return true;
    }
    // What overflows a float has an exponent so large that no fraction is left.
    number
        .parse::<f64>()
        .is_ok_and(|value| value.is_infinite() || value.fract() == 0.0)
}

fn equal(raw: &RawValue, option: &Value) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(raw.get()) else {
        return false;
    };
    match (value.as_f64(), option.as_f64()) {
        // Integers beyond 2^53 differ as integers although their floats are the same.
        (Some(a), Some(b)) if value.is_f64() || option.is_f64() => a.total_cmp(&b).is_eq(),
        _ => value == *option,
    }
}

fn article(kind: ParameterType) -> String {
    let article = if matches!(
        kind,
        ParameterType::Integer | ParameterType::Array | ParameterType::Object
    ) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}

/// The type of a value; never its content, which may be private.
fn describe(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ if is_whole(raw.get()) => "an integer",
        _ => "a number",
    }
}
