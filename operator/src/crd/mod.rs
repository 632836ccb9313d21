//! The custom resource definition, made from the Rust types.
//!
//! What it is: [`definition`], the object that an API server takes, from [`asya_manifest::Spec`] and
//! [`crate::status::Status`]. The file in `charts/` is this object and a test holds the two together.
//!
//! What it is not: the only place where manifests are checked. Servers without CEL, and objects admitted under an older
//! definition, are why the controller checks again.

mod convert;
mod markdown;
mod pod;
mod rules;
mod schema;

use asya_manifest::{GROUP, KIND, Spec, UNQUOTED_ON};
use serde_json::{Value, json};

use crate::resource::{CRD_NAME, VERSION};
use crate::status::Status;
pub use convert::convert;
pub use markdown::markdown;
use schema::Defaults;

/// The whole definition.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": format!("{KIND}List"),
                "plural": "asyncactors",
                "singular": "asyncactor",
                "shortNames": ["asyncactor", "asya", "asyas"],
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "additionalPrinterColumns": columns(),
                "schema": {"openAPIV3Schema": object()},
            }],
        },
    })
}

fn object() -> Value {
    let mut object = json!({
        "type": "object",
        "description": "An actor: a handler in a pod, its queue, and how many of them run.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": spec(),
            "status": status(),
        },
    });
    rules::add_to(&mut object);
    object
}

fn spec() -> Value {
    let mut schema = schema::of::<Spec>(Defaults::Written);
    let fields = &mut schema["properties"];
    fields["workload"]["properties"]["template"] = pod::template();
    fields["sidecar"]["properties"]["resources"] = pod::resources();
    let retry = &mut fields["retry"]["properties"];
    let mut unquoted = retry["on"].clone();
    unquoted["description"] = "What an unquoted `on` becomes on its way: the same as `on`.".into();
    retry[UNQUOTED_ON] = unquoted;
    fields["socket"] = inert();
    fields["scaling"]["properties"]["advanced"]["properties"]["triggers"] = inert();
    schema
}

/// A field that older documents show and nothing ever read: kept, so that their manifests are admitted.
fn inert() -> Value {
    json!({
        "description": "Has no effect and never had.",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// `status`, which objects of earlier operators have too: nothing in it is refused.
fn status() -> Value {
    let mut schema = schema::of::<Status>(Defaults::Silent);
    let conditions = &mut schema["properties"]["conditions"];
    conditions["x-kubernetes-list-type"] = "map".into();
    conditions["x-kubernetes-list-map-keys"] = json!(["type"]);
    conditions["items"]["required"] = json!(["type"]);
    schema
}

/// Columns of `kubectl get`, in order (contract operator §1.4); those at the end are shown by `-o wide` only.
fn columns() -> Value {
    const NARROW: [(&str, &str, &str); 9] = [
        ("Status", "string", ".status.status"),
        ("Running", "integer", ".status.replicas"),
        ("Failing", "integer", ".status.failingPods"),
        ("Total", "integer", ".status.totalReplicas"),
        ("Desired", "integer", ".status.desiredReplicas"),
        ("Min", "integer", ".spec.scaling.minReplicas"),
        ("Max", "integer", ".spec.scaling.maxReplicas"),
        ("Last-Scale", "string", ".status.lastScaleFormatted"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ];
    const WIDE: [(&str, &str, &str); 5] = [
        ("Workload", "string", ".spec.workload.kind"),
        ("Transport", "string", ".status.transportStatus"),
        ("Scaling", "string", ".status.scalingMode"),
        ("Queued", "integer", ".status.queuedMessages"),
        ("Processing", "integer", ".status.processingMessages"),
    ];
    let column = |(name, kind, path): (&str, &str, &str), priority: u8| {
        let mut column = json!({"name": name, "type": kind, "jsonPath": path});
        if priority > 0 {
            column["priority"] = priority.into();
        }
        column
    };
    let narrow = NARROW.into_iter().map(|each| column(each, 0));
    narrow
        .chain(WIDE.into_iter().map(|each| column(each, 1)))
        .collect()
}

#[cfg(test)]
mod tests;
