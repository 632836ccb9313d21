//! The generated parts of `docs/crd.md`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{definition, rules};

/// Fields that become variables: the field below `spec`, the container, the variable.
pub(super) const VARIABLES: [(&str, &str, &str); 19] = [
    ("limits.hops", "sidecar", "ASYA_MAX_HOPS"),
    ("limits.messageSize", "both", "ASYA_MAX_MESSAGE_SIZE"),
    ("retry.initialBackoff", "sidecar", "ASYA_RETRY_INITIAL_BACKOFF"),
    ("retry.jitter", "sidecar", "ASYA_RETRY_JITTER"),
    ("retry.maxAttempts", "sidecar", "ASYA_RETRY_MAX_ATTEMPTS"),
    ("retry.maxBackoff", "sidecar", "ASYA_RETRY_MAX_BACKOFF"),
    ("retry.maxDeliveries", "sidecar", "ASYA_MAX_DELIVERIES"),
    ("retry.maxDuration", "sidecar", "ASYA_RETRY_MAX_DURATION"),
    ("retry.multiplier", "sidecar", "ASYA_RETRY_MULTIPLIER"),
    ("retry.neverOn", "sidecar", "ASYA_RETRY_NEVER_ON"),
    ("retry.on", "sidecar", "ASYA_RETRY_ON"),
    ("retry.true", "sidecar", "ASYA_RETRY_ON"),
    ("runtime.batch.size", "runtime", "ASYA_BATCH_SIZE"),
    ("runtime.batch.wait", "runtime", "ASYA_BATCH_WAIT"),
    ("runtime.concurrency", "runtime", "ASYA_CONCURRENCY"),
    ("runtime.stream", "runtime", "ASYA_STREAM"),
    ("runtime.workers", "runtime", "ASYA_WORKERS"),
    ("timeout.gracefulShutdown", "pod", "terminationGracePeriodSeconds"),
    ("timeout.processing", "sidecar", "ASYA_RUNTIME_TIMEOUT"),
];

/// The tables of the page, each between the markers that stand there.
pub fn markdown() -> String {
    let definition = definition();
    let version = &definition["spec"]["versions"][0];
    let object = &version["schema"]["openAPIV3Schema"]["properties"];
    let parts = [
        ("fields", fields(&object["spec"])),
        ("rules", rules()),
        ("status", status(&object["status"])),
        ("columns", columns(&version["additionalPrinterColumns"])),
    ];
    let part = |(name, lines): (&str, Vec<String>)| {
        format!(
            "<!-- begin {name} -->\n\n{}\n\n<!-- end {name} -->\n",
            lines.join("\n")
        )
    };
    parts.into_iter().map(part).collect::<Vec<_>>().join("\n")
}

fn fields(spec: &Value) -> Vec<String> {
    let variables: BTreeMap<&str, String> = VARIABLES
        .iter()
        .map(|(field, container, variable)| (*field, format!("`{variable}` ({container})")))
        .collect();
    let mut lines = vec![
        "| Field | Type | Default | Allowed | Becomes | Meaning |".to_owned(),
        "|---|---|---|---|---|---|".to_owned(),
    ];
    walk(spec, "", &mut |path, field, is_required| {
        let default = match field.get("default") {
            _ if is_required => "required".to_owned(),
            Some(default) if !default.is_object() => code(default),
            _ => String::new(),
        };
        let variable = variables.get(path).map(String::as_str).unwrap_or_default();
        lines.push(format!(
            "| `{path}` | {} | {default} | {} | {variable} | {} |",
            type_of(field),
            allowed(field),
            text(field)
        ));
    });
    lines
}

fn status(status: &Value) -> Vec<String> {
    let mut lines = vec![
        "| Field | Type | Meaning |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    walk(status, "", &mut |path, field, _| {
        lines.push(format!("| `{path}` | {} | {} |", type_of(field), text(field)));
    });
    lines
}

fn rules() -> Vec<String> {
    let row = |rule: &rules::Rule| {
        let place = format!("{}{}", rule.at, rule.field);
        let place = place.trim_start_matches('.');
        format!("| `{place}` | {} |", escape(rule.message))
    };
    let head = ["| Field | What is said |".to_owned(), "|---|---|".to_owned()];
    head.into_iter().chain(rules::RULES.iter().map(row)).collect()
}

fn columns(columns: &Value) -> Vec<String> {
    let row = |column: &Value| {
        let wide = if column.get("priority").is_some() {
            "`-o wide`"
        } else {
            ""
        };
        let (name, path) = (column["name"].as_str(), column["jsonPath"].as_str());
        format!(
            "| {} | `{}` | {wide} |",
            name.unwrap_or_default(),
            path.unwrap_or_default()
        )
    };
    let head = [
        "| Column | Shows | Only with |".to_owned(),
        "|---|---|---|".to_owned(),
    ];
    head.into_iter()
        .chain(columns.as_array().into_iter().flatten().map(row))
        .collect()
}

/// Visits every field below an object, parents first.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value, bool)) {
    let required = schema["required"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let below = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        let is_required = required.iter().any(|required| required == name);
        visit(&below, field, is_required);
        walk(field, &below, visit);
        if field["items"].get("properties").is_some() {
            walk(&field["items"], &format!("{below}[]"), visit);
        }
    }
}

fn type_of(field: &Value) -> String {
    match field["type"].as_str() {
        Some("array") => format!("list of {}", type_of(&field["items"])),
        Some("object") if field.get("additionalProperties").is_some() => {
            format!("map of {}", type_of(&field["additionalProperties"]))
        }
        Some(kind) => kind.to_owned(),
        None if field.get("x-kubernetes-int-or-string").is_some() => "integer or string".to_owned(),
        None => "any".to_owned(),
    }
}

/// Bounds and words.
fn allowed(field: &Value) -> String {
    if let Some(words) = field["enum"].as_array() {
        return words.iter().map(code).collect::<Vec<_>>().join(", ");
    }
    let least = field.get("minimum").map(|least| format!("≥ {least}"));
    let most = field
        .get("maximum")
        .filter(|most| **most != i32::MAX)
        .map(|most| format!("≤ {most}"));
    let items = field.get("maxItems").map(|most| format!("≤ {most} items"));
    let length = field.get("maxLength").map(|most| format!("≤ {most} characters"));
    let known = [least, most, items, length];
    known.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn text(field: &Value) -> String {
    escape(field["description"].as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace("\n\n", " ").replace('|', "\\|")
}
