//! Options that have been checked and put into the words of AMQP, once.

use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use serde_json::{Map, Value};

use super::error::ConnectError;
use super::options::RabbitMqOptions;
use crate::QueueName;

/// Deliveries after which a quorum queue that we create gives up on a message. Brokers from 4.0 on have a default of
/// 20, and drop the message then; who counts deliveries is the caller, so ours is out of reach (rulings 1).
const QUORUM_DELIVERY_LIMIT: i64 = 1_000_000;

/// What every part of the transport needs to know.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) options: RabbitMqOptions,
    pub(super) exchange: ShortString,
    pub(super) queue_arguments: FieldTable,
    max_message_size: AtomicUsize,
}

impl Settings {
    pub(super) fn check(options: RabbitMqOptions) -> Result<Self, ConnectError> {
        options.address.check()?;
        let exchange = ShortString::try_new(options.exchange.as_str());
        let exchange = exchange.map_err(|error| ConnectError::Setting {
            setting: "exchange name",
            problem: error.to_string(),
        })?;
        if options.exchange.is_empty() || options.exchange.starts_with("amq.") {
            return Err(ConnectError::Setting {
                setting: "exchange name",
                problem: format!("{:?} is reserved by the broker", options.exchange),
            });
        }
        let mut queue_arguments = table(&options.queues.arguments)?;
        if options.queues.quorum && !queue_arguments.contains_key("x-queue-type") {
            queue_arguments.insert("x-queue-type".into(), long_string("quorum"));
        }
        let queue_arguments = limited(queue_arguments);
        Ok(Self {
            max_message_size: AtomicUsize::new(options.max_message_size),
            options,
            exchange,
            queue_arguments,
        })
    }

    /// The address as the client library wants it.
    pub(super) fn uri(&self) -> AMQPUri {
        let address = &self.options.address;
        AMQPUri {
            scheme: if address.tls {
                AMQPScheme::AMQPS
            } else {
                AMQPScheme::AMQP
            },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: address.user.clone(),
                    password: address.password.clone(),
                },
                host: address.host.clone(),
                port: address.port,
            },
            vhost: address.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(
                    u16::try_from(self.options.heartbeat.as_secs())
                        .unwrap_or(u16::MAX)
                        .max(1),
                ),
                ..AMQPQueryString::default()
            },
        }
    }

    /// Reads the TLS files.
    pub(super) async fn tls(&self) -> Result<OwnedTLSConfig, ConnectError> {
        let files = &self.options.tls;
        let mut config = OwnedTLSConfig::default();
        if !self.options.address.tls {
            return Ok(config);
        }
        if let Some(path) = &files.ca {
            let pem = read("CA file", path).await?;
            config.cert_chain = Some(String::from_utf8_lossy(&pem).into_owned());
        }
        if let Some(client) = &files.client {
            config.identity = Some(OwnedIdentity::PKCS8 {
                pem: read("client certificate", &client.certificate).await?,
                key: read("client key", &client.key).await?,
            });
        }
        Ok(config)
    }

    /// Largest body that the broker is known to take, in bytes.
    pub(super) fn max_message_size(&self) -> usize {
        self.max_message_size.load(Ordering::Relaxed)
    }

    /// The broker was seen to refuse what is larger than `limit`.
    pub(super) fn learn_max_message_size(&self, limit: usize) {
        self.max_message_size.fetch_min(limit, Ordering::Relaxed);
    }

    /// Whether queues that we create replicate.
    pub(super) fn creates_quorum_queues(&self) -> bool {
        are_quorum(&self.queue_arguments)
    }
}

/// Arguments of queues as AMQP carries them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueArguments(pub(super) FieldTable);

impl QueueArguments {
    /// Takes them over from JSON. Quorum queues get a delivery limit that is out of reach unless they have one.
    ///
    /// # Errors
    /// When a name or a value cannot be sent over AMQP.
    pub fn read(arguments: &Map<String, Value>) -> Result<Self, ConnectError> {
        Ok(Self(limited(table(arguments)?)))
    }

    pub(super) fn are_quorum(&self) -> bool {
        are_quorum(&self.0)
    }
}

fn are_quorum(arguments: &FieldTable) -> bool {
    arguments.inner().get("x-queue-type") == Some(&long_string("quorum"))
}

fn limited(mut arguments: FieldTable) -> FieldTable {
    if are_quorum(&arguments) && !arguments.contains_key("x-delivery-limit") {
        arguments.insert("x-delivery-limit".into(), no_delivery_limit());
    }
    arguments
}

