//! Kubernetes Events of actors (contract operator §11.6), for `kubectl describe`.

use std::time::Duration;

use kube::Resource as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use serde_json::Value;

use super::compare::fingerprint;
use crate::resource::{AsyncActor, FIELD_MANAGER};

/// An event is worth no more waiting than this.
const PATIENCE: Duration = Duration::from_secs(5);
/// The API server takes 1 kB.
const LONGEST: usize = 1000;

/// Something that a user should see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// A warning, or business as usual.
    pub(super) is_warning: bool,
    /// CamelCase word.
    pub(super) reason: String,
    /// For people.
    pub(super) message: String,
}

impl Note {
    /// Business as usual.
    pub(super) fn normal(reason: &str, message: impl Into<String>) -> Self {
        Self {
            is_warning: false,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }

    /// Worth a look.
    pub(super) fn warning(reason: &str, message: impl Into<String>) -> Self {
        Self {
            is_warning: true,
            reason: reason.to_owned(),
            message: message.into(),
        }
    }
}

/// Publishes notes.
#[derive(Clone)]
pub(super) struct Events {
    recorder: Recorder,
}

impl Events {
    /// Through this client.
    pub(super) fn new(client: kube::Client) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.into(),
            instance: std::env::var("POD_NAME").ok(),
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Publishes one note. An event that cannot be published is logged and forgotten: nothing depends on it.
    pub(super) async fn publish(&self, actor: &AsyncActor, note: Note) {
        let Note {
            is_warning,
            reason,
            mut message,
        } = note;
        if message.len() > LONGEST {
            message.truncate(message.floor_char_boundary(LONGEST - 3));
            message.push_str("...");
        }
        // The recorder counts events that are alike in everything but the note as one; the action tells them apart.
        let action = format!("{reason}-{}", fingerprint(&Value::from(message.as_str())));
        let kind = if is_warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let event = Event {
            type_: kind,
            reason,
            note: Some(message),
            action,
            secondary: None,
        };
        let about = actor.object_ref(&());
        let published = self.recorder.publish(&event, &about);
        match tokio::time::timeout(PATIENCE, published).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, reason = event.reason, "an event was not published"),
            Err(_) => tracing::debug!(reason = event.reason, "an event was not published in time"),
        }
    }
}
