//! The pod template of an actor: the user's own template with a sidecar beside the runtime (contract operator §6).
//!
//! What it is: pure injection into untyped JSON. Everything that the user wrote passes through whole, fields newer than
//! this program included; what is injected replaces whatever stood there under the same name, so injecting twice gives
//! the same as once. What it is not: a check of the template, which is done before (contract operator §5).
//!
//! Start reading at [`template`]. The sidecar's container is in `sidecar`, its environment in `sidecar_env`, the
//! runtime's container in `runtime`; `lists` has the tools for Kubernetes' lists of named things.

mod job;
mod lists;
mod metadata;
mod mode;
mod probes;
mod references;
mod runtime;
mod security;
mod sidecar;
mod sidecar_env;
#[cfg(test)]
mod tests;
mod transport_env;
mod volumes;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub use security::hardened;

use super::service_account::Account;
use super::{DesiredError, Inputs, SidecarMode};
use crate::resource::Actor;

/// Where both containers meet (contract operator §2).
const SOCKET_DIR: &str = "/var/run/asya";
/// Where the runtime script lies in the pod (contract operator §2).
const SCRIPT_PATH: &str = "/opt/asya/asya_runtime.py";

/// The pod template `{metadata, spec}` of the inputs' actor, ready for any kind of workload.
///
/// `labels` are those of the workload's selector; the pods carry all of them, whatever the user's template says, as the
/// API server demands.
///
/// The error names the field of the actor that makes it impossible.
pub fn template(inputs: &Inputs<'_>, labels: &BTreeMap<String, String>) -> Result<Value, DesiredError> {
    let template = &inputs.actor.spec.workload.template;
    let mode = mode::of(inputs)?;
    let mut spec = object(&template.spec, "spec.workload.template.spec")?;
    runtime::inject(inputs, mode, &mut spec)?;
    place_sidecar(mode, sidecar::container(inputs, mode, &spec), &mut spec)?;
    volumes::inject(inputs, &mut spec)?;
    lists::merge_environments(&mut spec);
    spec.insert(
        "terminationGracePeriodSeconds".into(),
        grace_seconds(inputs.actor).into(),
    );
    if let Some(account) = Account::of(inputs)? {
        // The older spelling of the field would contradict it.
        spec.remove("serviceAccount");
        spec.insert("serviceAccountName".into(), account.name.into());
    }
    job::settle(inputs.actor, &mut spec)?;
    let metadata = metadata::of(
        inputs,
        object(&template.metadata, "spec.workload.template.metadata")?,
        labels,
    )?;
    Ok(json!({"metadata": metadata, "spec": spec}))
}

/// `terminationGracePeriodSeconds`: a stored `timeout.gracefulShutdown`, else the time for one call and 30 s
/// (rulings 27). 0 counts as unset.
pub fn grace_seconds(actor: &Actor) -> u32 {
    let processing = actor.spec.processing_timeout().as_secs();
    match actor.spec.timeout.graceful_shutdown {
        Some(seconds) if seconds > 0 => seconds,
        _ => u32::try_from(processing).unwrap_or(u32::MAX).saturating_add(30),
    }
}

/// Puts the sidecar last among the containers, or among the init containers: those of the user have run by then.
fn place_sidecar(
    mode: SidecarMode,
    container: Value,
    spec: &mut Map<String, Value>,
) -> Result<(), DesiredError> {
    let list = match mode {
        SidecarMode::Container => "containers",
        SidecarMode::Native => "initContainers",
    };
    let containers = lists::at(spec, list, "spec.workload.template.spec")?;
    lists::put_last(containers, container, "name");
    Ok(())
}

/// A field of the actor makes its pods impossible.
fn refused(path: impl Into<String>, message: impl Into<String>) -> DesiredError {
    DesiredError::Template {
        path: path.into(),
        message: message.into(),
    }
}

/// A copy of an object of the user's; absent counts as empty.
fn object(value: &Value, path: &str) -> Result<Map<String, Value>, DesiredError> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(object) => Ok(object.clone()),
        _ => Err(refused(path, "must be an object")),
    }
}
