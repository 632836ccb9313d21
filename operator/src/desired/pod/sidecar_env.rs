//! The sidecar's environment (contract operator §6.1).

use asya_manifest::{Spec, is_end_actor};
use serde_json::{Value, json};

use super::lists::{merge_environment, text};
use super::transport_env::{self, literal};
use super::{SOCKET_DIR, grace_seconds, job};
use crate::desired::Inputs;

/// What the sidecar needs, in the order of the contract, then `spec.sidecar.env`, which wins.
pub(super) fn variables(inputs: &Inputs<'_>) -> Vec<Value> {
    let (actor, spec) = (inputs.actor, &inputs.actor.spec);
    let mut environment = vec![
        literal("ASYA_LOG_LEVEL", "info"),
        literal("ASYA_GATEWAY_URL", gateway_url(inputs)),
        literal("ASYA_ACTOR_NAME", &actor.name),
        literal("ASYA_ACTOR_HAPPY_END", "happy-end"),
        literal("ASYA_ACTOR_ERROR_END", "error-end"),
    ];
    if is_end_actor(&actor.name) {
        environment.push(literal("ASYA_IS_END_ACTOR", "true"));
    }
    if spec.retry.max_deliveries.is_none() {
        let limit = inputs.transport.broker.queues().dead_letter.max_retry_count;
        environment.push(literal("ASYA_MAX_DELIVERIES", &limit.to_string()));
    }
    environment.extend(
        spec.sidecar_variables()
            .iter()
            .map(|(name, value)| literal(name, value)),
    );
    environment.extend(transport_env::variables(inputs));
    environment.push(literal("ASYA_SOCKET_DIR", SOCKET_DIR));
    let grace = format!("{}s", sidecar_grace(grace_seconds(actor)));
    environment.push(literal("ASYA_SHUTDOWN_GRACE", &grace));
    environment.extend(job::run_until(actor).map(|until| literal("ASYA_RUN_UNTIL", until)));
    environment.extend(own(spec));
    merge_environment(&mut environment);
    environment
}

/// The operator's gateway; where it knows none, that of the runtime container, if it is written out there.
fn gateway_url<'a>(inputs: &Inputs<'a>) -> &'a str {
    if !inputs.defaults.gateway_url.is_empty() {
        return &inputs.defaults.gateway_url;
    }
    let container = inputs.actor.spec.runtime_container();
    let entries = container
        .and_then(|container| container.get("env"))
        .and_then(Value::as_array);
    let entry = entries.and_then(|list| {
        list.iter()
            .rev()
            .find(|entry| text(entry, "name") == Some("ASYA_GATEWAY_URL"))
    });
    entry.and_then(|entry| text(entry, "value")).unwrap_or_default()
}

/// Seconds that the sidecar gives running calls, of a pod's `grace`: it must have said goodbye before that ends.
fn sidecar_grace(grace: u32) -> u32 {
    grace - (grace / 2).min(5)
}

/// `spec.sidecar.env` as it was written.
fn own(spec: &Spec) -> impl Iterator<Item = Value> {
    spec.sidecar
        .env
        .iter()
        .map(|entry| match (&entry.value, &entry.value_from) {
            (Some(value), None) => literal(&entry.name, value),
            (Some(value), Some(source)) => json!({"name": entry.name, "value": value, "valueFrom": source}),
            (None, Some(source)) => json!({"name": entry.name, "valueFrom": source}),
            (None, None) => json!({"name": entry.name}),
        })
}
