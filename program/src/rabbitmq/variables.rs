//! The variables themselves, for the table of a program.

use crate::variable::{Shown, Variable};

/// The address as a whole.
pub const fn url<G: Copy>(group: G) -> Variable<G> {
    Variable::contract(
        "ASYA_RABBITMQ_URL",
        "",
        group,
        "Whole address, `amqp://USER:PASSWORD@HOST:PORT/VHOST` or `amqps://…`, special characters \
         percent-encoded. Wins over the parts below.",
    )
    .shown(Shown::Url)
    .fatal()
}

/// The host.
pub const fn host<G: Copy>(group: G) -> Variable<G> {
    Variable::contract("ASYA_RABBITMQ_HOST", "localhost", group, "Host of the broker.")
}

/// The port.
pub const fn port<G: Copy>(group: G) -> Variable<G> {
    Variable::contract("ASYA_RABBITMQ_PORT", "", group, "Port of the broker.")
        .otherwise("5672, with TLS 5671")
}

/// The user.
pub const fn username<G: Copy>(group: G) -> Variable<G> {
    Variable::contract(
        "ASYA_RABBITMQ_USERNAME",
        "guest",
        group,
        "User name, not encoded.",
    )
}

/// The password.
pub const fn password<G: Copy>(group: G) -> Variable<G> {
    Variable::contract("ASYA_RABBITMQ_PASSWORD", "guest", group, "Password, not encoded.").shown(Shown::Never)
}

/// The file that holds the password.
pub const fn password_file<G: Copy>(group: G) -> Variable<G> {
    Variable::new(
        "ASYA_RABBITMQ_PASSWORD_FILE",
        "",
        group,
        "File that holds the password, in place of `ASYA_RABBITMQ_PASSWORD` or of one in the URL. A line end at its \
         end does not count.",
    )
}

/// The virtual host.
pub const fn vhost<G: Copy>(group: G) -> Variable<G> {
    Variable::new("ASYA_RABBITMQ_VHOST", "/", group, "Virtual host, not encoded.")
}

/// Whether TLS is spoken.
pub const fn tls<G: Copy>(group: G) -> Variable<G> {
    Variable::new(
        "ASYA_RABBITMQ_TLS",
        "false",
        group,
        "Whether TLS is spoken. A URL says so by its scheme.",
    )
}

/// Certificate authorities.
pub const fn ca_file<G: Copy>(group: G) -> Variable<G> {
    Variable::new(
        "ASYA_RABBITMQ_CA_FILE",
        "",
        group,
        "PEM file with certificate authorities that are trusted beside those of the system.",
    )
}

/// The certificate of the client.
pub const fn cert_file<G: Copy>(group: G) -> Variable<G> {
    Variable::new(
        "ASYA_RABBITMQ_CERT_FILE",
        "",
        group,
        "PEM file with the certificate that is shown to the broker. Read anew for each connection.",
    )
}

/// Its key.
pub const fn key_file<G: Copy>(group: G) -> Variable<G> {
    Variable::new(
        "ASYA_RABBITMQ_KEY_FILE",
        "",
        group,
        "PEM file with the private key of that certificate.",
    )
}

/// The exchange.
pub const fn exchange<G: Copy>(group: G) -> Variable<G> {
    Variable::contract(
        "ASYA_RABBITMQ_EXCHANGE",
        "asya",
        group,
        "Topic exchange that messages are published to. Declared durable, without arguments.",
    )
}
