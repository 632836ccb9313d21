//! Volumes of the pod and mounts of a container (contract operator §6.2, §6.3).

use asya_manifest::RuntimeKind;
use serde_json::{Map, Value, json};

use super::lists::{at, put, text};
use super::{SCRIPT_PATH, SOCKET_DIR};
use crate::desired::{DesiredError, Inputs};

/// Volume of the runtime's socket.
const SOCKETS: &str = "socket-dir";
/// Volume of `/tmp`.
const TEMPORARY: &str = "tmp";
/// Volume and `ConfigMap` of the runtime script.
const SCRIPT: &str = "asya-runtime";

/// Appends the volumes to the pod.
pub(super) fn inject(inputs: &Inputs<'_>, spec: &mut Map<String, Value>) -> Result<(), DesiredError> {
    let volumes = at(spec, "volumes", "spec.workload.template.spec")?;
    put(volumes, json!({"name": SOCKETS, "emptyDir": {}}), "name");
    put(volumes, json!({"name": TEMPORARY, "emptyDir": {}}), "name");
    if inputs.actor.spec.workload.runtime == RuntimeKind::Python {
        let script = json!({"name": SCRIPT, "configMap": {"name": SCRIPT, "defaultMode": 0o755}});
        put(volumes, script, "name");
    }
    Ok(())
}

/// The sidecar's mounts.
pub(super) fn of_sidecar() -> Value {
    json!([mount_of_sockets(), mount_of_temporary()])
}

/// Appends the runtime's mounts to its own. A native runtime gets the socket alone (rulings 25).
pub(super) fn mount(runtime: RuntimeKind, mounts: &mut Vec<Value>) {
    put(mounts, mount_of_sockets(), "mountPath");
    if runtime == RuntimeKind::Native {
        return;
    }
    // Two mounts on one path are refused; whoever brings a volume for `/tmp` keeps it.
    if !mounts
        .iter()
        .any(|mount| text(mount, "mountPath").is_some_and(|path| path.trim_end_matches('/') == "/tmp"))
    {
        mounts.push(mount_of_temporary());
    }
    let script =
        json!({"name": SCRIPT, "mountPath": SCRIPT_PATH, "subPath": "asya_runtime.py", "readOnly": true});
    put(mounts, script, "mountPath");
}

fn mount_of_sockets() -> Value {
    json!({"name": SOCKETS, "mountPath": SOCKET_DIR})
}

fn mount_of_temporary() -> Value {
    json!({"name": TEMPORARY, "mountPath": "/tmp"})
}
