//! The fields of an AsyncActor, as they stand in the manifest and in the custom resource.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::values::{ByteSize, GoDuration};

/// `spec` of an AsyncActor (`asya.sh/v1alpha1`).
///
/// Absent objects read as empty ones, so every default holds whether or not its parent is written. Deserialising
/// ignores unknown fields; [`Directory::load`](crate::Directory::load) reports them before it gets here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(description = "What the actor is made of.")]
pub struct Spec {
    /// Name of a transport in the operator's registry, e.g. `rabbitmq`; a local run uses its embedded queue instead.
    #[schemars(length(min = 1))]
    pub transport: String,
    /// The container beside the handler that moves messages.
    #[serde(default)]
    pub sidecar: Sidecar,
    /// How long work and shutdown may take.
    #[serde(default)]
    pub timeout: Timeout,
    /// Autoscaling by queue length.
    #[serde(default)]
    pub scaling: Scaling,
    /// What happens after a failure.
    #[serde(default)]
    pub retry: Retry,
    /// How the runtime calls the handler.
    #[serde(default)]
    pub runtime: Runtime,
    /// Bounds on one message.
    #[serde(default)]
    pub limits: Limits,
    /// The actor's queue.
    #[serde(default)]
    pub queue: Queue,
    /// The pods that run the handler.
    pub workload: Workload,
}

/// `spec.sidecar`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// Overrides the operator's sidecar image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When the image is pulled.
    pub image_pull_policy: ImagePullPolicy,
    /// Kubernetes `ResourceRequirements`, passed on as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub resources: Option<Value>,
    /// Appended last to the sidecar's environment, so it overrides injected names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
}

/// Kubernetes image pull policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Pull at each start.
    Always,
    /// Pull when the node has no copy.
    #[default]
    IfNotPresent,
    /// Never pull.
    Never,
}

/// One environment variable of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// The variable's name.
    pub name: String,
    /// Its literal value; absent means empty unless `valueFrom` is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A Kubernetes `EnvVarSource` (secret, config map, pod field), passed on as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("type" = "object", "x-kubernetes-preserve-unknown-fields" = true))]
    pub value_from: Option<Value>,
}

/// `spec.timeout`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeout {
    /// Seconds one call of the handler may take; default 300. 0 counts as unset.
    #[schemars(range(min = 0))]
    pub processing: u32,
    /// Seconds a pod may take to stop; absent means `processing` + 30.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub graceful_shutdown: Option<u32>,
}

impl Timeout {
    /// The default of `processing`, in seconds.
    pub const DEFAULT_PROCESSING: u32 = 300;
}

impl Default for Timeout {
    fn default() -> Self {
        Self {
            processing: Self::DEFAULT_PROCESSING,
            graceful_shutdown: None,
        }
    }
}

/// `spec.scaling`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scaling {
    /// Whether the number of replicas follows the queue; default false.
    pub enabled: bool,
    /// Fewest replicas; default 0.
    #[schemars(range(min = 0))]
    pub min_replicas: u32,
    /// Most replicas; default 50.
    #[schemars(range(min = 1))]
    pub max_replicas: u32,
    /// Seconds between two looks at the queue; default 10.
    #[schemars(range(min = 0))]
    pub polling_interval: u32,
    /// Seconds of quiet before scaling to zero; default 60.
    #[schemars(range(min = 0))]
    pub cooldown_period: u32,
    /// Messages per replica that the scaler aims for; default 5.
    #[schemars(range(min = 1))]
    pub queue_length: u32,
    /// KEDA scaling modifiers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advanced: Option<AdvancedScaling>,
    /// `HorizontalPodAutoscalerBehavior`, passed on as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("type" = "object", "x-kubernetes-preserve-unknown-fields" = true))]
    pub behavior: Option<Value>,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            enabled: false,
            min_replicas: 0,
            max_replicas: 50,
            polling_interval: 10,
            cooldown_period: 60,
            queue_length: 5,
            advanced: None,
            behavior: None,
        }
    }
}

/// `spec.scaling.advanced`: KEDA `scalingModifiers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AdvancedScaling {
    /// Formula over trigger names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formula: Option<String>,
    /// Target of the formula's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Value above which the workload is active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_target: Option<String>,
    /// How the value is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_type: Option<MetricType>,
    /// Whether deleting the scaler puts back the replicas of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_to_original_replica_count: Option<bool>,
}

/// How KEDA reads a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum MetricType {
    /// Divided by the number of pods.
    AverageValue,
    /// As it is.
    Value,
    /// In percent of the request.
    Utilization,
}

