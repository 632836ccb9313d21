//! What should exist for one actor: pure functions from the actor, its transport, the operator's settings and what was
//! seen of the cluster to Kubernetes objects as JSON. No I/O, no clock.
//!
//! Objects are JSON, not types, because the pod template must pass through whole, fields newer than this program
//! included (contract operator §6.4).

mod compare;
mod config_map;
mod deployment;
mod disruption_budget;
mod error;
mod hash;
mod job;
mod metadata;
pub mod pod;
mod replicas;
mod scaler;
mod selector;
pub mod service_account;
mod statefulset;
mod strategy;

use std::collections::BTreeMap;

pub use compare::contains;
pub use config_map::runtime_config_map;
pub use error::DesiredError;
pub use job::TEMPLATE_HASH;
pub use replicas::{REPLICAS_MANAGER, replicas_handover};
pub use strategy::{STRATEGY_MANAGER, strategy_change};

use asya_manifest::WorkloadKind;
use serde_json::Value;

use crate::registry::Transport;
use crate::resource::Actor;

/// Everything that the objects of one actor follow from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The actor; it has passed validation.
    pub actor: &'a Actor,
    /// Its transport, enabled.
    pub transport: &'a Transport,
    /// The operator's own settings.
    pub defaults: &'a Defaults,
    /// What was seen of the cluster.
    pub facts: &'a Facts,
}

/// The operator's settings that show up in objects.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// `ASYA_SIDECAR_IMAGE`.
    pub sidecar_image: String,
    /// `ResourceRequirements` of sidecars that name none.
    pub sidecar_resources: Option<Value>,
    /// `securityContext` of the sidecar; the hardened one by default.
    pub sidecar_security: Value,
    /// Mode unless the annotation `asya.sh/sidecar-mode` says otherwise.
    pub sidecar_mode: SidecarMode,
    /// `ASYA_GATEWAY_URL`; empty means none.
    pub gateway_url: String,
    /// The script that Python runtimes run.
    pub script: Script,
    /// Whether workloads that may have more than one pod get a `PodDisruptionBudget`.
    pub disruption_budgets: bool,
    /// `ASYA_DISABLE_QUEUE_MANAGEMENT`.
    pub manages_queues: bool,
}

/// Where the sidecar stands in the pod (contract operator §6.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SidecarMode {
    /// Beside the runtime, in `containers`.
    #[default]
    Container,
    /// As a native sidecar: an init container that keeps running.
    Native,
}

/// The runtime script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Its text.
    pub text: String,
    /// First 16 hexadecimal digits of its SHA-256.
    pub hash: String,
}

/// What was seen of the cluster and matters for what is written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Labels of the selector of a workload that exists already: never changed (contract operator §6.6).
    pub selector: Option<BTreeMap<String, String>>,
    /// Whether the workload exists already; a new one may get `spec.replicas` once.
    pub workload_exists: bool,
    /// Whether the Secret with the broker's password also holds the key `username` (contract operator §9.2 a).
    pub secret_has_username: bool,
    /// Minor version of the API server, e.g. 33; 0 if unknown.
    pub server_minor: u32,
}

/// Every object that should exist for one actor, in the order in which it is applied.
///
/// The parts fail apart from each other: a scaler that cannot be written keeps no workload back.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// `ServiceAccount`, headless Service, `PodDisruptionBudget`; applied before the workload.
    pub common: Vec<Object>,
    /// What runs the pods. With a `ScaledJob` its `TriggerAuthentication` stands here too, before it, because there the
    /// scaler and the workload are one object.
    pub workload: Result<Vec<Object>, DesiredError>,
    /// KEDA's objects; empty while scaling is manual, and for a `ScaledJob`.
    pub scaler: Result<Vec<Object>, DesiredError>,
}

