//! What the sidecar may do on its node: nothing.

use serde_json::{Map, Value, json};

use crate::desired::Inputs;

/// The sidecar's `securityContext` unless the operator was told another one; the Pod Security Standard *restricted*
/// accepts it.
pub fn hardened() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "runAsUser": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// The operator's security context for this pod.
///
/// A pod that names a user other than root for all its containers means the sidecar too: both then own the socket, and
/// a cluster that prescribes users (`OpenShift`) is content.
pub(super) fn context(inputs: &Inputs<'_>, spec: &Map<String, Value>) -> Option<Value> {
    let mut context = inputs.defaults.sidecar_security.clone();
    let pod_user = spec
        .get("securityContext")
        .and_then(|pod| pod.get("runAsUser"))
        .and_then(Value::as_u64);
    if pod_user.is_some_and(|user| user > 0)
        && let Some(context) = context.as_object_mut()
    {
        context.remove("runAsUser");
    }
    (!context.is_null()).then_some(context)
}
