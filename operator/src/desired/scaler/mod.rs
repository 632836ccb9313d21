//! Autoscaling by KEDA: a `ScaledObject` for what keeps running, a `ScaledJob` for Jobs, and a `TriggerAuthentication`
//! for the credentials of either (contract operator §9).
//!
//! What it is not: it never writes `keda-hpa-<actor>`, which is KEDA's, nor the number of replicas.

mod authentication;
mod behavior;
mod formula;
mod modifiers;
mod scaled_job;
mod scaled_object;
mod trigger;

use super::{DesiredError, Inputs, Object};
use trigger::Trigger;

/// What a Deployment or `StatefulSet` needs to be scaled; nothing while scaling is off.
pub(super) fn objects(inputs: &Inputs<'_>) -> Result<Vec<Object>, DesiredError> {
    if !inputs.actor.spec.scaling.enabled {
        return Ok(Vec::new());
    }
    let trigger = Trigger::of(inputs, trigger::Counting::WithInFlight)?;
    let mut objects = authentication::objects(inputs, &trigger);
    objects.push(scaled_object::object(inputs, &trigger)?);
    Ok(objects)
}

/// The `ScaledJob` of an actor, after the credentials that it needs.
pub(super) fn job_objects(inputs: &Inputs<'_>) -> Result<Vec<Object>, DesiredError> {
    let trigger = Trigger::of(inputs, trigger::Counting::WaitingOnly)?;
    let mut objects = authentication::objects(inputs, &trigger);
    objects.push(scaled_job::object(inputs, &trigger)?);
    Ok(objects)
}
