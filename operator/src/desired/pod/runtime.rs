//! What the user's `asya-runtime` container gets (contract operator §6.2, rulings 19 and 25).

use asya_manifest::{RUNTIME_CONTAINER, RuntimeKind, is_end_actor};
use serde_json::{Map, Value, json};

use super::lists::{at, text};
use super::transport_env::literal;
use super::{SCRIPT_PATH, SOCKET_DIR, grace_seconds, job, refused, volumes};
use crate::desired::{DesiredError, Inputs, SidecarMode};

/// The list of containers, in errors.
const CONTAINERS: &str = "spec.workload.template.spec.containers";

/// Injects into the runtime container of the pod.
pub(super) fn inject(
    inputs: &Inputs<'_>,
    mode: SidecarMode,
    spec: &mut Map<String, Value>,
) -> Result<(), DesiredError> {
    let containers = at(spec, "containers", "spec.workload.template.spec")?;
    let runtime = containers
        .iter_mut()
        .find(|container| text(container, "name") == Some(RUNTIME_CONTAINER));
    let Some(Value::Object(container)) = runtime else {
        return Err(refused(
            CONTAINERS,
            format!("has no container named {RUNTIME_CONTAINER:?}"),
        ));
    };
    let path = format!("{CONTAINERS}[name={RUNTIME_CONTAINER}]");
    environment(inputs, mode, at(container, "env", &path)?);
    volumes::mount(
        inputs.actor.spec.workload.runtime,
        at(container, "volumeMounts", &path)?,
    );
    if inputs.actor.spec.workload.runtime == RuntimeKind::Python {
        container.insert(
            "command".into(),
            json!([inputs.actor.spec.python_executable(), SCRIPT_PATH]),
        );
        add_probes(container);
        if mode == SidecarMode::Container {
            add_hook(inputs, container);
        }
    }
    Ok(())
}

/// Fields of the manifest stand before the user's own variables, which win; what must hold stands after them.
fn environment(inputs: &Inputs<'_>, mode: SidecarMode, environment: &mut Vec<Value>) {
    let actor = inputs.actor;
    let mut before: Vec<Value> = actor
        .spec
        .runtime_variables()
        .iter()
        .map(|(name, value)| literal(name, value))
        .collect();
    // A native sidecar is told to end only after the runtime has ended, so there is nobody to wait for then.
    if mode == SidecarMode::Container {
        let grace = format!("{}s", runtime_grace(grace_seconds(actor)));
        before.push(literal("ASYA_SHUTDOWN_GRACE", &grace));
    }
    before.retain(|entry| {
        !environment
            .iter()
            .any(|own| text(own, "name") == text(entry, "name"))
    });
    environment.splice(0..0, before);
    environment.push(literal("ASYA_SOCKET_DIR", SOCKET_DIR));
    if is_end_actor(&actor.name) && actor.spec.workload.runtime == RuntimeKind::Python {
        environment.push(literal("ASYA_ENABLE_VALIDATION", "false"));
    }
    if job::run_until(actor).is_some() {
        environment.push(literal("ASYA_RUN_UNTIL", "done"));
    }
}

/// Seconds that the runtime serves on at the end of a pod with this `grace`: longer than the sidecar needs, and it still
/// ends by itself.
fn runtime_grace(grace: u32) -> u32 {
    grace - (grace / 4).min(2)
}

/// Those that the user has not set.
fn add_probes(container: &mut Map<String, Value>) {
    let probe = |rest: Value| {
        let script = format!("test -S {SOCKET_DIR}/asya-runtime.sock && test -f {SOCKET_DIR}/runtime-ready");
        let mut probe = json!({"exec": {"command": ["sh", "-c", script]}});
        if let (Some(probe), Value::Object(rest)) = (probe.as_object_mut(), rest) {
            probe.extend(rest);
        }
        probe
    };
    for (name, rest) in [
        // About 300 s to load a model.
        (
            "startupProbe",
            json!({"initialDelaySeconds": 3, "periodSeconds": 2, "timeoutSeconds": 3, "failureThreshold": 150}),
        ),
        (
            "livenessProbe",
            json!({"periodSeconds": 30, "timeoutSeconds": 5, "failureThreshold": 3}),
        ),
        (
            "readinessProbe",
            json!({"periodSeconds": 10, "timeoutSeconds": 3, "failureThreshold": 3}),
        ),
    ] {
        container.entry(name).or_insert_with(|| probe(rest));
    }
}

/// Both containers are told to end at the same time; the hook holds the runtime back until the sidecar has drained.
///
/// Not with a native sidecar, which is told only after the runtime has ended (rulings 26).
fn add_hook(inputs: &Inputs<'_>, container: &mut Map<String, Value>) {
    // A script of before this option takes no arguments: it would start to serve a second time.
    if !inputs.defaults.script.text.contains("--drain") {
        return;
    }
    let hook = json!({"exec": {"command": [inputs.actor.spec.python_executable(), SCRIPT_PATH, "--drain"]}});
    let lifecycle = container.entry("lifecycle").or_insert_with(|| json!({}));
    if let Some(lifecycle) = lifecycle.as_object_mut() {
        lifecycle.entry("preStop").or_insert(hook);
    }
}
