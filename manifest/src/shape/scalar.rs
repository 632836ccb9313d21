//! The checks of single values.

use super::Findings;
use crate::path::KeyPath;
use crate::suggest;
use crate::values::{ByteSize, GoDuration};
use crate::yaml::{Kind, Node};

pub(super) fn expect_kind(
    node: &Node,
    holds: bool,
    expected: &str,
    path: &KeyPath,
    found: &mut Findings<'_>,
) {
    if holds {
        return;
    }
    let hint = match node.kind {
        Kind::Null => "give it a value or remove the key",
        _ => how_to_write(expected),
    };
    found.problem(
        node.position,
        path,
        format!("expected {expected}, found {}", node.describe()),
        hint,
    );
}

/// How a value of the expected kind looks in YAML.
fn how_to_write(expected: &str) -> &'static str {
    match expected {
        "a mapping" => "write `key: value` lines, indented below the key",
        "a list" => "write `- item` lines, indented below the key",
        "an integer" => "write a whole number, without quotes or unit",
        "a number" => "write a number such as 2 or 0.5, without quotes",
        "a duration" => "write it like 500ms, 30s or 1h30m",
        "a size in bytes" => "write bytes, or a quantity like 64Mi or 10M",
        _ => "write one value on the line of its key",
    }
}

pub(super) fn conform_text(node: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    match (&node.kind, node.plain.as_deref()) {
        (Kind::Text(_), Some(plain)) if node.older_bool().is_some() => {
            let message = format!("expected text, but Kubernetes reads an unquoted {plain} as a boolean");
            found.problem(node.position, path, message, &format!("quote it: \"{plain}\""));
        }
        (Kind::Text(_), _) => {}
        (Kind::Bool(_) | Kind::Number(_), Some(plain)) => {
            let message = format!("expected text, found {}", node.describe());
            found.problem(node.position, path, message, &format!("quote it: \"{plain}\""));
        }
        _ => expect_kind(node, false, "text", path, found),
    }
}

pub(super) fn conform_scalar(node: &mut Node, path: &KeyPath, found: &mut Findings<'_>) {
    match (&node.kind, &node.plain) {
        (Kind::Text(_), _) => {}
        (Kind::Bool(_) | Kind::Number(_), Some(plain)) => node.kind = Kind::Text(plain.clone()),
        _ => expect_kind(node, false, "text", path, found),
    }
}

pub(super) fn conform_bool(node: &mut Node, path: &KeyPath, found: &mut Findings<'_>) {
    if let Some(value) = node.older_bool() {
        node.kind = Kind::Bool(value);
        return;
    }
    match &node.kind {
        Kind::Bool(_) => {}
        Kind::Text(text) if text == "true" || text == "false" => {
            let (message, hint) = (
                format!("expected a boolean, found {}", node.describe()),
                "remove the quotes",
            );
            found.problem(node.position, path, message, hint);
        }
        _ => {
            let message = format!("expected a boolean, found {}", node.describe());
            found.problem(node.position, path, message, "write true or false");
        }
    }
}

pub(super) fn conform_integer(node: &Node, least: i64, most: i64, path: &KeyPath, found: &mut Findings<'_>) {
    match (&node.kind, node.integer()) {
        (_, Some(value)) if value < least => {
            let hint = format!("give {least} or more");
            found.problem(
                node.position,
                path,
                format!("must be at least {least}, is {value}"),
                &hint,
            );
        }
        (_, Some(value)) if value > most => {
            let hint = format!("give at most {most}");
            found.problem(node.position, path, format!("{value} is too large"), &hint);
        }
        (_, Some(_)) => {}
        (Kind::Text(text), None) if text.parse::<i64>().is_ok() => {
            let message = format!("expected an integer, found {}", node.describe());
            found.problem(
                node.position,
                path,
                message,
                &format!("remove the quotes: {text}"),
            );
        }
        _ => expect_kind(node, false, "an integer", path, found),
    }
}

pub(super) fn conform_number(node: &Node, least: f64, most: f64, path: &KeyPath, found: &mut Findings<'_>) {
    let Kind::Number(number) = &node.kind else {
        return expect_kind(node, false, "a number", path, found);
    };
    let in_range = number
        .as_f64()
        .is_some_and(|value| (least..=most).contains(&value));
    if !in_range {
        let range = if most.is_finite() {
            format!("{least} to {most}")
        } else {
            format!("at least {least}")
        };
        found.problem(
            node.position,
            path,
            format!("{number} is out of range"),
            &format!("allowed: {range}"),
        );
    }
}

pub(super) fn conform_choice(node: &Node, words: &[&'static str], path: &KeyPath, found: &mut Findings<'_>) {
    let Some(text) = node.text() else {
        return conform_text(node, path, found);
    };
    if words.contains(&text) {
        return;
    }
    let all = words.join(", ");
    let hint = match suggest::nearest(text, words.iter().copied()) {
        Some(word) => format!("did you mean {word}? Allowed: {all}"),
        None => format!("allowed: {all}"),
    };
    found.problem(
        node.position,
        path,
        format!("{text:?} is not allowed here"),
        &hint,
    );
}

pub(super) fn conform_duration(node: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    match &node.kind {
        Kind::Text(text) => {
            if let Err(error) = text.parse::<GoDuration>() {
                found.problem(
                    node.position,
                    path,
                    error.to_string(),
                    "write it like 500ms, 30s or 1h30m",
                );
            }
        }
        Kind::Number(number) => {
            let message = format!("expected a duration with a unit, found the number {number}");
            found.problem(
                node.position,
                path,
                message,
                &format!("for seconds write {number}s"),
            );
        }
        _ => expect_kind(node, false, "a duration", path, found),
    }
}

pub(super) fn conform_bytes(node: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    match &node.kind {
        Kind::Text(text) => {
            if let Err(error) = text.parse::<ByteSize>() {
                found.problem(
                    node.position,
                    path,
                    error.to_string(),
                    "write bytes, or a quantity like 64Mi or 10M",
                );
            }
        }
        Kind::Number(number) if number.as_u64().is_some_and(|bytes| bytes > 0) => {}
        Kind::Number(number) => {
            found.problem(
                node.position,
                path,
                format!("{number} is not a size"),
                "give a count of bytes above 0",
            );
        }
        _ => expect_kind(node, false, "a size in bytes", path, found),
    }
}
