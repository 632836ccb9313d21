//! Writes `status`, through its subresource, and only what changed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Map, Value, json};

use super::view::is_older;
use super::work_queue::Key;
use crate::resource::{AsyncActor, FIELD_MANAGER};
use crate::status::Status;

/// See the module.
pub(super) struct StatusWriter {
    client: Client,
    /// What was written last, for as long as the watch has not told it.
    written: Mutex<HashMap<Key, Written>>,
}

#[derive(Clone)]
struct Written {
    uid: String,
    version: String,
    status: Value,
}

impl StatusWriter {
    /// Through this client.
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            written: Mutex::default(),
        }
    }

    /// The status that is shown now: the object's, or what was written since.
    pub(super) fn shown(&self, key: &Key, object: &AsyncActor) -> Value {
        let version = object.resource_version().unwrap_or_default();
        let written = self.state().get(key).cloned();
        written
            .filter(|written| {
                written.uid == object.uid().unwrap_or_default() && is_older(&version, &written.version)
            })
            .map_or_else(|| object.status.clone(), |written| written.status)
    }

    /// Writes `next` if it differs from what is shown. Gives whether something was written.
    pub(super) async fn write(
        &self,
        key: &Key,
        object: &AsyncActor,
        next: &Status,
    ) -> Result<bool, kube::Error> {
        let shown = self.shown(key, object);
        // A status is plain data: it can be written as JSON.
        let next = serde_json::to_value(next).unwrap_or_default();
        let Some(patch) = difference(&shown, &next) else {
            return Ok(false);
        };
        let actors: Api<AsyncActor> = Api::namespaced(self.client.clone(), &key.namespace);
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.into()),
            ..PatchParams::default()
        };
        let patch = json!({"status": patch, "metadata": {"uid": object.metadata.uid}});
        let answer = match actors
            .patch_status(&key.name, &parameters, &Patch::Merge(&patch))
            .await
        {
            Ok(answer) => answer,
            // It is gone, or another object of its name came: there is nothing to show.
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
            Err(error) => return Err(error),
        };
        let uid = answer.uid().unwrap_or_default();
        let version = answer.resource_version().unwrap_or_default();
        self.state().insert(
            key.clone(),
            Written {
                uid,
                version,
                status: answer.status,
            },
        );
        Ok(true)
    }

    /// The actor is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.state().remove(key);
    }

    fn state(&self) -> MutexGuard<'_, HashMap<Key, Written>> {
        // No code that holds the lock can panic half-way through a change.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The merge patch that turns `shown` into `next`; `None` if there is nothing to do. Objects in a status (references)
/// have the same members always, so that merging them replaces them.
fn difference(shown: &Value, next: &Value) -> Option<Value> {
    let empty = Map::new();
    let shown = shown.as_object().unwrap_or(&empty);
    let next = next.as_object().unwrap_or(&empty);
    let changed = next.iter().filter(|(key, value)| shown.get(*key) != Some(value));
    let mut patch: Map<String, Value> = changed.map(|(key, value)| (key.clone(), value.clone())).collect();
    let removed = shown
        .iter()
        .filter(|(key, value)| !value.is_null() && !next.contains_key(*key));
    patch.extend(removed.map(|(key, _)| (key.clone(), Value::Null)));
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::difference;

    #[test]
    fn only_what_changed_is_sent_and_what_went_is_removed() {
        let shown =
            json!({"status": "Running", "replicas": 1, "scaledObjectRef": {"name": "a", "namespace": "b"}});
        let next = json!({"status": "Running", "replicas": 2});
        assert_eq!(
            difference(&shown, &next),
            Some(json!({"replicas": 2, "scaledObjectRef": null}))
        );
        assert_eq!(difference(&next, &next), None);
        assert_eq!(difference(&json!(null), &json!({})), None);
    }
}