/// The delivery limit of a quorum queue that drops nothing.
pub(super) fn no_delivery_limit() -> AMQPValue {
    AMQPValue::LongLongInt(QUORUM_DELIVERY_LIMIT)
}

async fn read(what: &'static str, path: &std::path::Path) -> Result<Vec<u8>, ConnectError> {
    let file = path.to_owned();
    let content = tokio::task::spawn_blocking(move || std::fs::read(file)).await;
    let content = content.unwrap_or_else(|ended| Err(std::io::Error::other(ended)));
    content.map_err(|source| ConnectError::TlsFile {
        what,
        path: path.to_owned(),
        source,
    })
}

/// The name of a queue as AMQP carries it; `None` for a name that no queue can have.
pub(super) fn queue_name(queue: &QueueName) -> Option<ShortString> {
    if queue.as_str().is_empty() {
        return None;
    }
    ShortString::try_new(queue.as_str()).ok()
}

pub(super) fn long_string(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn table(arguments: &Map<String, Value>) -> Result<FieldTable, ConnectError> {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let short =
            ShortString::try_new(name.as_str()).map_err(|error| bad_argument(name, &error.to_string()))?;
        table.insert(short, field(name, value)?);
    }
    Ok(table)
}

fn field(name: &str, value: &Value) -> Result<AMQPValue, ConnectError> {
    Ok(match value {
        Value::Null => AMQPValue::Void,
        Value::Bool(value) => AMQPValue::Boolean(*value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => AMQPValue::LongLongInt(integer),
            (None, Some(float)) => AMQPValue::Double(float),
            (None, None) => return Err(bad_argument(name, "the number cannot be represented")),
        },
        Value::String(text) => long_string(text),
        Value::Array(values) => {
            let fields: Result<Vec<_>, _> = values.iter().map(|value| field(name, value)).collect();
            AMQPValue::FieldArray(FieldArray::from(fields?))
        }
        Value::Object(inner) => AMQPValue::FieldTable(table(inner)?),
    })
}

fn bad_argument(name: &str, problem: &str) -> ConnectError {
    ConnectError::Setting {
        setting: "queue arguments",
        problem: format!("{name:?}: {problem}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Address;
    use super::*;

    fn options() -> RabbitMqOptions {
        RabbitMqOptions::new(Address::new("localhost", 5672, "guest", "guest"))
    }

    #[test]
    fn json_arguments_become_amqp_arguments_of_the_same_kind() {
        let mut options = options();
        options.queues.quorum = true;
        let json = r#"{"x-dead-letter-exchange": "", "x-max-length": 5, "x-single-active-consumer": true,
                       "x-delivery-limit": 13}"#;
        options.queues.arguments = serde_json::from_str(json).unwrap();
        let settings = Settings::check(options).unwrap();
        let arguments = settings.queue_arguments.inner();
        assert_eq!(arguments["x-dead-letter-exchange"], long_string(""));
        assert_eq!(arguments["x-max-length"], AMQPValue::LongLongInt(5));
        assert_eq!(arguments["x-single-active-consumer"], AMQPValue::Boolean(true));
        assert_eq!(
            arguments["x-delivery-limit"],
            AMQPValue::LongLongInt(13),
            "what is asked for wins"
        );
        assert!(settings.creates_quorum_queues());
    }

    #[test]
    fn a_quorum_queue_gives_up_on_no_message_however_it_was_asked_for() {
        let limit = |quorum, json: &str| {
            let mut options = options();
            options.queues.quorum = quorum;
            options.queues.arguments = serde_json::from_str(json).unwrap();
            let settings = Settings::check(options).unwrap();
            settings.queue_arguments.inner().get("x-delivery-limit").cloned()
        };
        let ours = Some(AMQPValue::LongLongInt(QUORUM_DELIVERY_LIMIT));
        assert_eq!(limit(true, "{}"), ours);
        assert_eq!(limit(false, r#"{"x-queue-type": "quorum"}"#), ours);
        assert_eq!(limit(true, r#"{"x-queue-type": "classic"}"#), None);
        assert_eq!(limit(false, "{}"), None);
    }

    #[test]
    fn names_that_amqp_cannot_carry_are_refused() {
        for exchange in ["", "amq.topic", &"x".repeat(256)] {
            let mut options = options();
            options.exchange = exchange.into();
            let error = Settings::check(options).unwrap_err().to_string();
            assert!(error.contains("exchange name"), "{error}");
        }
        let mut options = options();
        options.queues.arguments = [("x".repeat(256), Value::Null)].into_iter().collect();
        assert!(
            Settings::check(options)
                .unwrap_err()
                .to_string()
                .contains("queue arguments")
        );
    }
}
