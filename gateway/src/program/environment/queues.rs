//! Which broker takes the messages, and where it is.

use std::path::PathBuf;

use asya_program::environment::text;
use asya_program::rabbitmq::{self, Variables};
use asya_program::{Expected, Reader};

use super::super::variables as v;
use crate::settings::Queues;

/// How the gateway's table calls them.
const RABBITMQ: Variables<v::Group> = Variables {
    url: &v::RABBITMQ_URL,
    host: &v::RABBITMQ_HOST,
    port: &v::RABBITMQ_PORT,
    username: &v::RABBITMQ_USERNAME,
    password: &v::RABBITMQ_PASSWORD,
    password_file: &v::RABBITMQ_PASSWORD_FILE,
    vhost: &v::RABBITMQ_VHOST,
    tls: &v::RABBITMQ_TLS,
    ca_file: &v::RABBITMQ_CA_FILE,
    cert_file: &v::RABBITMQ_CERT_FILE,
    key_file: &v::RABBITMQ_KEY_FILE,
    exchange: &v::RABBITMQ_EXCHANGE,
};

/// The kinds that this build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    RabbitMq,
    Local,
}

/// Reads them; `None` when none can be chosen or its address is bad.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Queues> {
    let kind = kind(reader);
    // Where a local run has them.
    let directory = PathBuf::from(reader.get(&v::STATE_DIR, text)).join("queue");
    // Read in any case, so that all mistakes are found at once.
    let options = rabbitmq::read(reader, &RABBITMQ);
    let is_url = reader.is_set(&v::RABBITMQ_URL);
    for variable in [
        &v::RABBITMQ_POOL_SIZE,
        &v::SQS_REGION,
        &v::SQS_VISIBILITY_TIMEOUT,
        &v::SQS_WAIT_TIME_SECONDS,
    ] {
        // Nothing follows from them; they are shown among what is set.
        reader.optional(variable, text);
    }
    match kind? {
        Kind::Local => Some(Queues::Local(directory)),
        Kind::RabbitMq => Some(Queues::RabbitMq {
            options: Box::new(options?),
            is_url,
        }),
    }
}

/// The explicit choice; without it as the original chooses (contract gateway §1), which is SQS unless RabbitMQ's
/// address is given.
fn kind(reader: &mut Reader<'_>) -> Option<Kind> {
    let endpoint = reader.optional(&v::SQS_ENDPOINT, text);
    if reader.is_set(&v::TRANSPORT) {
        return reader.optional(&v::TRANSPORT, known_kind);
    }
    let has_address = reader.is_set(&v::RABBITMQ_URL) || reader.is_set(&v::RABBITMQ_HOST);
    match (endpoint, has_address) {
        (None, true) => Some(Kind::RabbitMq),
        (Some(_), _) => {
            reader.problem(
                &v::TRANSPORT,
                "not set, and ASYA_SQS_ENDPOINT chooses SQS, which this build does not have; expected rabbitmq or local",
            );
            None
        }
        (None, false) => {
            reader.problem(
                &v::TRANSPORT,
                "not set, and neither is ASYA_RABBITMQ_URL, which would choose SQS, and this build does not have it; \
                 expected ASYA_RABBITMQ_URL=amqp://USER:PASSWORD@HOST/, or ASYA_TRANSPORT=local for queues in \
                 ASYA_STATE_DIR",
            );
            None
        }
    }
}

fn known_kind(value: &str) -> Result<Kind, Expected> {
    match value {
        "rabbitmq" => Ok(Kind::RabbitMq),
        "local" => Ok(Kind::Local),
        "sqs" => Err(Expected::new("rabbitmq or local").because("is not in this build yet")),
        _ => Err(Expected::new("rabbitmq or local")),
    }
}
