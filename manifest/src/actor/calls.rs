//! How the runtime calls the handler: `spec.runtime` and the container's own variables are two ways to say the same.

use super::pod::{literal, variable};
use crate::path::KeyPath;
use crate::problem::Position;
use crate::shape::Findings;
use crate::values::GoDuration;
use crate::yaml::{Kind, Node};

/// A setting in both its forms.
struct Setting {
    /// Keys below `spec.runtime`.
    keys: &'static [&'static str],
    variable: &'static str,
    read: fn(&str) -> Option<Value>,
}

const BATCH_SIZE: Setting = Setting {
    keys: &["batch", "size"],
    variable: "ASYA_BATCH_SIZE",
    read: count,
};

const STREAM: Setting = Setting {
    keys: &["stream"],
    variable: "ASYA_STREAM",
    read: switch,
};

const SETTINGS: [Setting; 5] = [
    Setting {
        keys: &["workers"],
        variable: "ASYA_WORKERS",
        read: count,
    },
    Setting {
        keys: &["concurrency"],
        variable: "ASYA_CONCURRENCY",
        read: count,
    },
    BATCH_SIZE,
    Setting {
        keys: &["batch", "wait"],
        variable: "ASYA_BATCH_WAIT",
        read: duration,
    },
    STREAM,
];

/// The keys below `spec.runtime` that say the same as this variable.
pub(super) fn keys_of(variable: &str) -> Option<&'static [&'static str]> {
    let setting = SETTINGS.iter().find(|setting| setting.variable == variable);
    setting.map(|setting| setting.keys)
}

/// What a setting says, whichever way it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Count(i64),
    Wait(GoDuration),
    Switch(bool),
}

/// Where a setting is written, and what it says there.
struct Written {
    path: KeyPath,
    at: Position,
    text: String,
    /// None if it says nothing that the runtime could use.
    value: Option<Value>,
}

/// Reports settings that contradict each other; `container` is the one of the runtime, at `container_path`.
pub(super) fn check(
    spec: &Node,
    path: &KeyPath,
    container: &Node,
    container_path: &KeyPath,
    found: &mut Findings<'_>,
) {
    let in_spec = |setting: &Setting| in_spec(spec, path, setting);
    let in_env = |setting: &Setting| in_env(container, container_path, setting);
    for setting in &SETTINGS {
        let (Some(field), Some(own)) = (in_spec(setting), in_env(setting)) else {
            continue;
        };
        if field.value.is_some() && field.value != own.value {
            let message = format!(
                "{} is {:?} here and {} in {}",
                setting.variable, own.text, field.text, field.path
            );
            found.problem(
                own.at,
                &own.path,
                message,
                "keep one of the two: they set the same",
            );
        }
    }
    let said = |setting| in_env(setting).or_else(|| in_spec(setting));
    let (Some(stream), Some(size)) = (said(&STREAM), said(&BATCH_SIZE)) else {
        return;
    };
    let is_batch = matches!(size.value, Some(Value::Count(size)) if size > 1);
    if stream.value == Some(Value::Switch(true)) && is_batch {
        found.problem(
            stream.at,
            &stream.path,
            format!("a handler cannot both stream and take batches of {}", size.text),
            "remove one of the two: a stream belongs to one message",
        );
    }
}

fn in_spec(spec: &Node, path: &KeyPath, setting: &Setting) -> Option<Written> {
    let path = path.key("runtime").keys(setting.keys);
    let node = spec.get("runtime")?.at(setting.keys)?;
    let text = match &node.kind {
        Kind::Bool(value) => value.to_string(),
        Kind::Text(text) => text.clone(),
        _ => node.integer()?.to_string(),
    };
    Some(Written {
        path,
        at: node.position,
        value: (setting.read)(&text),
        text,
    })
}

/// An empty variable counts as none.
fn in_env(container: &Node, path: &KeyPath, setting: &Setting) -> Option<Written> {
    let (index, node) = variable(container, setting.variable)?;
    let own = literal(node).filter(|own| !own.text.is_empty())?;
    Some(Written {
        path: path.key("env").index(index).key("value"),
        at: own.at,
        text: own.text.to_owned(),
        value: (setting.read)(own.text.trim()),
    })
}

fn count(text: &str) -> Option<Value> {
    text.parse().ok().map(Value::Count)
}

fn duration(text: &str) -> Option<Value> {
    text.parse().ok().map(Value::Wait)
}

fn switch(text: &str) -> Option<Value> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(Value::Switch(true)),
        "false" | "0" | "no" => Some(Value::Switch(false)),
        _ => None,
    }
}
