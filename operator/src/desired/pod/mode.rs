//! Where the sidecar stands (contract operator §6.5, rulings 26).

use asya_manifest::WorkloadKind;

use super::refused;
use crate::desired::{DesiredError, Inputs, SidecarMode};

/// The first minor version of Kubernetes in which an init container that keeps running is on by default.
const NATIVE_SINCE: u32 = 29;
/// The annotation of an actor that decides, without its group.
const ANNOTATION: &str = "sidecar-mode";
/// The path of that annotation in errors.
const PATH: &str = "metadata.annotations[asya.sh/sidecar-mode]";

/// The mode of this actor's sidecar: its annotation, else the operator's default; a Job has no choice.
pub(super) fn of(inputs: &Inputs<'_>) -> Result<SidecarMode, DesiredError> {
    let is_job = inputs.actor.spec.workload.effective_kind() == WorkloadKind::Job;
    let asked = match inputs.actor.annotation(ANNOTATION) {
        None => None,
        Some("container") => Some(SidecarMode::Container),
        Some("native") => Some(SidecarMode::Native),
        Some(other) => {
            return Err(refused(
                PATH,
                format!("{other:?} is neither \"container\" nor \"native\""),
            ));
        }
    };
    let mode = match asked {
        Some(SidecarMode::Container) if is_job => {
            return Err(refused(
                PATH,
                "a Job ends only with a native sidecar; remove the annotation or set it to \"native\"",
            ));
        }
        _ if is_job => SidecarMode::Native,
        Some(mode) => mode,
        None => inputs.defaults.sidecar_mode,
    };
    let minor = inputs.facts.server_minor;
    if mode == SidecarMode::Native && (1..NATIVE_SINCE).contains(&minor) {
        let who = if is_job { "spec.workload.kind" } else { PATH };
        let problem = format!(
            "a native sidecar needs Kubernetes 1.{NATIVE_SINCE}, this cluster has 1.{minor}; use container mode{}",
            if is_job { ", which no Job can" } else { "" }
        );
        return Err(refused(who, problem));
    }
    Ok(mode)
}
