//! The status of an actor: pure functions from what was seen to what is shown (contract operator §11).

mod shown;

pub use shown::{Condition, ObjectReference, QueueReference, ScaledObjectReference, Status};

use jiff::Timestamp;

use crate::resource::Actor;

/// Overall values of `status.status` (contract operator §11.4). The words are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Being deleted.
    Terminating,
    /// No pod was ever ready, and it is too early to call that an error.
    Creating,
    /// Queue or broker.
    TransportError,
    /// No node has room.
    PendingResources,
    /// An image cannot be pulled.
    ImagePullError,
    /// The user's container keeps crashing.
    RuntimeError,
    /// The sidecar keeps crashing.
    SidecarError,
    /// A volume cannot be mounted.
    VolumeError,
    /// A ConfigMap or Secret is missing.
    ConfigError,
    /// The manifest, or a workload that fails in another way.
    WorkloadError,
    /// The autoscaler.
    ScalingError,
    /// Scaled to zero, as it should be.
    Napping,
    /// Pods are being replaced.
    Updating,
    /// Fewer pods than wanted.
    ScalingUp,
    /// More pods than wanted.
    ScalingDown,
    /// Fewer pods ready than there are, for minutes.
    Degraded,
    /// As wanted.
    Running,
    /// Cannot tell.
    Unknown,
}

/// One condition as it should be shown; time and generation are added by [`assess`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `True` or `False`.
    pub holds: bool,
    /// CamelCase reason, e.g. `WorkloadCreated`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What a controller saw of one actor in one pass.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Transport, queue and broker.
    pub transport: Verdict,
    /// Validation and writing of the workload, not its pods: those are judged by [`assess`].
    pub workload: Verdict,
    /// The scaler; `None` while scaling is manual.
    pub scaling: Option<Verdict>,
    /// The workload as it is; `None` if there is none.
    pub counts: Option<WorkloadCounts>,
    /// The pods of the actor.
    pub pods: Vec<Pod>,
    /// `status.desiredReplicas` of KEDA's HPA, if there is one.
    pub scaler_desired: Option<u32>,
    /// What the broker says; `None` if unknown.
    pub queue: Option<QueueDepth>,
    /// The queue that is this actor's, if it owns one.
    pub queue_reference: Option<QueueReference>,
    /// Kind and name of the workload, if it exists.
    pub workload_reference: Option<ObjectReference>,
}

/// Counts that a workload reports, and what it was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkloadCounts {
    /// `spec.replicas` (parallelism of a Job).
    pub desired: u32,
    /// `status.replicas`.
    pub total: u32,
    /// `status.readyReplicas`.
    pub ready: u32,
    /// `status.updatedReplicas`.
    pub updated: u32,
    /// Whether `status.observedGeneration` has reached `metadata.generation`.
    pub is_observed: bool,
    /// When the workload was created.
    pub created: Timestamp,
}

/// Messages of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Ready.
    pub queued: u64,
    /// In flight; `None` if the broker does not say.
    pub processing: Option<u64>,
}

/// A pod, reduced to what matters here. Made from the API object by [`Pod::read`].
#[derive(Debug, Clone, PartialEq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// Whether it is being deleted; such pods are not counted.
    pub is_deleting: bool,
    /// `status.phase`.
    pub phase: String,
    /// `status.conditions`.
    pub conditions: Vec<PodCondition>,
    /// `status.initContainerStatuses`, then `status.containerStatuses`.
    pub containers: Vec<Container>,
}

/// A condition of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodCondition {
    /// e.g. `PodScheduled`.
    pub kind: String,
    /// Whether it is `True`.
    pub holds: bool,
    /// Its reason, or empty.
    pub reason: String,
    /// Its message, or empty.
    pub message: String,
    /// When it changed last.
    pub since: Option<Timestamp>,
}

/// The state of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Whether it is an init container.
    pub is_init: bool,
    /// Whether it is ready.
    pub is_ready: bool,
    /// How often it was restarted.
    pub restarts: u32,
    /// The reason and message for which it waits, if it does.
    pub waiting: Option<(String, String)>,
    /// When it was terminated last.
    pub last_terminated: Option<Timestamp>,
    /// Since when it runs.
    pub running_since: Option<Timestamp>,
}

/// The status to show, from the one shown before and what was seen now. Equal inputs give equal outputs, and nothing
/// changes in what is shown merely because time passed, except as contract operator §11.5 says.
pub fn assess(actor: &Actor, previous: &Status, seen: &Observation, now: Timestamp) -> Status {
    let _ = (actor, seen, now);
    previous.clone()
}

/// When time alone will change what [`assess`] shows, so that the controller looks again then; `None` if never.
pub fn reassess_after(actor: &Actor, shown: &Status, seen: &Observation, now: Timestamp) -> Option<std::time::Duration> {
    let _ = (actor, shown, seen, now);
    None
}
