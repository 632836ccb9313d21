//! The transport registry (`ASYA_TRANSPORT_CONFIG`, contract operator §4): which brokers there are and how they are
//! used. Pure: reading JSON text, and looking names up.

mod fields;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

pub use read::read;

/// All transports that the operator was told of, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    /// Enabled and disabled ones.
    pub transports: BTreeMap<String, Transport>,
    /// Names of disabled ones that are of no known type.
    pub unreadable: BTreeSet<String>,
}

/// One entry of the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct Transport {
    /// Its key in the registry; any name.
    pub name: String,
    /// A disabled transport is known and refused.
    pub enabled: bool,
    /// What it is.
    pub broker: Broker,
}

/// What a transport is, and its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Broker {
    /// `type: rabbitmq`.
    RabbitMq(RabbitMq),
    /// `type: sqs`.
    Sqs(Sqs),
}

/// A key of a Secret in the namespace of the actor.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretKey {
    /// Name of the Secret.
    pub name: String,
    /// Key in its data.
    pub key: String,
    /// Whether it may be absent.
    pub optional: bool,
}

/// `rabbitmq` (contract operator §4.2).
#[derive(Debug, Clone, PartialEq)]
pub struct RabbitMq {
    /// Host name or address, without scheme.
    pub host: String,
    /// Default 5672, with TLS 5671.
    pub port: u16,
    /// Default `guest`.
    pub username: String,
    /// Where the password stands; without it the broker's default `guest` is used.
    pub password: Option<SecretKey>,
    /// Default `asya`.
    pub exchange: String,
    /// Default `/`.
    pub vhost: String,
    /// Whether AMQP and the management API are spoken over TLS. Default false.
    pub tls: bool,
    /// Port of the management API; absent means that it is not used.
    pub management_port: Option<u16>,
    /// How queues are made.
    pub queues: Queues,
    /// What every scaler of this transport gets unless the actor says otherwise.
    pub behavior: Option<Value>,
}

/// `sqs` (contract operator §4.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Sqs {
    /// AWS region.
    pub region: String,
    /// AWS account id; needed by the scaler.
    pub account_id: String,
    /// Another endpoint than AWS's, e.g. of a stand-in.
    pub endpoint: Option<String>,
    /// Role of the actors' service accounts; turns on IRSA (contract operator §10).
    pub actor_role_arn: Option<String>,
    /// `serviceAccount.perActor`: a `ServiceAccount` without annotation, for Pod Identity. Default false.
    pub service_account_per_actor: bool,
    /// Seconds; absent means max(300, 2 × processing) for each actor.
    pub visibility_timeout: Option<u32>,
    /// Seconds of a long poll; absent means the sidecar's default of 20.
    pub wait_time: Option<u32>,
    /// Static keys.
    pub credentials: Option<SqsCredentials>,
    /// How queues are made.
    pub queues: Queues,
    /// Tags of created queues beside ours.
    pub tags: BTreeMap<String, String>,
    /// What every scaler of this transport gets unless the actor says otherwise.
    pub behavior: Option<Value>,
}

/// `credentials` of `sqs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsCredentials {
    /// `accessKeyIdSecretRef`.
    pub access_key_id: SecretKey,
    /// `secretAccessKeySecretRef`.
    pub secret_access_key: SecretKey,
}

/// `queues` of either.
#[derive(Debug, Clone, PartialEq)]
pub struct Queues {
    /// Whether missing queues are created. Default true.
    pub auto_create: bool,
    /// Whether an empty queue with other arguments is made anew. Default false.
    pub force_recreate: bool,
    /// Dead letters.
    pub dead_letter: DeadLetter,
    /// Extra arguments of created queues (RabbitMQ), beside those that follow from the rest.
    pub arguments: Map<String, Value>,
    /// Whether created queues are quorum queues (RabbitMQ). Default true for new queues.
    pub quorum: bool,
}

/// `queues.dlq`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetter {
    /// Default false.
    pub enabled: bool,
    /// Deliveries after which a message is a suspect. Default 3.
    pub max_retry_count: u32,
    /// Days (SQS). Default 14.
    pub retention_days: u32,
    /// One for each actor instead of the shared `asya-dlq` (SQS). Default false.
    pub per_actor: bool,
}

impl Broker {
    /// `rabbitmq` or `sqs`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RabbitMq(_) => "rabbitmq",
            Self::Sqs(_) => "sqs",
        }
    }

    /// How queues are made.
    pub fn queues(&self) -> &Queues {
        match self {
            Self::RabbitMq(broker) => &broker.queues,
            Self::Sqs(broker) => &broker.queues,
        }
    }
}

impl Transport {
    /// The name of an actor's queue, whatever its namespace, as sidecars and the gateway know it too.
    pub fn queue_name(&self, _namespace: &str, actor: &str) -> String {
        asya_transport::QueueName::for_actor(actor).to_string()
    }
}

/// Why an actor's transport cannot be used. The name is part of the message (contract operator §4.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No entry of that name.
    #[error("transport {name:?} not found in the operator's registry; known: {known}")]
    NotFound {
        /// The name that was looked up.
        name: String,
        /// The names that exist, joined by commas, or `none`.
        known: String,
    },
    /// An entry that is switched off.
    #[error("transport {0:?} is disabled in the operator's registry")]
    Disabled(String),
}

impl Registry {
    /// The enabled transport of that name.
    pub fn find(&self, name: &str) -> Result<&Transport, LookupError> {
        match self.transports.get(name) {
            Some(transport) if transport.enabled => Ok(transport),
            Some(_) => Err(LookupError::Disabled(name.to_owned())),
            None if self.unreadable.contains(name) => Err(LookupError::Disabled(name.to_owned())),
            None => {
                let known: Vec<&str> = self.transports.keys().map(String::as_str).collect();
                let known = if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                };
                Err(LookupError::NotFound {
                    name: name.to_owned(),
                    known,
                })
            }
        }
    }
}
