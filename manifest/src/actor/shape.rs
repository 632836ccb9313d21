//! The keys and types that an AsyncActor manifest may have.

use crate::shape::{Field, Record, Shape, at_least};

/// A whole AsyncActor document.
pub(crate) static MANIFEST: Record = closed(&[
    Field::required("apiVersion", Shape::Choice(&[super::API_VERSION])),
    Field::required("kind", Shape::Choice(&[super::KIND])),
    Field::required("metadata", Shape::Record(&METADATA)),
    Field::required("spec", Shape::Record(&SPEC)),
    Field::optional("status", Shape::Any),
]);

/// `ObjectMeta`, complete, so that what `kubectl get -o yaml` prints can be read.
static METADATA: Record = closed(&[
    Field::required("name", Shape::Text),
    Field::optional("namespace", Shape::Text),
    Field::nullable("labels", Shape::MapOf(&Shape::Text)),
    Field::nullable("annotations", Shape::MapOf(&Shape::Text)),
    Field::optional("generateName", Shape::Any),
    Field::optional("finalizers", Shape::Any),
    Field::optional("ownerReferences", Shape::Any),
    Field::optional("managedFields", Shape::Any),
    Field::optional("uid", Shape::Any),
    Field::optional("resourceVersion", Shape::Any),
    Field::optional("generation", Shape::Any),
    Field::optional("creationTimestamp", Shape::Any),
    Field::optional("deletionTimestamp", Shape::Any),
    Field::optional("deletionGracePeriodSeconds", Shape::Any),
    Field::optional("selfLink", Shape::Any),
]);

pub(crate) static SPEC: Record = Record {
    fields: &[
        Field::required("transport", Shape::Text),
        Field::optional("sidecar", Shape::Record(&SIDECAR)),
        Field::optional("timeout", Shape::Record(&TIMEOUT)),
        Field::optional("scaling", Shape::Record(&SCALING)),
        Field::optional("retry", Shape::Record(&RETRY)),
        Field::optional("runtime", Shape::Record(&RUNTIME)),
        Field::optional("limits", Shape::Record(&LIMITS)),
        Field::optional("queue", Shape::Record(&QUEUE)),
        Field::required("workload", Shape::Record(&WORKLOAD)),
    ],
    open: false,
    inert: &["socket"],
};

static SIDECAR: Record = closed(&[
    Field::optional("image", Shape::Text),
    Field::optional(
        "imagePullPolicy",
        Shape::Choice(&["Always", "IfNotPresent", "Never"]),
    ),
    Field::optional("resources", Shape::Object),
    Field::optional("env", Shape::List(&Shape::Record(&ENV_VAR))),
]);

static TIMEOUT: Record = closed(&[
    Field::optional("processing", at_least(0)),
    Field::optional("gracefulShutdown", at_least(0)),
]);

static SCALING: Record = closed(&[
    Field::optional("enabled", Shape::Bool),
    Field::optional("minReplicas", at_least(0)),
    Field::optional("maxReplicas", at_least(1)),
    Field::optional("pollingInterval", at_least(0)),
    Field::optional("cooldownPeriod", at_least(0)),
    Field::optional("queueLength", at_least(1)),
    Field::optional("advanced", Shape::Record(&ADVANCED)),
    Field::optional("behavior", Shape::Object),
]);

static ADVANCED: Record = Record {
    fields: &[
        Field::optional("formula", Shape::Text),
        Field::optional("target", Shape::Text),
        Field::optional("activationTarget", Shape::Text),
        Field::optional(
            "metricType",
            Shape::Choice(&["AverageValue", "Value", "Utilization"]),
        ),
        Field::optional("restoreToOriginalReplicaCount", Shape::Bool),
    ],
    open: false,
    inert: &["triggers"],
};

static RETRY: Record = closed(&[
    Field::optional("maxAttempts", at_least(1)),
    Field::optional("initialBackoff", Shape::Duration),
    Field::optional("maxBackoff", Shape::Duration),
    Field::optional(
        "multiplier",
        Shape::Number {
            least: 1.0,
            most: f64::INFINITY,
        },
    ),
    Field::optional(
        "jitter",
        Shape::Number {
            least: 0.0,
            most: 1.0,
        },
    ),
    Field::optional("maxDuration", Shape::Duration),
    Field::optional("on", Shape::List(&Shape::Text)),
    Field::optional(super::UNQUOTED_ON, Shape::List(&Shape::Text)),
    Field::optional("neverOn", Shape::List(&Shape::Text)),
    Field::optional("maxDeliveries", at_least(1)),
]);

static RUNTIME: Record = closed(&[
    Field::optional("workers", Shape::Integer { least: 1, most: 256 }),
    Field::optional("concurrency", Shape::Integer { least: 1, most: 4096 }),
    Field::optional("batch", Shape::Record(&BATCH)),
    Field::optional("stream", Shape::Bool),
]);

static BATCH: Record = closed(&[
    Field::optional("size", Shape::Integer { least: 1, most: 4096 }),
    Field::optional("wait", Shape::Duration),
]);

static LIMITS: Record = closed(&[
    Field::optional("messageSize", Shape::Bytes),
    Field::optional("hops", at_least(1)),
]);

