//! Why an object cannot be written although the manifest is valid.

/// A reason why objects of an actor cannot be told; its text goes into a condition, so it says what is missing, where,
/// and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DesiredError {
    /// The pod template cannot be made; path and reason.
    #[error("{path}: {message}")]
    Template {
        /// Where in the AsyncActor, e.g. `spec.workload.template.spec`.
        path: String,
        /// What is wrong, and what to do.
        message: String,
    },
    /// The name of something that follows from the actor's name is not possible.
    #[error("the name {name:?} is not possible: {message}")]
    Name {
        /// The name.
        name: String,
        /// The rule, and what to do.
        message: String,
    },
    /// The actor chooses a service account although its transport brings one (contract operator §10).
    #[error(
        "spec.workload.template.spec.serviceAccountName is {account:?}, but actorRoleArn {role} gives this actor the \
         service account {own:?}; remove serviceAccountName, or remove actorRoleArn from the transport"
    )]
    ServiceAccountConflict {
        /// What the template names.
        account: String,
        /// The account that the operator would make.
        own: String,
        /// The role in question.
        role: String,
    },
    /// The transport lacks a setting that the scaler needs (contract operator §9.2).
    #[error(
        "transport {transport:?} has no {setting}, which the {trigger} scaler needs; \
         set config.{setting} in the operator's registry"
    )]
    MissingSetting {
        /// Name in the registry.
        transport: String,
        /// `region`, `accountId` or `host`.
        setting: &'static str,
        /// KEDA's trigger type.
        trigger: &'static str,
    },
    /// A setting of the transport makes no sense.
    #[error("transport {transport:?}: {setting} {value:?} is not {expected}")]
    InvalidSetting {
        /// Name in the registry.
        transport: String,
        /// Its key.
        setting: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// KEDA would refuse what the actor asks for.
    #[error("spec.scaling.{field}: {message}")]
    Scaling {
        /// Path below `spec.scaling`.
        field: &'static str,
        /// What is wrong, and what to do.
        message: String,
    },
}
