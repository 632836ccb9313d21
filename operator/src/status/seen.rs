//! What a controller saw of one actor in one pass, reduced to what its status follows from.

use jiff::Timestamp;

use super::{ObjectReference, QueueReference};

/// One condition as it should be shown; time and generation are added by [`super::assess`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `True` or `False`.
    pub holds: bool,
    /// One word in camel case, e.g. `WorkloadCreated`.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// What a controller saw of one actor in one pass.
///
/// Whatever is absent here is absent in the status afterwards: a controller that did not ask in this pass repeats what
/// it knows (`queue`, `queue_reference`, `workload_reference`).
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    /// Transport, queue and broker.
    pub transport: Verdict,
    /// Validation and writing of the workload, not its pods: those are judged by [`super::assess`].
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

/// Counts that a workload reports, and what it was told. Made from the API object by [`WorkloadCounts::read`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadCounts {
    /// `spec.replicas`. Of a Job: its parallelism, 0 once it is complete or while it is suspended.
    pub desired: u32,
    /// `status.replicas`. Of a Job: `status.active`.
    pub total: u32,
    /// `status.readyReplicas`. Of a Job: `status.ready`.
    pub ready: u32,
    /// `status.updatedReplicas`. Of a Job: as `total`, since its template never changes.
    pub updated: u32,
    /// Whether `status.observedGeneration` has reached `metadata.generation`. Jobs do not say, and count as observed.
    pub is_observed: bool,
    /// When the workload was created.
    pub created: Timestamp,
    /// Since when a Deployment has fewer pods than it needs (`Available` is `False`); `None` for others.
    pub unavailable_since: Option<Timestamp>,
    /// Whether a rollout has made no progress within its deadline (`Progressing` is `False`).
    pub is_stalled: bool,
    /// Whether it is a Job that has done its work.
    pub is_complete: bool,
    /// Why pods cannot be made (`ReplicaFailure`: quotas, admission), or why a Job has failed for good.
    pub trouble: Option<String>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`, by which events name it.
    pub uid: String,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// Whether it is being deleted; such pods are not counted.
    pub is_deleting: bool,
    /// `status.phase`.
    pub phase: String,
    /// `status.reason`, e.g. `Evicted`; often empty.
    pub reason: String,
    /// `status.conditions`.
    pub conditions: Vec<PodCondition>,
    /// `status.initContainerStatuses`, then `status.containerStatuses`.
    pub containers: Vec<Container>,
    /// What kubelet says of it in events, if somebody asked ([`Pod::is_stuck`]).
    pub notes: Vec<PodNote>,
}

/// A warning that kubelet wrote as an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNote {
    /// e.g. `FailedMount`.
    pub reason: String,
    /// For people.
    pub message: String,
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
    /// Its image, as the pod's status names it.
    pub image: String,
    /// Whether it is an init container (a native sidecar is one).
    pub is_init: bool,
    /// Whether it is ready.
    pub is_ready: bool,
    /// How often it was restarted.
    pub restarts: u32,
    /// The reason and message for which it waits, if it does.
    pub waiting: Option<(String, String)>,
    /// How it ended last.
    pub last_exit: Option<Exit>,
    /// Whether it has ended and was not started again.
    pub is_over: bool,
    /// Since when it runs.
    pub running_since: Option<Timestamp>,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code; 137 and 143 are signals.
    pub code: i32,
    /// e.g. `OOMKilled`, `Error`, `Completed`.
    pub reason: String,
    /// When.
    pub at: Option<Timestamp>,
}

impl Pod {
    /// The condition of a kind.
    pub fn condition(&self, kind: &str) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    /// Whether kubelet calls it ready.
    pub fn is_ready(&self) -> bool {
        self.phase == "Running" && self.condition("Ready").is_some_and(|ready| ready.holds)
    }
}
