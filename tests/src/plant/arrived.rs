//! A message at the end of its way, and what it says.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use asya_transport::Delivery;
use bytes::Bytes;
use serde_json::Value;

/// A message that was taken out of a queue.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The message id that AMQP carries.
    pub message_id: Option<String>,
    /// The message, byte for byte.
    pub body: Bytes,
}

impl Arrived {
    pub(super) fn new(delivery: &Delivery) -> Self {
        Self {
            message_id: delivery.message_id.clone(),
            body: delivery.body.clone(),
        }
    }

    /// The message as JSON; `null` when it is none.
    pub fn envelope(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The id of the envelope; empty when there is none.
    pub fn id(&self) -> String {
        self.envelope()["id"].as_str().unwrap_or_default().to_owned()
    }

    /// Why the envelope is in error-end.
    pub fn error(&self) -> String {
        self.envelope()["payload"]["error"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// What an error envelope says about the exception.
    pub fn error_message(&self) -> String {
        self.envelope()["payload"]["details"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// A short stand-in for identity and content.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.message_id, &self.body).hash(&mut hasher);
        hasher.finish()
    }
}
