//! The answer to a tool call that made an envelope (contract gateway §3).

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::submit::Submitted;

/// Members in the order in which the original writes them.
#[derive(Serialize)]
struct Handle<'a> {
    envelope_id: &'a str,
    message: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: &'a BTreeMap<String, String>,
    status_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream_url: Option<String>,
}

impl<'a> Handle<'a> {
    fn new(submitted: &'a Submitted) -> Self {
        let (id, tool) = (submitted.record.id.as_str(), &submitted.tool);
        Self {
            envelope_id: id,
            message: "Envelope created successfully",
            metadata: &tool.metadata,
            status_url: format!("/envelopes/{id}"),
            stream_url: tool.progress.then(|| format!("/envelopes/{id}/stream")),
        }
    }
}

/// The answer as JSON text, members in the contract's order.
pub fn handle_text(submitted: &Submitted) -> String {
    // Strings and maps of strings are always JSON.
    serde_json::to_string(&Handle::new(submitted)).unwrap_or_default()
}

/// The same answer as a value, for structured content.
pub fn structured(submitted: &Submitted) -> Value {
    serde_json::to_value(Handle::new(submitted)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use asya_gateway_store::Record;
    use asya_manifest::Tools;
    use chrono::Utc;

    use super::*;
    use crate::core::testing::record;

    fn submitted(yaml: &str) -> Submitted {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tools.yaml");
        fs::write(&file, format!("tools:\n- {{name: t, route: [a], {yaml}}}\n")).unwrap();
        Submitted {
            record: Record {
                created_at: Utc::now(),
                ..record("e1")
            },
            tool: Arc::new(Tools::load(&file).unwrap().tools.remove(0)),
            repeated: false,
        }
    }

    #[test]
    fn the_text_is_that_of_the_original_byte_for_byte() {
        assert_eq!(
            handle_text(&submitted("progress: false")),
            r#"{"envelope_id":"e1","message":"Envelope created successfully","status_url":"/envelopes/e1"}"#
        );
        assert_eq!(
            handle_text(&submitted("progress: true, metadata: {b: '2', a: 'x\"y'}")),
            r#"{"envelope_id":"e1","message":"Envelope created successfully","metadata":{"a":"x\"y","b":"2"},"#.to_owned()
                + r#""status_url":"/envelopes/e1","stream_url":"/envelopes/e1/stream"}"#
        );
    }

    #[test]
    fn the_structure_says_what_the_text_says() {
        let submitted = submitted("progress: true, metadata: {a: b}");
        let text: Value = serde_json::from_str(&handle_text(&submitted)).unwrap();
        assert_eq!(structured(&submitted), text);
    }
}
