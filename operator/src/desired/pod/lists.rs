//! Kubernetes' lists of named things: finding, replacing, merging.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::references::{escape, substitute};
use super::refused;
use crate::desired::DesiredError;

/// The list under `key`, made if it is absent. `path` says in errors where `object` stands.
pub(super) fn at<'a>(
    object: &'a mut Map<String, Value>,
    key: &str,
    path: &str,
) -> Result<&'a mut Vec<Value>, DesiredError> {
    let list = object.entry(key).or_insert(Value::Null);
    if list.is_null() {
        *list = Value::Array(Vec::new());
    }
    match list {
        Value::Array(list) => Ok(list),
        _ => Err(refused(format!("{path}.{key}"), "must be a list")),
    }
}

/// The text of a field.
pub(super) fn text<'a>(item: &'a Value, key: &str) -> Option<&'a str> {
    item.get(key).and_then(Value::as_str)
}

/// Replaces the item that has the same text under `key`, or appends.
pub(super) fn put(list: &mut Vec<Value>, item: Value, key: &str) {
    match list.iter_mut().find(|other| text(other, key) == text(&item, key)) {
        Some(other) => *other = item,
        None => list.push(item),
    }
}

/// Appends, after removing what has the same text under `key`.
pub(super) fn put_last(list: &mut Vec<Value>, item: Value, key: &str) {
    list.retain(|other| text(other, key) != text(&item, key));
    list.push(item);
}

/// Merges the environment of every container of a pod, see [`merge_environment`].
pub(super) fn merge_environments(spec: &mut Map<String, Value>) {
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(environment) = container.get_mut("env").and_then(Value::as_array_mut) {
                merge_environment(environment);
            }
        }
    }
}

/// Leaves one entry of each name: the last, where it stands (server-side apply refuses a name that is there twice,
/// while a kubelet takes the last one).
///
/// What refers to an earlier entry of the name as `$(NAME)` gets its literal value written in, so that
/// `PATHS=/a, PATHS=$(PATHS):/b` still means `/a:/b`.
pub(super) fn merge_environment(environment: &mut Vec<Value>) {
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for (index, entry) in environment.iter().enumerate() {
        if let Some(name) = text(entry, "name") {
            last.insert(name.to_owned(), index);
        }
    }
    let names = environment
        .iter()
        .filter(|entry| text(entry, "name").is_some())
        .count();
    if names == last.len() {
        return;
    }
    // Literal values of entries that will be dropped, as far as they have been seen.
    let mut dropped: BTreeMap<String, String> = BTreeMap::new();
    let mut index = 0;
    environment.retain_mut(|entry| {
        let here = index;
        index += 1;
        if let Some(value) = text(entry, "value") {
            let value = substitute(value, &dropped);
            entry["value"] = value.into();
        }
        let Some(name) = text(entry, "name").map(str::to_owned) else {
            return true;
        };
        if last.get(&name) == Some(&here) {
            dropped.remove(&name);
            return true;
        }
        if entry.get("valueFrom").is_none() {
            let value = text(entry, "value").unwrap_or_default().to_owned();
            dropped.insert(name, escape(&value));
        } else {
            dropped.remove(&name);
        }
        false
    });
}
