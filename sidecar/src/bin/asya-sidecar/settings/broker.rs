//! The part of the settings that says where RabbitMQ is and how it is used.

use asya_program::Reader;
use asya_program::environment::{boolean, json_object};
use asya_program::rabbitmq::{self, Variables};
use asya_transport::rabbitmq::RabbitMqOptions;

use crate::variables as v;

/// How the sidecar's table calls them.
const VARIABLES: Variables<v::Group> = Variables {
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

/// Reads it; `None` when there is no usable address.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<RabbitMqOptions> {
    let options = rabbitmq::read(reader, &VARIABLES);
    let auto_create = reader.get(&v::QUEUE_AUTO_CREATE, boolean);
    let arguments = reader.get(&v::QUEUE_ARGUMENTS, json_object);
    let mut options = options?;
    options.queues.auto_create = auto_create;
    options.queues.arguments = arguments;
    Some(options)
}
