//! An actor and its status as the gateway is told. Pure.

use asya_proto::status::v1::{
    self, Actor, ActorKey, ActorState, ConditionStatus, QueueDepth, Replicas, ScaleDirection, Scaling,
};
use jiff::Timestamp;
use serde_json::Value;

use crate::resource::AsyncActor;
use crate::status::{Condition, State, Status, kinds};

/// Everything that is told of one actor.
pub(super) fn actor(cluster: &str, actor: &AsyncActor, status: &Status, observed_at: Timestamp) -> Actor {
    let metadata = &actor.metadata;
    let text = |path: &str| {
        actor
            .spec
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let state = status.status.as_deref().and_then(State::parse);
    let why = status
        .conditions
        .iter()
        .find(|condition| condition.kind == kinds::READY);
    Actor {
        key: Some(ActorKey {
            cluster: cluster.to_owned(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }),
        uid: metadata.uid.clone().unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        observed_generation: status.observed_generation.unwrap_or_default(),
        state: state.map_or(ActorState::Unknown, state_of).into(),
        message: why.map(|ready| ready.message.clone()).unwrap_or_default(),
        conditions: status.conditions.iter().map(condition).collect(),
        replicas: Some(Replicas {
            ready: count(status.ready_replicas),
            total: count(status.total_replicas),
            desired: count(status.desired_replicas),
            pending: count(status.pending_replicas),
            failing: count(status.failing_pods),
        }),
        queue: Some(QueueDepth {
            queued: status
                .queued_messages
                .map(|number| u64::from(count(Some(number)))),
            processing: status
                .processing_messages
                .map(|number| u64::from(count(Some(number)))),
        }),
        transport: text("/transport").to_owned(),
        workload_kind: workload_kind(text("/workload/kind"), text("/workload/type")).to_owned(),
        scaling: scaling(&actor.spec, status),
        created_at: metadata.creation_timestamp.as_ref().map(|at| time(at.0)),
        observed_at: Some(time(observed_at)),
    }
}

/// As `Workload::effective_kind` of the manifest, for specs that cannot be read as well.
fn workload_kind<'a>(kind: &'a str, alias: &'a str) -> &'a str {
    match (kind, alias) {
        ("" | "Deployment", "") => "Deployment",
        ("" | "Deployment", alias) => alias,
        (kind, _) => kind,
    }
}

fn scaling(spec: &Value, status: &Status) -> Option<Scaling> {
    let scaling = spec.get("scaling")?;
    let number = |key: &str, default: u32| {
        let number = scaling.get(key).and_then(Value::as_u64);
        number.map_or(default, |number| u32::try_from(number).unwrap_or(u32::MAX))
    };
    let is_on = scaling.get("enabled").and_then(Value::as_bool) == Some(true);
    let defaults = asya_manifest::Scaling::default();
    is_on.then(|| Scaling {
        min_replicas: number("minReplicas", defaults.min_replicas),
        max_replicas: number("maxReplicas", defaults.max_replicas),
        last_scaled_at: status.last_scale_time.as_deref().and_then(read_time),
        last_direction: match status.last_scale_direction.as_deref() {
            Some("up") => ScaleDirection::Up,
            Some("down") => ScaleDirection::Down,
            _ => ScaleDirection::Unspecified,
        }
        .into(),
    })
}

fn condition(condition: &Condition) -> v1::Condition {
    let status = match condition.status.as_str() {
        "True" => ConditionStatus::True,
        "False" => ConditionStatus::False,
        _ => ConditionStatus::Unknown,
    };
    v1::Condition {
        r#type: condition.kind.clone(),
        status: status.into(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        last_transition_at: read_time(&condition.last_transition_time),
        observed_generation: condition.observed_generation.unwrap_or_default(),
    }
}

const fn state_of(state: State) -> ActorState {
    match state {
        State::Terminating => ActorState::Terminating,
        State::Creating => ActorState::Creating,
        State::TransportError => ActorState::TransportError,
        State::PendingResources => ActorState::PendingResources,
        State::ImagePullError => ActorState::ImagePullError,
        State::RuntimeError => ActorState::RuntimeError,
        State::SidecarError => ActorState::SidecarError,
        State::VolumeError => ActorState::VolumeError,
        State::ConfigError => ActorState::ConfigError,
        State::WorkloadError => ActorState::WorkloadError,
        State::ScalingError => ActorState::ScalingError,
        State::Napping => ActorState::Napping,
        State::Updating => ActorState::Updating,
        State::ScalingUp => ActorState::ScalingUp,
        State::ScalingDown => ActorState::ScalingDown,
        State::Degraded => ActorState::Degraded,
        State::Running => ActorState::Running,
        State::Unknown => ActorState::Unknown,
    }
}

/// A number of the status, which is never negative.
fn count(number: Option<i32>) -> u32 {
    number
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or_default()
}

fn time(at: Timestamp) -> prost_types::Timestamp {
    // From the year -9999 on, which is what both sides can hold, the part below a second is counted upwards.
    let nanos = at.as_nanosecond();
    prost_types::Timestamp {
        seconds: i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default(),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default(),
    }
}

fn read_time(text: &str) -> Option<prost_types::Timestamp> {
    text.parse().ok().map(time)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_state_has_a_number_of_its_own_with_the_same_name() {
        for state in State::ALL {
            let name = state_of(state)
                .as_str_name()
                .strip_prefix("ACTOR_STATE_")
                .unwrap();
            assert_eq!(name.replace('_', ""), state.as_str().to_ascii_uppercase());
        }
    }

    #[test]
    fn what_is_shown_is_told() {
        let mut object = AsyncActor {
            spec: json!({
                "transport": "rabbitmq",
                "workload": {"type": "StatefulSet", "kind": "Deployment"},
                "scaling": {"enabled": true, "maxReplicas": 7},
            }),
            ..AsyncActor::default()
        };
        object.metadata.name = Some("a".to_owned());
        object.metadata.namespace = Some("n".to_owned());
        object.metadata.generation = Some(3);
        let status = Status {
            status: Some("Napping".to_owned()),
            conditions: vec![Condition {
                kind: "Ready".to_owned(),
                status: "True".to_owned(),
                reason: "Napping".to_owned(),
                message: "no pod is needed".to_owned(),
                last_transition_time: "2026-03-01T12:00:00Z".to_owned(),
                observed_generation: Some(3),
            }],
            ready_replicas: Some(0),
            desired_replicas: Some(2),
            queued_messages: Some(9),
            last_scale_time: Some("2026-03-01T11:00:00Z".to_owned()),
            last_scale_direction: Some("down".to_owned()),
            ..Status::default()
        };
        let told = actor("c", &object, &status, "2026-03-01T12:00:00.25Z".parse().unwrap());
        assert_eq!(
            (told.state(), told.message.as_str()),
            (ActorState::Napping, "no pod is needed")
        );
        assert_eq!(
            (told.transport.as_str(), told.workload_kind.as_str()),
            ("rabbitmq", "StatefulSet")
        );
        assert_eq!(told.conditions[0].status(), ConditionStatus::True);
        assert_eq!(told.observed_at.unwrap().nanos, 250_000_000);
        let scaling = told.scaling.unwrap();
        assert_eq!((scaling.min_replicas, scaling.max_replicas), (0, 7));
        assert_eq!(scaling.last_direction(), ScaleDirection::Down);
        assert_eq!(scaling.last_scaled_at, read_time("2026-03-01T11:00:00Z"));
        let queue = told.queue.unwrap();
        assert_eq!((queue.queued, queue.processing), (Some(9), None));
        assert_eq!(told.replicas.unwrap().desired, 2);
    }

    #[test]
    fn whatever_stands_in_a_spec_can_be_told() {
        for spec in [
            json!(null),
            json!(5),
            json!({"transport": 5, "workload": "x", "scaling": []}),
        ] {
            let object = AsyncActor {
                spec,
                ..AsyncActor::default()
            };
            let told = actor("c", &object, &Status::default(), Timestamp::UNIX_EPOCH);
            assert_eq!(told.state(), ActorState::Unknown);
            assert_eq!((told.scaling, told.workload_kind.as_str()), (None, "Deployment"));
        }
    }
}
