//! What `/metrics` says of single actors.
//!
//! It is written from the statuses that were seen last and not recorded as gauges: an actor that is gone leaves no
//! series behind, and one that changes its status leaves no old one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::metrics::{ACTOR_STATUS, QUEUE_MESSAGES, help};
use crate::report::Observer;
use crate::resource::AsyncActor;
use crate::status::Status;

/// Keeps what is needed of each actor, and tells the next observer if there is one.
#[derive(Default)]
pub(super) struct Actors {
    seen: Mutex<BTreeMap<(String, String), Seen>>,
    next: OnceLock<Arc<dyn Observer>>,
}

#[derive(Debug)]
struct Seen {
    status: String,
    queued: Option<i32>,
    processing: Option<i32>,
}

impl Actors {
    /// Tells `next` as well from now on. The first one stays.
    pub(super) fn tell(&self, next: Arc<dyn Observer>) {
        let _first = self.next.set(next);
    }

    /// As text of Prometheus.
    pub(super) fn render(&self) -> String {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut states, mut queues) = (String::new(), String::new());
        for ((namespace, actor), seen) in seen.iter() {
            // Names and words of Kubernetes hold nothing that has to be escaped; writing to a text cannot fail.
            let labels = format!("namespace=\"{namespace}\",actor=\"{actor}\"");
            let _ = writeln!(states, "{ACTOR_STATUS}{{{labels},status=\"{}\"}} 1", seen.status);
            for (state, count) in [("queued", seen.queued), ("processing", seen.processing)] {
                if let Some(count) = count {
                    let _ = writeln!(queues, "{QUEUE_MESSAGES}{{{labels},state=\"{state}\"}} {count}");
                }
            }
        }
        family(ACTOR_STATUS, &states) + &family(QUEUE_MESSAGES, &queues)
    }
}

fn family(name: &str, lines: &str) -> String {
    format!("# HELP {name} {}\n# TYPE {name} gauge\n{lines}\n", help(name))
}

impl Observer for Actors {
    fn observed(&self, actor: &AsyncActor, status: &Status) {
        let metadata = &actor.metadata;
        let key = (
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        let seen = Seen {
            status: status.status.clone().unwrap_or_else(|| "Unknown".into()),
            queued: status.queued_messages,
            processing: status.processing_messages,
        };
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, seen);
        if let Some(next) = self.next.get() {
            next.observed(actor, status);
        }
    }

    fn deleted(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
        if let Some(next) = self.next.get() {
            next.deleted(namespace, name);
        }
    }

    fn synced(&self) {
        if let Some(next) = self.next.get() {
            next.synced();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(name: &str) -> AsyncActor {
        let mut actor = AsyncActor::default();
        actor.metadata.name = Some(name.into());
        actor.metadata.namespace = Some("ns".into());
        actor
    }

    #[test]
    fn each_actor_has_one_status_and_none_when_it_is_gone() {
        let actors = Actors::default();
        for state in ["Creating", "Running"] {
            let status = Status {
                status: Some(state.into()),
                queued_messages: Some(3),
                ..Status::default()
            };
            actors.observed(&actor("a"), &status);
        }
        let text = actors.render();
        assert!(
            text.contains("asya_operator_actor_status{namespace=\"ns\",actor=\"a\",status=\"Running\"} 1\n"),
            "{text}"
        );
        assert!(!text.contains("Creating"), "{text}");
        assert!(
            text.contains("asya_operator_queue_messages{namespace=\"ns\",actor=\"a\",state=\"queued\"} 3\n"),
            "{text}"
        );
        assert!(
            !text.contains("state=\"processing\""),
            "what is not known is not shown: {text}"
        );
        actors.deleted("ns", "a");
        assert!(!actors.render().contains("actor=\"a\""));
    }
}
