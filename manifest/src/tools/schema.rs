//! Parameters as JSON Schema 2020-12 (contract gateway §2.7).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Parameter, ParameterType, Tool};

impl Tool {
    /// The JSON Schema (2020-12) of the arguments: always an object; `properties` and `required` only when there
    /// are any.
    pub fn input_schema(&self) -> Value {
        Value::Object(object_schema(&self.parameters, self.additional_properties))
    }
}

impl Parameter {
    /// The JSON Schema (2020-12) of one value.
    pub fn schema(&self) -> Value {
        let mut schema = match self.kind {
            ParameterType::Object => object_schema(&self.properties, self.additional_properties),
            kind => Map::from_iter([("type".to_owned(), json!(kind.name()))]),
        };
        if let (ParameterType::Array, Some(items)) = (self.kind, &self.items) {
            schema.insert("items".to_owned(), items.schema());
        }
        if !self.description.is_empty() {
            schema.insert("description".to_owned(), json!(self.description));
        }
        if !self.options.is_empty() {
            schema.insert("enum".to_owned(), json!(self.options));
        }
        if let Some(default) = &self.default {
            schema.insert("default".to_owned(), default.clone());
        }
        Value::Object(schema)
    }
}

fn object_schema(properties: &BTreeMap<String, Parameter>, additional: bool) -> Map<String, Value> {
    let mut schema = Map::from_iter([("type".to_owned(), json!("object"))]);
    if !properties.is_empty() {
        let members: Map<String, Value> = properties
            .iter()
            .map(|(name, parameter)| (name.clone(), parameter.schema()))
            .collect();
        schema.insert("properties".to_owned(), Value::Object(members));
    }
    let required: Vec<&String> = properties
        .iter()
        .filter(|(_, parameter)| parameter.required)
        .map(|(name, _)| name)
        .collect();
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    if !additional {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    schema
}
