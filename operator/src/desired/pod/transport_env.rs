//! The sidecar's variables that follow from the transport (contract operator §4.4).

use serde_json::{Value, json};

use crate::desired::Inputs;
use crate::queues;
use crate::registry::{Broker, RabbitMq, SecretKey, Sqs};

/// In the order of the contract; those that it does not know come last.
pub(super) fn variables(inputs: &Inputs<'_>) -> Vec<Value> {
    let transport = inputs.transport;
    let mut environment = vec![literal("ASYA_TRANSPORT", transport.broker.kind())];
    match &transport.broker {
        Broker::RabbitMq(broker) => rabbitmq(broker, &mut environment),
        Broker::Sqs(broker) => sqs(
            broker,
            inputs.actor.spec.processing_timeout().as_secs(),
            &mut environment,
        ),
    }
    let queue = transport.queue_name(&inputs.actor.namespace, &inputs.actor.name);
    if let Some(arguments) = queues::arguments(transport, &queue) {
        environment.push(literal("ASYA_QUEUE_ARGUMENTS", &arguments.to_string()));
    }
    environment
}

fn rabbitmq(broker: &RabbitMq, environment: &mut Vec<Value>) {
    environment.push(literal("ASYA_RABBITMQ_HOST", &broker.host));
    environment.push(literal("ASYA_RABBITMQ_PORT", &broker.port.to_string()));
    environment.push(literal("ASYA_RABBITMQ_USERNAME", &broker.username));
    environment.extend(
        broker
            .password
            .as_ref()
            .map(|secret| from_secret("ASYA_RABBITMQ_PASSWORD", secret)),
    );
    // Both sides have the same default for what is left out.
    if broker.exchange != "asya" {
        environment.push(literal("ASYA_RABBITMQ_EXCHANGE", &broker.exchange));
    }
    environment.push(literal(
        "ASYA_QUEUE_AUTO_CREATE",
        if broker.queues.auto_create {
            "true"
        } else {
            "false"
        },
    ));
    if broker.vhost != "/" {
        environment.push(literal("ASYA_RABBITMQ_VHOST", &broker.vhost));
    }
    if broker.tls {
        environment.push(literal("ASYA_RABBITMQ_TLS", "true"));
    }
}

fn sqs(broker: &Sqs, processing_seconds: u64, environment: &mut Vec<Value>) {
    if !broker.region.is_empty() {
        environment.push(literal("ASYA_AWS_REGION", &broker.region));
    }
    environment.extend(
        broker
            .endpoint
            .as_ref()
            .map(|endpoint| literal("ASYA_SQS_ENDPOINT", endpoint)),
    );
    // As the queue has it: long enough for two calls (contract operator §4.3).
    let visibility = broker
        .visibility_timeout
        .filter(|seconds| *seconds > 0)
        .map(u64::from);
    let visibility = visibility.unwrap_or_else(|| (2 * processing_seconds).max(300));
    environment.push(literal("ASYA_SQS_VISIBILITY_TIMEOUT", &visibility.to_string()));
    let wait = broker.wait_time.filter(|seconds| *seconds > 0);
    environment.extend(wait.map(|seconds| literal("ASYA_SQS_WAIT_TIME_SECONDS", &seconds.to_string())));
    if let Some(credentials) = &broker.credentials {
        environment.push(from_secret("AWS_ACCESS_KEY_ID", &credentials.access_key_id));
        environment.push(from_secret(
            "AWS_SECRET_ACCESS_KEY",
            &credentials.secret_access_key,
        ));
    }
}

/// A variable with a value. An empty one is written as the API server stores it: without.
pub(super) fn literal(name: &str, value: &str) -> Value {
    if value.is_empty() {
        json!({"name": name})
    } else {
        json!({"name": name, "value": value})
    }
}

fn from_secret(name: &str, secret: &SecretKey) -> Value {
    let mut reference = json!({"name": secret.name, "key": secret.key});
    if secret.optional {
        reference["optional"] = true.into();
    }
    json!({"name": name, "valueFrom": {"secretKeyRef": reference}})
}