/// `spec.retry`: every field is optional; an absent one leaves the sidecar's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// Runs in all, the first included; the sidecar's default is 1 (no retry).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_attempts: Option<u32>,
    /// Wait before the second run; the sidecar's default is `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial_backoff: Option<GoDuration>,
    /// Longest wait; the sidecar's default is `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<GoDuration>,
    /// Factor from one wait to the next, at least 1; the sidecar's default is 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub multiplier: Option<f64>,
    /// Random part of a wait, 0 to 1; the sidecar's default is 0.5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub jitter: Option<f64>,
    /// No retry begins later than this after the first run; no limit by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_duration: Option<GoDuration>,
    /// Exception names (also of base classes) or error codes that are retried; all by default.
    // `kubectl` and `helm` read an unquoted `on` as the boolean and send `true`.
    #[serde(alias = "true", skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// Exception names or error codes that are never retried; wins over `on`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub never_on: Vec<String>,
    /// Deliveries after which a message counts as suspect; the sidecar's default is 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_deliveries: Option<u32>,
}

/// `spec.runtime`: how the runtime calls the handler; an absent field leaves the runtime's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Runtime {
    /// Worker processes, 1 to 256; the runtime's default is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub workers: Option<u32>,
    /// Calls at once in one worker, 1 to 4096; the runtime's default is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub concurrency: Option<u32>,
    /// Several messages in one call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// Whether what a generator yields is shown as it comes and only its last value goes on, instead of every value
    /// going on as a message; not together with batches. The runtime's default is false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
}

/// `spec.runtime.batch`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Batch {
    /// Most messages in one call, 1 to 4096; the runtime's default is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub size: Option<u32>,
    /// How long to wait for a full batch; the runtime does not wait by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<GoDuration>,
}

/// `spec.limits`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// Largest message, in bytes; the default is the transport's limit, at most 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_size: Option<ByteSize>,
    /// Most hops of one envelope; the sidecar's default is 10 000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub hops: Option<u32>,
}

/// `spec.queue`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Queue {
    /// What happens to the queue when the actor is deleted; the operator's default is `DeleteIfEmpty`. The annotation
    /// `asya.sh/queue-deletion-policy` wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<QueueDeletionPolicy>,
}

/// When a queue goes with its actor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueueDeletionPolicy {
    /// Only if nothing is in it and nobody else uses it.
    #[default]
    DeleteIfEmpty,
    /// With all messages in it, unless another owner uses it too.
    Delete,
    /// Never.
    Retain,
}

/// `spec.workload`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// What kind of workload runs the pods.
    #[serde(default)]
    pub kind: WorkloadKind,
    /// The older name of `kind`; see [`Workload::effective_kind`].
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind_alias: Option<WorkloadKind>,
    /// Replicas while scaling is off; default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub replicas: u32,
    /// The Python that runs the handler; default `python3`.
    #[serde(default = "python3")]
    pub python_executable: String,
    /// What the `asya-runtime` container is; default `python`.
    #[serde(default)]
    pub runtime: RuntimeKind,
    /// Volume claims of a `StatefulSet`, passed on as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("items" = {"type": "object", "x-kubernetes-preserve-unknown-fields": true}))]
    pub volume_claim_templates: Option<Vec<Value>>,
    /// Service of a `StatefulSet`; absent means the actor's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// How pods are replaced: `DeploymentStrategy` of a `Deployment`, `updateStrategy` of a `StatefulSet`, passed on as it
    /// is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("type" = "object", "x-kubernetes-preserve-unknown-fields" = true))]
    pub strategy: Option<Value>,
    /// Whether a workload that may have more than one pod gets a `PodDisruptionBudget`; absent leaves it to the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disruption_budget: Option<bool>,
    /// The pod template.
    pub template: PodTemplate,
}

fn one() -> u32 {
    1
}

fn python3() -> String {
    "python3".to_owned()
}

impl Workload {
    /// `type` when it is written and `kind` is the default, else `kind`.
    pub fn effective_kind(&self) -> WorkloadKind {
        match (self.kind, self.kind_alias) {
            (WorkloadKind::Deployment, Some(alias)) => alias,
            (kind, _) => kind,
        }
    }
}

/// Kind of workload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// Interchangeable pods.
    #[default]
    Deployment,
    /// Pods with a name and volumes of their own.
    StatefulSet,
    /// Pods that end.
    Job,
}

/// What stands in the `asya-runtime` container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Python; the runtime script is injected and is the container's command.
    #[default]
    Python,
    /// A program that speaks the runtime protocol itself; nothing is injected.
    Native,
}

/// `spec.workload.template`, kept as raw JSON so that fields newer than this crate pass through.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PodTemplate {
    /// Labels and annotations of the pods.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub metadata: Value,
    /// A Kubernetes `PodSpec` with exactly one container named `asya-runtime`.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub spec: Value,
}