/// The objects of one actor (contract operator §6, §7, §9, §10).
///
/// `inputs.facts` must be those of the workload kind that the actor asks for now: the selector of a Deployment says
/// nothing about a `StatefulSet` that takes its place.
pub fn objects(inputs: &Inputs<'_>) -> Desired {
    let mut common = Vec::new();
    if let Ok(Some(account)) = service_account::Account::of(inputs) {
        common.push(account.object(inputs));
    }
    let kind = inputs.actor.spec.workload.effective_kind();
    if kind == WorkloadKind::StatefulSet {
        common.extend(statefulset::service(inputs));
    }
    common.extend(disruption_budget::object(inputs));
    let is_scaled = inputs.actor.spec.scaling.enabled;
    let (workload, scaler) = match kind {
        WorkloadKind::Deployment => (
            deployment::object(inputs).map(|object| vec![object]),
            scaler::objects(inputs),
        ),
        WorkloadKind::StatefulSet => (
            statefulset::object(inputs).map(|object| vec![object]),
            scaler::objects(inputs),
        ),
        WorkloadKind::Job if is_scaled => {
            let objects = scaler::job_objects(inputs);
            let scaler = objects.as_ref().map(|_| Vec::new()).map_err(Clone::clone);
            (objects, scaler)
        }
        WorkloadKind::Job => (job::object(inputs).map(|object| vec![object]), Ok(Vec::new())),
    };
    Desired {
        common,
        workload,
        scaler,
    }
}

/// One object that should exist.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its namespace: that of the actor.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The whole object as it is applied.
    pub body: Value,
}

/// Kinds of objects that the operator writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `v1`: the runtime script.
    ConfigMap,
    /// `v1`: IRSA or Pod Identity.
    ServiceAccount,
    /// `v1`: the headless one of a `StatefulSet`.
    Service,
    /// `apps/v1`.
    Deployment,
    /// `apps/v1`.
    StatefulSet,
    /// `batch/v1`.
    Job,
    /// `policy/v1`.
    PodDisruptionBudget,
    /// `keda.sh/v1alpha1`.
    TriggerAuthentication,
    /// `keda.sh/v1alpha1`.
    ScaledObject,
    /// `keda.sh/v1alpha1`.
    ScaledJob,
}

impl Kind {
    /// Every kind, in the order in which objects are applied (contract operator §8.1).
    pub const ALL: [Self; 10] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Service,
        Self::Deployment,
        Self::StatefulSet,
        Self::Job,
        Self::PodDisruptionBudget,
        Self::TriggerAuthentication,
        Self::ScaledObject,
        Self::ScaledJob,
    ];

    /// `apiVersion`, `kind` and the plural of its path.
    pub const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ConfigMap => ("v1", "ConfigMap", "configmaps"),
            Self::ServiceAccount => ("v1", "ServiceAccount", "serviceaccounts"),
            Self::Service => ("v1", "Service", "services"),
            Self::Deployment => ("apps/v1", "Deployment", "deployments"),
            Self::StatefulSet => ("apps/v1", "StatefulSet", "statefulsets"),
            Self::Job => ("batch/v1", "Job", "jobs"),
            Self::PodDisruptionBudget => ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::TriggerAuthentication => (
                "keda.sh/v1alpha1",
                "TriggerAuthentication",
                "triggerauthentications",
            ),
            Self::ScaledObject => ("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
            Self::ScaledJob => ("keda.sh/v1alpha1", "ScaledJob", "scaledjobs"),
        }
    }

    /// How the client addresses it.
    pub fn api_resource(self) -> kube::core::ApiResource {
        let (api_version, kind, plural) = self.names();
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        kube::core::ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            kind: kind.into(),
            plural: plural.into(),
        }
    }

    /// Whether it runs pods.
    pub const fn is_workload(self) -> bool {
        matches!(
            self,
            Self::Deployment | Self::StatefulSet | Self::Job | Self::ScaledJob
        )
    }

    /// Whether it is KEDA's.
    pub const fn is_scaler(self) -> bool {
        matches!(
            self,
            Self::TriggerAuthentication | Self::ScaledObject | Self::ScaledJob
        )
    }
}
