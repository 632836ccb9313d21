//! The `TriggerAuthentication` of a scaler: names of Secrets, never what stands in them (contract operator §9.2).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::trigger::Trigger;
use crate::desired::{Inputs, Kind, Object, metadata};

/// How KEDA gets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Authentication {
    /// Named parameters, each from somewhere.
    Parameters(Vec<Parameter>),
    /// The identity of KEDA's own pod, by the provider of that name (contract operator §9.2 b).
    PodIdentity(&'static str),
}

/// One parameter of a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    name: &'static str,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A key of a Secret in the actor's namespace.
    Secret { name: String, key: String },
    /// No secret; it goes through a `ConfigMap`, as a `TriggerAuthentication` holds no values of its own.
    Text(String),
}

impl Parameter {
    pub(super) fn secret(name: &'static str, secret: &str, key: &str) -> Self {
        Self {
            name,
            source: Source::Secret {
                name: secret.to_owned(),
                key: key.to_owned(),
            },
        }
    }

    pub(super) fn text(name: &'static str, value: &str) -> Self {
        Self {
            name,
            source: Source::Text(value.to_owned()),
        }
    }
}

/// Name of the `TriggerAuthentication`, and of the `ConfigMap` beside it.
pub(super) fn name(inputs: &Inputs<'_>) -> String {
    format!("{}-trigger-auth", inputs.actor.name)
}

/// What the trigger refers to: nothing, or the `TriggerAuthentication` and before it the `ConfigMap` that it reads.
pub(super) fn objects(inputs: &Inputs<'_>, trigger: &Trigger) -> Vec<Object> {
    let Some(authentication) = &trigger.authentication else {
        return Vec::new();
    };
    let actor = inputs.actor;
    let spec = match authentication {
        Authentication::PodIdentity(provider) => json!({ "podIdentity": { "provider": provider } }),
        Authentication::Parameters(parameters) => parameters_spec(parameters, &name(inputs)),
    };
    let config_map = config_map(inputs, authentication);
    let body = json!({ "spec": spec });
    let object = metadata::owned(
        actor,
        Kind::TriggerAuthentication,
        name(inputs),
        BTreeMap::new(),
        body,
    );
    config_map.into_iter().chain([object]).collect()
}

fn parameters_spec(parameters: &[Parameter], config_map: &str) -> Value {
    let mut spec = BTreeMap::<&str, Vec<Value>>::new();
    for parameter in parameters {
        let (list, name, key) = match &parameter.source {
            Source::Secret { name, key } => ("secretTargetRef", name.as_str(), key.as_str()),
            Source::Text(_) => ("configMapTargetRef", config_map, parameter.name),
        };
        let reference = json!({ "parameter": parameter.name, "name": name, "key": key });
        spec.entry(list).or_default().push(reference);
    }
    json!(spec)
}

fn config_map(inputs: &Inputs<'_>, authentication: &Authentication) -> Option<Object> {
    let Authentication::Parameters(parameters) = authentication else {
        return None;
    };
    let data: BTreeMap<&str, &str> = parameters
        .iter()
        .filter_map(|parameter| match &parameter.source {
            Source::Text(value) => Some((parameter.name, value.as_str())),
            Source::Secret { .. } => None,
        })
        .collect();
    (!data.is_empty()).then(|| {
        let body = json!({ "data": data });
        metadata::owned(inputs.actor, Kind::ConfigMap, name(inputs), BTreeMap::new(), body)
    })
}