static QUEUE: Record = closed(&[Field::optional(
    "deletionPolicy",
    Shape::Choice(&["DeleteIfEmpty", "Delete", "Retain"]),
)]);

const KINDS: &[&str] = &["Deployment", "StatefulSet", "Job"];

static WORKLOAD: Record = closed(&[
    Field::optional("kind", Shape::Choice(KINDS)),
    Field::optional("type", Shape::Choice(KINDS)),
    Field::optional("replicas", at_least(0)),
    Field::optional("pythonExecutable", Shape::Text),
    Field::optional("runtime", Shape::Choice(&["python", "native"])),
    Field::optional("volumeClaimTemplates", Shape::List(&Shape::Object)),
    Field::optional("serviceName", Shape::Text),
    Field::optional("strategy", Shape::Object),
    Field::optional("disruptionBudget", Shape::Bool),
    Field::required("template", Shape::Record(&TEMPLATE)),
]);

static TEMPLATE: Record = closed(&[
    Field::nullable("metadata", Shape::Record(&POD_METADATA)),
    Field::required("spec", Shape::Record(&POD)),
]);

static POD_METADATA: Record = open(&[
    Field::nullable("labels", Shape::MapOf(&Shape::Text)),
    Field::nullable("annotations", Shape::MapOf(&Shape::Text)),
]);

static POD: Record = open(&[
    Field::required("containers", Shape::List(&Shape::Record(&CONTAINER))),
    Field::nullable("initContainers", Shape::List(&Shape::Record(&CONTAINER))),
    Field::nullable("volumes", Shape::List(&Shape::Record(&VOLUME))),
]);

static CONTAINER: Record = open(&[
    Field::required("name", Shape::Text),
    Field::nullable("image", Shape::Text),
    Field::nullable("command", Shape::List(&Shape::Text)),
    Field::nullable("args", Shape::List(&Shape::Text)),
    Field::nullable("env", Shape::List(&Shape::Record(&ENV_VAR))),
    Field::nullable("envFrom", Shape::List(&Shape::Object)),
    Field::nullable("volumeMounts", Shape::List(&Shape::Record(&VOLUME_MOUNT))),
]);

static VOLUME: Record = open(&[Field::required("name", Shape::Text)]);

static VOLUME_MOUNT: Record = open(&[
    Field::required("name", Shape::Text),
    Field::required("mountPath", Shape::Text),
]);

static ENV_VAR: Record = closed(&[
    Field::required("name", Shape::Text),
    Field::nullable("value", Shape::Text),
    Field::nullable("valueFrom", Shape::Object),
]);

const fn closed(fields: &'static [Field]) -> Record {
    Record {
        fields,
        open: false,
        inert: &[],
    }
}

const fn open(fields: &'static [Field]) -> Record {
    Record {
        fields,
        open: true,
        inert: &[],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::actor::Spec;

    /// The record's and the schema's fields agree, level by level, as do bounds, words and what is required.
    fn compare(record: &Record, schema: &Value, root: &Value, path: &str) {
        let properties = schema["properties"]
            .as_object()
            .unwrap_or_else(|| panic!("{path} is an object"));
        let is_alias = |field: &&Field| field.name == crate::actor::UNQUOTED_ON;
        let known: BTreeSet<&str> = record
            .fields
            .iter()
            .filter(|field| !is_alias(field))
            .map(|field| field.name)
            .collect();
        assert_eq!(
            known,
            properties.keys().map(String::as_str).collect(),
            "fields of {path}"
        );
        let required = schema["required"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        for field in record.fields.iter().filter(|field| !is_alias(field)) {
            let path = format!("{path}.{}", field.name);
            let property = resolve(&properties[field.name], root);
            assert_eq!(
                field.required,
                required.iter().any(|name| name == field.name),
                "{path} required"
            );
            match &field.shape {
                // The pod is raw JSON in the types.
                Shape::Record(inner) if inner.open || field.name == "template" => {}
                Shape::Record(inner) => compare(inner, property, root, &path),
                Shape::Integer { least, most } => {
                    assert_eq!(property["minimum"].as_i64(), Some(*least), "{path} minimum");
                    let open = i64::from(i32::MAX);
                    assert_eq!(
                        property["maximum"].as_i64().unwrap_or(open),
                        *most,
                        "{path} maximum"
                    );
                }
                Shape::Choice(words) => {
                    let choices: BTreeSet<&str> = choices(property);
                    assert_eq!(
                        words.iter().copied().collect::<BTreeSet<_>>(),
                        choices,
                        "{path} words"
                    );
                }
                _ => {}
            }
        }
    }

    /// Follows `$ref`, also through the `anyOf` of an optional field.
    fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
        let schema = schema["anyOf"].as_array().map_or(schema, |variants| &variants[0]);
        let Some(reference) = schema["$ref"].as_str() else {
            return schema;
        };
        root.pointer(reference.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{reference} exists"))
    }

    fn choices(schema: &Value) -> BTreeSet<&str> {
        let variants = schema["oneOf"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|variant| &variant["const"]);
        variants
            .chain(schema["enum"].as_array().into_iter().flatten())
            .filter_map(Value::as_str)
            .collect()
    }

    #[test]
    fn what_is_admitted_is_what_the_types_hold() {
        let schema = schemars::schema_for!(Spec).to_value();
        compare(&SPEC, &schema, &schema, "spec");
    }
}
