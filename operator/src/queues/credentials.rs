//! Credentials of brokers: single keys of Secrets in the namespace of the actor that uses them.
//!
//! What it is: reading one Secret by its name, remembered for half a minute so that a thousand actors of a namespace
//! cost one request. What it is not: a cache of the cluster's Secrets; nothing is listed or watched (O-11).

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Secret;

use super::QueueError;
use crate::registry::SecretKey;

/// How long what a Secret says is taken for granted.
const FRESH: Duration = Duration::from_secs(30);

/// How long reading one Secret may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The data of a Secret.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// Where Secrets are read.
pub trait Secrets: Send + Sync + 'static {
    /// The data of one Secret, `None` if there is no such Secret; the error is a sentence without secrets.
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<SecretData>, String>>;
}

/// Secrets of a cluster, read one by one: needs `get` and neither `list` nor `watch`.
#[derive(Clone)]
pub struct KubeSecrets {
    /// The API server.
    pub client: kube::Client,
}

impl Secrets for KubeSecrets {
    fn read<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Option<SecretData>, String>> {
        Box::pin(async move {
            let secrets: kube::Api<Secret> = kube::Api::namespaced(self.client.clone(), namespace);
            let reading = tokio::time::timeout(PATIENCE, secrets.get_opt(name));
            let answer = reading
                .await
                .map_err(|_| format!("no answer of the API server within {PATIENCE:?}"))?;
            let secret = answer.map_err(|error| error.to_string())?;
            Ok(secret.map(|secret| {
                secret
                    .data
                    .unwrap_or_default()
                    .into_iter()
                    .map(|(key, value)| (key, value.0))
                    .collect()
            }))
        })
    }
}

/// A secret value. It is shown nowhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Hidden(pub(super) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

/// When a Secret was read, and what it said.
type Read = (Instant, Arc<SecretData>);

/// Secrets that were read a moment ago.
pub(super) struct Safe {
    secrets: Arc<dyn Secrets>,
    /// By namespace and name.
    known: Mutex<HashMap<(String, String), Read>>,
}

impl Safe {
    pub(super) fn new(secrets: Arc<dyn Secrets>) -> Self {
        Self {
            secrets,
            known: Mutex::default(),
        }
    }

    /// The value of a key, or `None` if it is missing and optional. An error names Secret, key and namespace.
    pub(super) async fn value(
        &self,
        namespace: &str,
        wanted: &SecretKey,
    ) -> Result<Option<Hidden>, QueueError> {
        let SecretKey { name, key, optional } = wanted;
        let Some(data) = self.data(namespace, name).await? else {
            return missing(*optional, || {
                format!(
                    "Secret {name:?} is missing in namespace {namespace:?}; create it with the key {key:?}"
                )
            });
        };
        let Some(value) = data.get(key) else {
            return missing(*optional, || {
                let present = data
                    .keys()
                    .map(|key| format!("{key:?}"))
                    .collect::<Vec<_>>()
                    .join(", ");
                let present = if present.is_empty() {
                    "no keys".into()
                } else {
                    present
                };
                format!(
                    "Secret {name:?} in namespace {namespace:?} has no key {key:?} (it has {present}); add the key"
                )
            });
        };
        let text = std::str::from_utf8(value).map_err(|_| {
            QueueError::Credentials(format!(
                "key {key:?} of Secret {name:?} in namespace {namespace:?} is not UTF-8 text"
            ))
        })?;
        Ok(Some(Hidden(text.to_owned())))
    }

    /// Reads it anew next time: what it said was refused.
    pub(super) fn doubt(&self, namespace: &str, name: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(namespace.to_owned(), name.to_owned()));
    }

    async fn data(&self, namespace: &str, name: &str) -> Result<Option<Arc<SecretData>>, QueueError> {
        let place = (namespace.to_owned(), name.to_owned());
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, (read, _)| read.elapsed() < FRESH);
            if let Some((_, data)) = known.get(&place) {
                return Ok(Some(Arc::clone(data)));
            }
        }
        let read = self.secrets.read(namespace, name).await.map_err(|reason| {
            QueueError::Credentials(format!(
                "Secret {name:?} in namespace {namespace:?} cannot be read: {reason}"
            ))
        })?;
        let data = read.map(Arc::new);
        if let Some(data) = &data {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(place, (Instant::now(), Arc::clone(data)));
        }
        Ok(data)
    }
}

fn missing(optional: bool, reason: impl FnOnce() -> String) -> Result<Option<Hidden>, QueueError> {
    if optional {
        Ok(None)
    } else {
        Err(QueueError::Credentials(reason()))
    }
}
