//! AsyncActor: its fields ([`Spec`]), what a manifest may say (`shape`, `rules`), and one actor as read from a
//! file ([`Actor`]).

mod calls;
mod env;
mod object;
mod pod;
mod rules;
mod shape;
mod spec;
mod variables;

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::Path;

pub use env::EnvValue;
pub use object::{check_document, check_object, ineffective_fields};
pub(crate) use rules::check;
pub(crate) use shape::MANIFEST;
pub use spec::{
    AdvancedScaling, Batch, EnvVar, ImagePullPolicy, Limits, MetricType, PodTemplate, Queue,
    QueueDeletionPolicy, Retry, Runtime, RuntimeKind, Scaling, Sidecar, Spec, Timeout, Workload,
    WorkloadKind,
};
pub use variables::is_end_actor;

use crate::path::KeyPath;
use crate::problem::{Location, Position};
use crate::yaml::{Kind, Node};

/// The API group of AsyncActor.
pub const GROUP: &str = "asya.sh";
/// `apiVersion` of AsyncActor.
pub const API_VERSION: &str = "asya.sh/v1alpha1";
/// `kind` of AsyncActor.
pub const KIND: &str = "AsyncActor";
/// The container that holds the handler.
pub const RUNTIME_CONTAINER: &str = "asya-runtime";
/// The container that is injected.
pub const SIDECAR_CONTAINER: &str = "asya-sidecar";
/// What `kubectl` makes of the key `on` when it is not quoted: YAML 1.1 reads it as a boolean.
pub const UNQUOTED_ON: &str = "true";
/// The actors that end every pipeline.
pub const END_ACTORS: [&str; 2] = ["happy-end", "error-end"];

/// One AsyncActor of a directory, checked. Dereferences to its [`Spec`].
#[derive(Debug, Clone, PartialEq)]
pub struct Actor {
    /// `metadata.name`: also the name in routes, and `asya-<name>` its queue.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// The file and the line on which the document begins.
    pub source: Location,
    /// The typed fields.
    pub spec: Spec,
    places: Places,
}

impl Deref for Actor {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        &self.spec
    }
}

impl Actor {
    /// The actor in a document that passed every check; `root` is the document's path inside the file.
    ///
    /// The checks admit nothing that the types refuse; should they ever differ, the difference is the error.
    pub(crate) fn read(document: &Node, root: &KeyPath, file: &Path) -> Result<Self, serde_json::Error> {
        let spec = document
            .get("spec")
            .map_or(serde_json::Value::Null, Node::to_json);
        let text = |keys: &[&str]| document.at(keys).and_then(Node::text).map(str::to_owned);
        let texts = |keys: &[&str]| -> BTreeMap<String, String> {
            let entries = document.at(keys).map(Node::entries).unwrap_or_default();
            let members = entries
                .iter()
                .filter_map(|entry| Some((entry.key.clone(), entry.value.text()?.to_owned())));
            members.collect()
        };
        Ok(Self {
            name: text(&["metadata", "name"]).unwrap_or_default(),
            namespace: text(&["metadata", "namespace"]),
            labels: texts(&["metadata", "labels"]),
            annotations: texts(&["metadata", "annotations"]),
            source: Location::at(file, document.position),
            spec: serde_json::from_value(spec)?,
            places: Places::of(document, root),
        })
    }

    /// Whether this is `happy-end` or `error-end`.
    pub fn is_end_actor(&self) -> bool {
        is_end_actor(&self.name)
    }

    /// Where a key path of this manifest stands, e.g. `spec.transport` or
    /// `spec.workload.template.spec.containers[0].env[1].value`; the document's start if it is not written.
    /// Paths are those of [`Problem::key`](crate::Problem::key): inside a `List` they begin with `items[n]`.
    pub fn location(&self, key: &str) -> Location {
        match self.places.positions.get(key) {
            Some(position) => Location::at(&self.source.file, *position),
            None => self.source.clone(),
        }
    }

    /// The key path of a runtime container's variable, for a [`Problem`](crate::Problem) about it together with
    /// [`Actor::location`]; the last entry when the name is written twice, as only that one counts.
    pub fn runtime_env_key(&self, name: &str) -> Option<String> {
        let index = self.runtime_env_index(name)?;
        let field = if self.runtime_env_entries()[index].value.is_some() {
            "value"
        } else {
            "name"
        };
        Some(self.runtime_env_path()?.index(index).key(field).to_string())
    }

    /// The key path of whatever gives the runtime this variable: the container's own variable, or the field of
    /// `spec.runtime` that stands for it.
    pub fn runtime_setting_key(&self, variable: &str) -> Option<String> {
        self.runtime_env_key(variable).or_else(|| {
            let field = self.places.root.keys(&["spec", "runtime"]);
            let key = field.keys(calls::keys_of(variable)?).to_string();
            self.places.positions.contains_key(&key).then_some(key)
        })
    }
}

/// Where each value of a document begins, by key path.
#[derive(Debug, Clone, PartialEq)]
struct Places {
    root: KeyPath,
    positions: BTreeMap<String, Position>,
}

impl Places {
    fn of(document: &Node, root: &KeyPath) -> Self {
        let mut places = Self {
            root: root.clone(),
            positions: BTreeMap::new(),
        };
        places.add(document, document.position, root);
        places
    }

    /// A collection stands where its key does: its own first line belongs to its first member.
    fn add(&mut self, node: &Node, at: Position, path: &KeyPath) {
        self.positions.insert(path.to_string(), at);
        match &node.kind {
            Kind::Map(entries) => entries.iter().for_each(|entry| {
                let collection = matches!(entry.value.kind, Kind::Map(_) | Kind::List(_));
                let at = if collection {
                    entry.position
                } else {
                    entry.value.position
                };
                self.add(&entry.value, at, &path.key(&entry.key));
            }),
            Kind::List(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(index, item)| self.add(item, item.position, &path.index(index)));
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Text(_) => {}
        }
    }
}
