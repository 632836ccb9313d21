//! The custom resource definition, made from the Rust types.

use serde_json::Value;

/// The whole definition.
pub fn definition() -> Value {
    Value::Null
}
