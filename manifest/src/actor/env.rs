//! The environment that a manifest gives its containers.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use super::{Actor, EnvVar};
use crate::path::KeyPath;
use crate::problem::Location;

/// The value of a variable, as far as the manifest alone tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// Written in the manifest; references such as `$(OTHER)` are expanded as Kubernetes does.
    Literal(String),
    /// Known to the cluster only (`valueFrom`).
    FromCluster {
        /// What it refers to, e.g. `secretKeyRef db/password`.
        reference: String,
        /// Where it is written.
        location: Location,
    },
}

impl EnvValue {
    /// The value if the manifest tells it.
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(value) => Some(value),
            Self::FromCluster { .. } => None,
        }
    }
}

impl Actor {
    /// The `asya-runtime` container's own variables, in order; of two with one name the last counts.
    ///
    /// [`Spec::runtime_variables`](super::Spec::runtime_variables) stand beside these and yield to them.
    pub fn runtime_env(&self) -> Vec<(String, EnvValue)> {
        let path = self
            .runtime_env_path()
            .unwrap_or_else(|| self.places.root.clone());
        self.environment(&self.runtime_env_entries(), &path)
    }

    /// The variables of `spec.sidecar.env`, in order; of two with one name the last counts.
    ///
    /// They win over [`Spec::sidecar_variables`](super::Spec::sidecar_variables).
    pub fn sidecar_env(&self) -> Vec<(String, EnvValue)> {
        self.environment(
            &self.spec.sidecar.env,
            &self.places.root.keys(&["spec", "sidecar", "env"]),
        )
    }

    /// The runtime's variable of this name, if the manifest gives it a literal value.
    pub fn runtime_variable(&self, name: &str) -> Option<String> {
        let found = self
            .runtime_env()
            .into_iter()
            .find(|(variable, _)| variable == name);
        found.and_then(|(_, value)| value.literal().map(str::to_owned))
    }

    /// The checks have admitted nothing here that is no [`EnvVar`], so indices are those of the file.
    pub(super) fn runtime_env_entries(&self) -> Vec<EnvVar> {
        let entries = self
            .spec
            .runtime_container()
            .and_then(|container| container.get("env"));
        let entries = entries
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        entries
            .iter()
            .filter_map(|entry| EnvVar::deserialize(entry).ok())
            .collect()
    }

    pub(super) fn runtime_env_index(&self, name: &str) -> Option<usize> {
        self.runtime_env_entries()
            .iter()
            .rposition(|entry| entry.name == name)
    }

    pub(super) fn runtime_env_path(&self) -> Option<KeyPath> {
        let containers = self
            .places
            .root
            .keys(&["spec", "workload", "template", "spec", "containers"]);
        Some(containers.index(self.spec.runtime_index()?).key("env"))
    }

    fn environment(&self, entries: &[EnvVar], path: &KeyPath) -> Vec<(String, EnvValue)> {
        let mut known: HashMap<&str, String> = HashMap::new();
        let mut environment: Vec<(String, EnvValue)> = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let value = match &entry.value_from {
                Some(source) => EnvValue::FromCluster {
                    reference: describe(source),
                    location: self.location(&path.index(index).key("valueFrom").to_string()),
                },
                None => EnvValue::Literal(expand(entry.value.as_deref().unwrap_or_default(), &known)),
            };
            match value.literal() {
                Some(literal) => known.insert(&entry.name, literal.to_owned()),
                None => known.remove(entry.name.as_str()),
            };
            environment.retain(|(name, _)| *name != entry.name);
            environment.push((entry.name.clone(), value));
        }
        environment
    }
}

/// `secretKeyRef db/password`, `fieldRef metadata.name`.
fn describe(source: &Value) -> String {
    let Some((kind, reference)) = source.as_object().and_then(|source| source.iter().next()) else {
        return "valueFrom".to_owned();
    };
    let parts: Vec<&str> = ["name", "key", "fieldPath", "resource"]
        .iter()
        .filter_map(|part| reference.get(part).and_then(Value::as_str))
        .collect();
    format!("{kind} {}", parts.join("/")).trim_end().to_owned()
}

/// Kubernetes' dependent variables: `$(NAME)` of a variable defined before, `$$` for a dollar sign; anything else,
/// also an unknown name, stays as written.
fn expand(value: &str, known: &HashMap<&str, String>) -> String {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_in_a_pod() {
        let known = HashMap::from([("HOST", "db".to_owned())]);
        for (written, read) in [
            ("plain", "plain"),
            ("http://$(HOST):80", "http://db:80"),
            ("$(OTHER)", "$(OTHER)"),
            ("$$(HOST)", "$(HOST)"),
            ("$HOST $", "$HOST $"),
            ("$(HOST", "$(HOST"),
            ("é$(HOST)é", "édbé"),
        ] {
            assert_eq!(expand(written, &known), read, "{written}");
        }
    }

    #[test]
    fn sources_are_named() {
        let source = serde_json::json!({"secretKeyRef": {"name": "db", "key": "password"}});
        assert_eq!(describe(&source), "secretKeyRef db/password");
        assert_eq!(
            describe(&serde_json::json!({"fieldRef": {"fieldPath": "metadata.name"}})),
            "fieldRef metadata.name"
        );
        assert_eq!(describe(&serde_json::json!({})), "valueFrom");
    }
}
