//! The one trigger of a scaler: which queue is looked at, and how (contract operator §9.2).

use std::collections::BTreeMap;

use serde_json::{Value, json};
use url::Url;

use super::authentication::{Authentication, Parameter};
use crate::desired::{DesiredError, Inputs};
use crate::registry::{Broker, RabbitMq, Sqs};

/// The name by which formulas refer to the trigger's value (contract operator §9.2 c).
pub(super) const NAME: &str = "queueLength";

/// Which messages count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// Those in flight too, so that a pod busy with its only message is not scaled away. RabbitMQ tells of them through
    /// its management API alone; without it the sidecar's drain is the guard.
    WithInFlight,
    /// Those that wait: KEDA's strategy `accurate` subtracts the jobs that run already.
    WaitingOnly,
}

/// A trigger and the credentials that it needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trigger {
    kind: &'static str,
    metadata: BTreeMap<&'static str, String>,
    /// What stands in the `TriggerAuthentication`; `None` where no credentials are needed.
    pub(super) authentication: Option<Authentication>,
}

impl Trigger {
    /// The trigger of this actor's queue.
    ///
    /// # Errors
    /// If the transport lacks something without which KEDA cannot find the queue.
    pub(super) fn of(inputs: &Inputs<'_>, counting: Counting) -> Result<Self, DesiredError> {
        let queue = inputs
            .transport
            .queue_name(&inputs.actor.namespace, &inputs.actor.name);
        match &inputs.transport.broker {
            Broker::RabbitMq(broker) => rabbitmq(inputs, broker, queue, counting),
            Broker::Sqs(broker) => sqs(inputs, broker, &queue, counting),
        }
    }

    /// An element of `spec.triggers`; `authentication` is the name of the `TriggerAuthentication`.
    pub(super) fn body(&self, authentication: &str) -> Value {
        let mut body = json!({ "name": NAME, "type": self.kind, "metadata": self.metadata });
        if self.authentication.is_some() {
            body["authenticationRef"] = json!({ "name": authentication });
        }
        body
    }
}

fn target(inputs: &Inputs<'_>) -> String {
    inputs.actor.spec.scaling.queue_length.max(1).to_string()
}

fn rabbitmq(
    inputs: &Inputs<'_>,
    broker: &RabbitMq,
    queue: String,
    counting: Counting,
) -> Result<Trigger, DesiredError> {
    const KIND: &str = "rabbitmq";
    required(inputs, &broker.host, "host", KIND)?;
    let mut metadata = BTreeMap::from([
        ("queueName", queue),
        ("mode", "QueueLength".to_owned()),
        ("value", target(inputs)),
    ]);
    if let Some(port) = broker.management_port {
        let scheme = if broker.tls { "https" } else { "http" };
        metadata.insert("protocol", "http".to_owned());
        metadata.insert("host", address(inputs, broker, scheme, port)?);
        if counting == Counting::WaitingOnly {
            metadata.insert("excludeUnacknowledged", "true".to_owned());
        }
    } else {
        let scheme = if broker.tls { "amqps" } else { "amqp" };
        metadata.insert("protocol", "amqp".to_owned());
        metadata.insert("host", address(inputs, broker, scheme, broker.port)?);
    }
    if broker.vhost != "/" && !broker.vhost.is_empty() {
        metadata.insert("vhostName", broker.vhost.clone());
    }
    let authentication = broker.password.as_ref().map(|password| {
        // KEDA takes a password only together with a username, and both only as parameters.
        let username = if inputs.facts.secret_has_username {
            Parameter::secret("username", &password.name, "username")
        } else {
            Parameter::text("username", &broker.username)
        };
        Authentication::Parameters(vec![
            username,
            Parameter::secret("password", &password.name, &password.key),
        ])
    });
    Ok(Trigger {
        kind: KIND,
        metadata,
        authentication,
    })
}

/// RabbitMQ's user with the public password.
const DEFAULT_USER: &str = "guest";

/// The broker's address. Without a Secret it names the user; the password is then RabbitMQ's public default, which KEDA
/// knows for AMQP and has to be told for HTTP. Nobody but the default user has it.
fn address(inputs: &Inputs<'_>, broker: &RabbitMq, scheme: &str, port: u16) -> Result<String, DesiredError> {
    let host = &broker.host;
    let host = if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.clone()
    };
    let is_invalid = |()| DesiredError::InvalidSetting {
        transport: inputs.transport.name.clone(),
        setting: "host",
        value: broker.host.clone(),
        expected: "a host name or an address",
    };
    let mut url = Url::parse(&format!("{scheme}://{host}:{port}")).map_err(|_| is_invalid(()))?;
    if broker.password.is_none() {
        url.set_username(&broker.username).map_err(is_invalid)?;
        if scheme.starts_with("http") {
            if broker.username != DEFAULT_USER {
                return Err(DesiredError::MissingSetting {
                    transport: inputs.transport.name.clone(),
                    setting: "passwordSecretRef",
                    trigger: "rabbitmq",
                });
            }
            url.set_password(Some("guest")).map_err(is_invalid)?;
        }
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn sqs(inputs: &Inputs<'_>, broker: &Sqs, queue: &str, counting: Counting) -> Result<Trigger, DesiredError> {
    const KIND: &str = "aws-sqs-queue";
    required(inputs, &broker.region, "region", KIND)?;
    required(inputs, &broker.account_id, "accountId", KIND)?;
    let endpoint = broker.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
    let base = match endpoint {
        Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
        None if broker.region.starts_with("cn-") => format!("https://sqs.{}.amazonaws.com.cn", broker.region),
        None => format!("https://sqs.{}.amazonaws.com", broker.region),
    };
    let mut metadata = BTreeMap::from([
        ("queueURL", format!("{base}/{}/{queue}", broker.account_id)),
        ("queueLength", target(inputs)),
        ("awsRegion", broker.region.clone()),
    ]);
    if let Some(endpoint) = endpoint {
        metadata.insert("awsEndpoint", endpoint.to_owned());
    }
    if counting == Counting::WaitingOnly {
        metadata.insert("scaleOnInFlight", "false".to_owned());
    }
    let authentication = match &broker.credentials {
        Some(keys) => Authentication::Parameters(vec![
            Parameter::secret(
                "awsAccessKeyID",
                &keys.access_key_id.name,
                &keys.access_key_id.key,
            ),
            Parameter::secret(
                "awsSecretAccessKey",
                &keys.secret_access_key.name,
                &keys.secret_access_key.key,
            ),
        ]),
        None => Authentication::PodIdentity("aws"),
    };
    Ok(Trigger {
        kind: KIND,
        metadata,
        authentication: Some(authentication),
    })
}

fn required(
    inputs: &Inputs<'_>,
    value: &str,
    setting: &'static str,
    trigger: &'static str,
) -> Result<(), DesiredError> {
    if value.is_empty() {
        let transport = inputs.transport.name.clone();
        return Err(DesiredError::MissingSetting {
            transport,
            setting,
            trigger,
        });
    }
    Ok(())
}
