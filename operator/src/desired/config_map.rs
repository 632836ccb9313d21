//! The `ConfigMap` with the runtime script (contract operator §8.5).

use serde_json::json;

use super::metadata::{MANAGED_BY, MANAGED_BY_LABEL};
use super::{Kind, Object, Script};

/// Name of the `ConfigMap`, the same in every namespace.
const NAME: &str = "asya-runtime";
/// Key of the script in its data.
const KEY: &str = "asya_runtime.py";

/// The runtime script of one namespace. It belongs to no actor, and stays when the last one goes; other keys that
/// somebody put into it are left alone by server-side apply.
pub fn runtime_config_map(namespace: &str, script: &Script) -> Object {
    let (api_version, kind, _) = Kind::ConfigMap.names();
    let body = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": {
                "app.kubernetes.io/name": NAME,
                "app.kubernetes.io/component": "runtime",
                "app.kubernetes.io/part-of": "asya",
                MANAGED_BY_LABEL: MANAGED_BY,
            },
        },
        "data": { KEY: script.text },
    });
    Object {
        kind: Kind::ConfigMap,
        namespace: namespace.to_owned(),
        name: NAME.to_owned(),
        body,
    }
}
