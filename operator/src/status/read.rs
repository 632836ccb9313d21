//! From API objects to what matters of them here.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod as ApiPod};
use serde_json::Value;

use super::{Container, Exit, Pod, PodCondition, WorkloadCounts};
use crate::desired::Kind;

impl Pod {
    /// Reduces a pod; absent fields count as empty.
    pub fn read(pod: &ApiPod) -> Self {
        let metadata = &pod.metadata;
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let init = status.init_container_statuses.unwrap_or_default();
        let main = status.container_statuses.unwrap_or_default();
        let container = |is_init| move |status: &ContainerStatus| read_container(status, is_init);
        Self {
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            created: metadata
                .creation_timestamp
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |at| at.0),
            is_deleting: metadata.deletion_timestamp.is_some(),
            phase: status.phase.unwrap_or_default(),
            reason: status.reason.unwrap_or_default(),
            conditions: conditions
                .into_iter()
                .map(|condition| PodCondition {
                    kind: condition.type_,
                    holds: condition.status == "True",
                    reason: condition.reason.unwrap_or_default(),
                    message: condition.message.unwrap_or_default(),
                    since: condition.last_transition_time.map(|at| at.0),
                })
                .collect(),
            containers: init
                .iter()
                .map(container(true))
                .chain(main.iter().map(container(false)))
                .collect(),
            notes: Vec::new(),
        }
    }
}

fn read_container(status: &ContainerStatus, is_init: bool) -> Container {
    let state = status.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let over = state.and_then(|state| state.terminated.as_ref());
    let earlier = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    Container {
        name: status.name.clone(),
        image: status.image.clone(),
        is_init,
        is_ready: status.ready,
        restarts: u32::try_from(status.restart_count).unwrap_or_default(),
        waiting: waiting.map(|waiting| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            (text(&waiting.reason), text(&waiting.message))
        }),
        last_exit: over.or(earlier).map(read_exit),
        is_over: over.is_some(),
        running_since: state
            .and_then(|state| state.running.as_ref())
            .and_then(|running| running.started_at.as_ref())
            .map(|at| at.0),
    }
}

fn read_exit(exit: &ContainerStateTerminated) -> Exit {
    Exit {
        code: exit.exit_code,
        reason: exit.reason.clone().unwrap_or_default(),
        at: exit.finished_at.as_ref().map(|at| at.0),
    }
}

impl WorkloadCounts {
    /// Reduces a workload; absent numbers count as the API's defaults.
    ///
    /// A `ScaledJob` has no counts of its own: [`super::assess`] counts its pods.
    pub fn read(kind: Kind, object: &Value) -> Self {
        let number = |path: &str| object.pointer(path).and_then(Value::as_u64);
        let count = |path: &str| u32::try_from(number(path).unwrap_or_default()).unwrap_or(u32::MAX);
        let created = object
            .pointer("/metadata/creationTimestamp")
            .and_then(Value::as_str)
            .and_then(super::time::parse)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        match kind {
            Kind::Job => Self::read_job(object, count, created),
            Kind::Deployment | Kind::StatefulSet => Self {
                desired: number("/spec/replicas").map_or(1, |_| count("/spec/replicas")),
                total: count("/status/replicas"),
                ready: count("/status/readyReplicas"),
                updated: count("/status/updatedReplicas"),
                is_observed: number("/status/observedGeneration").unwrap_or_default()
                    >= number("/metadata/generation").unwrap_or_default(),
                created,
                unavailable_since: condition(object, "Available", "False").and_then(since),
                is_stalled: condition(object, "Progressing", "False").is_some(),
                is_complete: false,
                trouble: condition(object, "ReplicaFailure", "True").map(explain),
            },
            _ => Self {
                is_observed: true,
                created,
                ..Self::default()
            },
        }
    }

    fn read_job(object: &Value, count: impl Fn(&str) -> u32, created: Timestamp) -> Self {
        let is_over = condition(object, "Complete", "True").is_some()
            || condition(object, "SuccessCriteriaMet", "True").is_some();
        let is_suspended = object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true);
        let parallelism = object
            .pointer("/spec/parallelism")
            .map_or(1, |_| count("/spec/parallelism"));
        let total = count("/status/active");
        Self {
            desired: if is_over || is_suspended { 0 } else { parallelism },
            total,
            ready: count("/status/ready"),
            updated: total,
            is_observed: true,
            created,
            unavailable_since: None,
            is_stalled: false,
            is_complete: is_over,
            trouble: condition(object, "Failed", "True").map(explain),
        }
    }
}

fn condition<'a>(object: &'a Value, kind: &str, status: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions
        .iter()
        .find(|condition| condition["type"] == kind && condition["status"] == status)
}

fn since(condition: &Value) -> Option<Timestamp> {
    condition["lastTransitionTime"]
        .as_str()
        .and_then(super::time::parse)
}

fn explain(condition: &Value) -> String {
    let text = |key: &str| condition[key].as_str().unwrap_or_default();
    match (text("reason"), text("message")) {
        (reason, "") => reason.to_owned(),
        ("", message) => message.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}
