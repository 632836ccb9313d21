//! Actors, recorded pods and workloads, and the time at which they are looked at.

use asya_manifest::WorkloadKind;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::desired::Kind;
use crate::resource::{Actor, AsyncActor};
use crate::status::{
    Condition, ObjectReference, Observation, Pod, QueueDepth, QueueReference, State, Status, Verdict,
    WorkloadCounts, assess,
};

/// A time on the day of the recordings.
pub(super) fn at(time: &str) -> Timestamp {
    format!("2026-03-01T{time}Z").parse().unwrap()
}

/// An actor of this spec beside transport and template.
pub(super) fn actor(scaling: bool, kind: WorkloadKind) -> Actor {
    let spec = json!({
        "transport": "rabbitmq",
        "scaling": {"enabled": scaling},
        "workload": {"kind": kind, "template": {"spec": {"containers": []}}},
    });
    let mut object = AsyncActor {
        spec,
        ..AsyncActor::default()
    };
    object.metadata.name = Some("summarize".to_owned());
    object.metadata.namespace = Some("models".to_owned());
    object.metadata.generation = Some(4);
    Actor::read(&object).unwrap()
}

/// A Deployment that KEDA scales.
pub(super) fn scaled() -> Actor {
    actor(true, WorkloadKind::Deployment)
}

/// A Deployment of fixed size.
pub(super) fn manual() -> Actor {
    actor(false, WorkloadKind::Deployment)
}

/// A recorded object.
pub(super) fn recorded(folder: &str, name: &str) -> Value {
    let path = format!(
        "{}/tests/fixtures/{folder}/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap()
}

/// A recorded pod.
pub(super) fn pod(name: &str) -> Pod {
    Pod::read(&serde_json::from_value(recorded("pods", name)).unwrap())
}

/// A recorded workload.
pub(super) fn workload(kind: Kind, name: &str) -> WorkloadCounts {
    WorkloadCounts::read(kind, &recorded("workloads", name))
}

pub(super) fn holds(reason: &'static str) -> Verdict {
    Verdict {
        holds: true,
        reason,
        message: "fine".to_owned(),
    }
}

pub(super) fn fails(reason: &'static str, message: &str) -> Verdict {
    Verdict {
        holds: false,
        reason,
        message: message.to_owned(),
    }
}

/// Everything is well, and the workload says these numbers.
pub(super) fn seen(ready: u32, total: u32, desired: u32) -> Observation {
    Observation {
        transport: holds("TransportValidated"),
        workload: holds("WorkloadCreated"),
        scaling: Some(holds("ScaledObjectCreated")),
        counts: Some(counts(ready, total, desired)),
        pods: Vec::new(),
        scaler_desired: None,
        queue: Some(QueueDepth {
            queued: 7,
            processing: Some(2),
        }),
        queue_reference: Some(QueueReference {
            transport: "rabbitmq".to_owned(),
            name: "asya-summarize".to_owned(),
        }),
        workload_reference: Some(ObjectReference {
            api_version: "apps/v1".to_owned(),
            kind: "Deployment".to_owned(),
            name: "summarize".to_owned(),
            namespace: "models".to_owned(),
        }),
    }
}

pub(super) fn counts(ready: u32, total: u32, desired: u32) -> WorkloadCounts {
    WorkloadCounts {
        desired,
        total,
        ready,
        updated: total,
        is_observed: true,
        created: "2026-02-01T00:00:00Z".parse().unwrap(),
        ..WorkloadCounts::default()
    }
}

/// With these recorded pods.
pub(super) fn with_pods(mut seen: Observation, names: &[&str]) -> Observation {
    seen.pods = names.iter().map(|name| pod(name)).collect();
    seen
}

/// A status that was shown before: so many pods were ready, and that changed last at a time.
pub(super) fn before(ready: i32, last_scale: Option<&str>) -> Status {
    Status {
        replicas: Some(ready),
        last_scale_time: last_scale.map(|time| at(time).to_string()),
        last_scale_direction: last_scale.map(|_| "up".to_owned()),
        ..Status::default()
    }
}

pub(super) fn state(status: &Status) -> State {
    assert_eq!(status.status, status.phase, "the older name says the same");
    State::parse(status.status.as_deref().unwrap()).unwrap()
}

/// The state for an observation by somebody who saw as many ready pods before, long ago.
pub(super) fn state_of(actor: &Actor, seen: &Observation, now: &str) -> State {
    let ready = seen.counts.as_ref().map_or(0, |counts| counts.ready);
    let previous = before(i32::try_from(ready).unwrap(), None);
    state(&assess(actor, &previous, seen, at(now)))
}

pub(super) fn condition<'a>(status: &'a Status, kind: &str) -> &'a Condition {
    status
        .conditions
        .iter()
        .find(|condition| condition.kind == kind)
        .unwrap_or_else(|| panic!("{kind} is not among {:?}", status.conditions))
}
