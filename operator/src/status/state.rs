//! The words for an actor's overall state.

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
    /// A `ConfigMap` or `Secret` is missing.
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

impl State {
    /// Every value, in the order of the contract's table.
    pub const ALL: [Self; 18] = [
        Self::Terminating,
        Self::Creating,
        Self::TransportError,
        Self::PendingResources,
        Self::ImagePullError,
        Self::RuntimeError,
        Self::SidecarError,
        Self::VolumeError,
        Self::ConfigError,
        Self::WorkloadError,
        Self::ScalingError,
        Self::Napping,
        Self::Updating,
        Self::ScalingUp,
        Self::ScalingDown,
        Self::Degraded,
        Self::Running,
        Self::Unknown,
    ];

    /// The word as it stands in `status.status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminating => "Terminating",
            Self::Creating => "Creating",
            Self::TransportError => "TransportError",
            Self::PendingResources => "PendingResources",
            Self::ImagePullError => "ImagePullError",
            Self::RuntimeError => "RuntimeError",
            Self::SidecarError => "SidecarError",
            Self::VolumeError => "VolumeError",
            Self::ConfigError => "ConfigError",
            Self::WorkloadError => "WorkloadError",
            Self::ScalingError => "ScalingError",
            Self::Napping => "Napping",
            Self::Updating => "Updating",
            Self::ScalingUp => "ScalingUp",
            Self::ScalingDown => "ScalingDown",
            Self::Degraded => "Degraded",
            Self::Running => "Running",
            Self::Unknown => "Unknown",
        }
    }

    /// The value of a word; `None` for words of other programs.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether somebody has to do something before the actor works again.
    pub const fn is_error(self) -> bool {
        matches!(
            self,
            Self::TransportError
                | Self::PendingResources
                | Self::ImagePullError
                | Self::RuntimeError
                | Self::SidecarError
                | Self::VolumeError
                | Self::ConfigError
                | Self::WorkloadError
                | Self::ScalingError
        )
    }

    /// Whether nothing is wrong that keeps pods from working; the condition `Ready` also needs a pod that is ready, or
    /// that none is needed.
    pub const fn is_ready(self) -> bool {
        matches!(
            self,
            Self::Napping
                | Self::Updating
                | Self::ScalingUp
                | Self::ScalingDown
                | Self::Degraded
                | Self::Running
        )
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
