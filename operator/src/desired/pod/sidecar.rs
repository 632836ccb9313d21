//! The sidecar's container (contract operator §6.1).

use serde_json::{Map, Value, json};

use asya_manifest::SIDECAR_CONTAINER;

use super::{probes, security, sidecar_env, volumes};
use crate::desired::{Inputs, SidecarMode};

/// The container, complete. `spec` is the pod it comes into.
pub(super) fn container(inputs: &Inputs<'_>, mode: SidecarMode, spec: &Map<String, Value>) -> Value {
    let wish = &inputs.actor.spec.sidecar;
    let environment = sidecar_env::variables(inputs);
    let mut container = Map::new();
    container.insert("name".into(), SIDECAR_CONTAINER.into());
    container.insert(
        "image".into(),
        wish.image
            .as_ref()
            .unwrap_or(&inputs.defaults.sidecar_image)
            .clone()
            .into(),
    );
    container.insert("imagePullPolicy".into(), json!(wish.image_pull_policy));
    if let Some(resources) = wish
        .resources
        .as_ref()
        .or(inputs.defaults.sidecar_resources.as_ref())
    {
        container.insert("resources".into(), resources.clone());
    }
    if let Some(context) = security::context(inputs, spec) {
        container.insert("securityContext".into(), context);
    }
    probes::add(&environment, &mut container);
    container.insert("env".into(), environment.into());
    container.insert("volumeMounts".into(), volumes::of_sidecar());
    if mode == SidecarMode::Native {
        container.insert("restartPolicy".into(), "Always".into());
    }
    container.into()
}
