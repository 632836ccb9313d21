//! Tools as `tools/list` shows them. Pure.

use std::sync::Arc;

use asya_manifest::{Tool, ToolMode, Tools};
use rmcp::model::{self, JsonObject, MetaObject, ToolAnnotations};
use serde_json::{Map, Value, json};

use super::message::Era;

/// All tools, sorted by name.
pub(super) fn list(tools: &Tools, era: Era) -> Vec<model::Tool> {
    let mut tools: Vec<&Tool> = tools.tools.iter().collect();
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    tools.into_iter().map(|tool| describe(tool, era)).collect()
}

fn describe(tool: &Tool, era: Era) -> model::Tool {
    let description = Some(tool.description.clone()).filter(|text| !text.is_empty());
    let mut shown = model::Tool::new_with_raw(
        tool.name.clone(),
        description.map(Into::into),
        Arc::new(object(tool.input_schema())),
    );
    shown.title.clone_from(&tool.title);
    shown.annotations = Some(annotations(tool.annotations.as_ref()));
    shown.output_schema = output_schema(tool, era).map(Arc::new);
    if tool.mode != ToolMode::Handle {
        let mut meta = MetaObject::default();
        meta.insert(super::MODE_KEY.to_owned(), json!(tool.mode.as_str()));
        shown.meta = Some(meta);
    }
    shown
}

/// What the original says of every tool (contract gateway §2.7), with what the tool says of itself.
fn annotations(own: Option<&Map<String, Value>>) -> ToolAnnotations {
    let mut hints = Map::from_iter([
        ("readOnlyHint".to_owned(), json!(false)),
        ("destructiveHint".to_owned(), json!(true)),
        ("idempotentHint".to_owned(), json!(false)),
        ("openWorldHint".to_owned(), json!(true)),
    ]);
    hints.extend(own.cloned().unwrap_or_default());
    serde_json::from_value(Value::Object(hints)).unwrap_or_default()
}

/// The schema of structured content: of the result, or of the handle that a call may be answered with instead. Clients
/// check what they get against it, so a schema of the result alone would make them refuse a handle.
fn output_schema(tool: &Tool, era: Era) -> Option<JsonObject> {
    let result = tool.output_schema.as_ref()?;
    let is_object = result.get("type").and_then(Value::as_str) == Some("object");
    let mut schema = Map::new();
    match era {
        // Structured content is an object for old clients, so a result of another type has none.
        Era::Handshake if !is_object => return None,
        Era::Handshake => {
            schema.insert("type".to_owned(), json!("object"));
        }
        Era::Stateless => {}
    }
    let mut result = result.as_object().cloned().unwrap_or_default();
    // References of the schema count from its root, which is one level up now.
    for key in ["$schema", "$id", "$defs", "definitions"] {
        if let Some(value) = result.remove(key) {
            schema.insert(key.to_owned(), value);
        }
    }
    schema.insert("anyOf".to_owned(), json!([result, handle_schema()]));
    Some(schema)
}

/// The schema of the handle (contract gateway §3).
fn handle_schema() -> Value {
    json!({
        "title": "Handle",
        "description": "Where the envelope is looked after while it is on its way",
        "type": "object",
        "properties": {
            "envelope_id": {"type": "string"},
            "message": {"type": "string"},
            "metadata": {"type": "object"},
            "status_url": {"type": "string"},
            "stream_url": {"type": "string"}
        },
        "required": ["envelope_id", "message", "status_url"]
    })
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}
