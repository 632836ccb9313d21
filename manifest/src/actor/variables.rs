//! From manifest fields to the environment of the two containers.

use std::time::Duration;

use serde_json::Value;

use super::spec::{Spec, Timeout};
use super::{END_ACTORS, RUNTIME_CONTAINER};

impl Spec {
    /// How long one call of the handler may take; 300 s when `timeout.processing` is absent or 0.
    pub fn processing_timeout(&self) -> Duration {
        let seconds = match self.timeout.processing {
            0 => Timeout::DEFAULT_PROCESSING,
            seconds => seconds,
        };
        Duration::from_secs(u64::from(seconds))
    }

    /// The Python that runs the handler; `python3` unless the manifest names another.
    pub fn python_executable(&self) -> &str {
        &self.workload.python_executable
    }

    /// The `asya-runtime` container as it stands in the pod template.
    pub fn runtime_container(&self) -> Option<&Value> {
        let containers = self.workload.template.spec.get("containers")?.as_array()?;
        containers.iter().find(|container| is_runtime(container))
    }

    /// Its index among the template's containers.
    pub(super) fn runtime_index(&self) -> Option<usize> {
        let containers = self.workload.template.spec.get("containers")?.as_array()?;
        containers.iter().position(is_runtime)
    }

    /// The sidecar variables that follow from the manifest, in a stable order. `sidecar.env` comes after them and
    /// wins. A field that is absent gives no variable, so the sidecar's own default holds.
    pub fn sidecar_variables(&self) -> Vec<(&'static str, String)> {
        let retry = &self.retry;
        let mut variables = Variables::default();
        let processing = self.timeout.processing;
        variables.add(
            "ASYA_RUNTIME_TIMEOUT",
            (processing > 0).then(|| format!("{processing}s")),
        );
        variables.add("ASYA_RETRY_MAX_ATTEMPTS", retry.max_attempts);
        variables.add("ASYA_RETRY_INITIAL_BACKOFF", retry.initial_backoff);
        variables.add("ASYA_RETRY_MAX_BACKOFF", retry.max_backoff);
        variables.add("ASYA_RETRY_MULTIPLIER", retry.multiplier);
        variables.add("ASYA_RETRY_JITTER", retry.jitter);
        variables.add("ASYA_RETRY_MAX_DURATION", retry.max_duration);
        variables.add("ASYA_RETRY_ON", joined(&retry.on));
        variables.add("ASYA_RETRY_NEVER_ON", joined(&retry.never_on));
        variables.add("ASYA_MAX_DELIVERIES", retry.max_deliveries);
        variables.add(
            "ASYA_MAX_MESSAGE_SIZE",
            self.limits.message_size.map(|size| size.0),
        );
        variables.add("ASYA_MAX_HOPS", self.limits.hops);
        variables.0
    }

    /// The runtime variables that follow from the manifest, in a stable order. What the container's own `env` says
    /// of the same name wins.
    pub fn runtime_variables(&self) -> Vec<(&'static str, String)> {
        let runtime = &self.runtime;
        let batch = runtime.batch.as_ref();
        let mut variables = Variables::default();
        variables.add("ASYA_WORKERS", runtime.workers);
        variables.add("ASYA_CONCURRENCY", runtime.concurrency);
        variables.add("ASYA_BATCH_SIZE", batch.and_then(|batch| batch.size));
        variables.add("ASYA_BATCH_WAIT", batch.and_then(|batch| batch.wait));
        variables.add("ASYA_STREAM", runtime.stream);
        variables.add(
            "ASYA_MAX_MESSAGE_SIZE",
            self.limits.message_size.map(|size| size.0),
        );
        variables.0
    }
}

/// Whether an actor of this name ends pipelines (`happy-end`, `error-end`).
pub fn is_end_actor(name: &str) -> bool {
    END_ACTORS.contains(&name)
}

fn is_runtime(container: &Value) -> bool {
    container.get("name").and_then(Value::as_str) == Some(RUNTIME_CONTAINER)
}

fn joined(names: &[String]) -> Option<String> {
    (!names.is_empty()).then(|| names.join(","))
}

#[derive(Default)]
struct Variables(Vec<(&'static str, String)>);

impl Variables {
    fn add(&mut self, name: &'static str, value: Option<impl ToString>) {
        self.0.extend(value.map(|value| (name, value.to_string())));
    }
}
