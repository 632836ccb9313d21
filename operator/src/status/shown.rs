//! `status` as it stands in the custom resource (contract operator §1.3). All times are RFC 3339 in whole seconds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `status` of an AsyncActor.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Standard conditions, keyed by `type`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Overall state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The same value, for older habits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Generation last processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The workload's ready pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,
    /// The workload's pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_replicas: Option<i32>,
    /// What the autoscaler, or else the workload, wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub desired_replicas: Option<i32>,
    /// Pods neither ready nor failing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pending_replicas: Option<i32>,
    /// Failing pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_pods: Option<i32>,
    /// `ready/total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_replicas_summary: Option<String>,
    /// `replicas/desired` (deprecated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas_summary: Option<String>,
    /// True conditions / expected conditions (deprecated).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_summary: Option<String>,
    /// `Ready` or `NotReady`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transport_status: Option<String>,
    /// The workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<ObjectReference>,
    /// The KEDA object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaled_object_ref: Option<ScaledObjectReference>,
    /// The queue that this actor owns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_ref: Option<QueueReference>,
    /// `KEDA` or `Manual`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_mode: Option<String>,
    /// When the number of ready pods changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub last_scale_time: Option<String>,
    /// `up`, `down` or empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_direction: Option<String>,
    /// `5m ago (up)`, or `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scale_formatted: Option<String>,
    /// Messages that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_messages: Option<i32>,
    /// Messages in flight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processing_messages: Option<i32>,
}

/// A standard condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// e.g. `WorkloadReady`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// CamelCase word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When `status` changed last.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// The generation that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The workload of an actor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// e.g. `apps/v1`.
    pub api_version: String,
    /// e.g. `Deployment`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
}

/// The KEDA object of an actor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScaledObjectReference {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
}

/// The queue of an actor, as a record of what has to be cleaned up should the actor change or go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueReference {
    /// Name of the transport in the registry.
    pub transport: String,
    /// Name of the queue.
    pub name: String,
}
