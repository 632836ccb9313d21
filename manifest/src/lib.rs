//! AsyncActor manifests and the gateway's tool file: types, and a reader that reports every mistake at once.
//!
//! What it is: the fields of an AsyncActor ([`Spec`]), the rules of a manifest with file, line and hint for each
//! mistake ([`Directory::load`]), the environment that follows from a manifest ([`Spec::sidecar_variables`],
//! [`Actor::runtime_env`]), and tools with their arguments ([`Tools`], [`Tool::arguments`]).
//!
//! What it is not: a Kubernetes client, a runner, or a check whether a handler can be imported. It reads files and
//! nothing else.
//!
//! Start reading at [`Directory`], then [`Actor`] and [`Tools`]. Inside: `yaml` gives a tree with lines, `shape`
//! compares it with the tables in `actor/shape.rs` and `tools/shape.rs`, `actor/rules.rs` holds the rules that no
//! table can say; only what passed is deserialised into the types.

mod actor;
mod directory;
mod path;
mod problem;
mod shape;
mod source;
mod suggest;
mod tools;
mod values;
mod yaml;

pub use actor::{
    API_VERSION, Actor, AdvancedScaling, Batch, END_ACTORS, EnvValue, EnvVar, GROUP, ImagePullPolicy, KIND,
    Limits, MetricType, PodTemplate, Queue, QueueDeletionPolicy, RUNTIME_CONTAINER, Retry, Runtime,
    RuntimeKind, SIDECAR_CONTAINER, Scaling, Sidecar, Spec, Timeout, UNQUOTED_ON, Workload, WorkloadKind,
    check_document, check_object, ineffective_fields, is_end_actor,
};
pub use directory::{Directory, Inspection, TOOL_FILES};
pub use problem::{Location, Position, Problem, Problems};
pub use source::documents;
pub use tools::{ArgumentProblem, ArgumentProblems, Parameter, ParameterType, Tool, ToolMode, Tools};
pub use values::{ByteSize, GoDuration, NotADuration, NotASize};
