//! `ASYA_RABBITMQ_*`: where RabbitMQ is and how it is reached, the same for every program.
//!
//! A program takes the variables that it offers from [`variables`] into its own table, names them to [`read`], and
//! says with [`to_change`] what a refused connection asks for.

pub mod variables;

mod read;

use asya_transport::rabbitmq::ConnectError;

pub use read::{Variables, read};

/// The variables that have to be changed when the first connection fails (rulings 22). `is_url` tells whether the
/// address was given as a whole.
pub fn to_change(error: &ConnectError, is_url: bool) -> &'static str {
    let address = |parts: &'static str| if is_url { "ASYA_RABBITMQ_URL" } else { parts };
    match error {
        ConnectError::Address(_) => address("ASYA_RABBITMQ_HOST"),
        ConnectError::Unreachable { .. } => address("ASYA_RABBITMQ_HOST, ASYA_RABBITMQ_PORT"),
        ConnectError::Login { .. } => address("ASYA_RABBITMQ_USERNAME, ASYA_RABBITMQ_PASSWORD"),
        ConnectError::Vhost { .. } => address("ASYA_RABBITMQ_VHOST"),
        ConnectError::Setting { setting, .. } if setting.contains("queue") => "ASYA_QUEUE_ARGUMENTS",
        ConnectError::Exchange { .. } | ConnectError::Setting { .. } => "ASYA_RABBITMQ_EXCHANGE",
        ConnectError::TlsFile { .. } => {
            "ASYA_RABBITMQ_CA_FILE, ASYA_RABBITMQ_CERT_FILE, ASYA_RABBITMQ_KEY_FILE"
        }
        ConnectError::Tls { .. } => "ASYA_RABBITMQ_CA_FILE, ASYA_RABBITMQ_TLS",
    }
}
