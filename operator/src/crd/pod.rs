//! The schema of `spec.workload.template`: what an actor's pod must have, and everything else let through.
//!
//! Only what the rules look at is declared (contract operator §1.6); a pod has hundreds of other fields, newer ones than
//! this program knows among them, and all of them are kept.

use serde_json::{Value, json};

/// The whole template.
pub(super) fn template() -> Value {
    json!({
        "type": "object",
        "description": "The pod template. Fields of a Kubernetes `PodTemplateSpec` pass through as they are.",
        "required": ["spec"],
        "properties": {
            "metadata": open(
                "Labels and annotations of the pods.",
                json!({
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
                }),
            ),
            "spec": pod(),
        },
    })
}

fn pod() -> Value {
    let mut schema = open(
        "A Kubernetes `PodSpec` with exactly one container named `asya-runtime`.",
        json!({
            "containers": list("The containers; the one named `asya-runtime` runs the handler.", container()),
            "initContainers": list("Containers that run before.", container()),
            "restartPolicy": {"type": "string", "description": "`Always`; `OnFailure` or `Never` for a `Job`."},
            "volumes": list("Volumes of the pod.", named("A volume.", json!({}))),
        }),
    );
    schema["required"] = json!(["containers"]);
    schema["properties"]["containers"]["minItems"] = 1.into();
    schema
}

fn container() -> Value {
    named(
        "A container.",
        json!({
            "image": {"type": "string"},
            "command": list("Entry point.", json!({"type": "string"})),
            "args": list("Arguments.", json!({"type": "string"})),
            "env": list("Environment variables.", named("A variable.", json!({
                "value": {"type": "string", "description": "Its value: text. Numbers and booleans need quotes."},
                "valueFrom": open("A source of the value.", json!({})),
            }))),
            "volumeMounts": list("Mounted volumes.", named("A mount.", json!({"mountPath": {"type": "string"}}))),
        }),
    )
}

/// `ResourceRequirements`.
pub(super) fn resources() -> Value {
    const QUANTITY: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";
    let quantities = |description: &str| {
        json!({
            "type": "object",
            "description": description,
            "additionalProperties": {"x-kubernetes-int-or-string": true, "pattern": QUANTITY},
        })
    };
    open(
        "Kubernetes `ResourceRequirements`.",
        json!({
            "limits": quantities("The most of each resource."),
            "requests": quantities("What is set aside of each resource."),
        }),
    )
}

/// An object with a name, and anything else.
fn named(description: &str, properties: Value) -> Value {
    let mut schema = open(description, properties);
    schema["required"] = json!(["name"]);
    schema["properties"]["name"] = json!({"type": "string"});
    schema
}

/// An object of which some fields are declared and all are kept.
fn open(description: &str, properties: Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": description,
        "x-kubernetes-preserve-unknown-fields": true,
    });
    schema["properties"] = properties;
    schema
}

fn list(description: &str, items: Value) -> Value {
    let mut schema = json!({"type": "array", "description": description});
    schema["items"] = items;
    schema
}
