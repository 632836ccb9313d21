//! The part of the settings that says where RabbitMQ is and how it is used.

use std::path::PathBuf;

use asya_transport::rabbitmq::{Address, AddressError, ClientCertificate, RabbitMqOptions, TlsFiles};

use crate::environment::{Expected, Reader, boolean, exchange, json_object, port, text};
use crate::variables as v;

/// Reads it; `None` when there is no usable address.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<RabbitMqOptions> {
    let password = password_file(reader);
    let address = address(reader, password);
    let tls = tls_files(reader);
    let exchange = reader.get(&v::RABBITMQ_EXCHANGE, exchange);
    let auto_create = reader.get(&v::QUEUE_AUTO_CREATE, boolean);
    let arguments = reader.get(&v::QUEUE_ARGUMENTS, json_object);
    let address = address?;
    let has_files = tls != TlsFiles::default();
    if has_files && !address.tls {
        reader.warn(
            &v::RABBITMQ_TLS,
            "files for TLS are given and TLS is not spoken; set it to true, or write amqps:// in the URL",
        );
    }
    let mut options = RabbitMqOptions::new(address);
    options.exchange = exchange;
    options.tls = tls;
    options.queues.auto_create = auto_create;
    options.queues.arguments = arguments;
    Some(options)
}

/// The URL if there is one, else the parts.
fn address(reader: &mut Reader<'_>, password: Option<String>) -> Option<Address> {
    let parts = from_parts(reader, password.clone());
    if !reader.is_set(&v::RABBITMQ_URL) {
        return Some(parts);
    }
    let mut address = reader.optional(&v::RABBITMQ_URL, url)?;
    if let Some(password) = password {
        address.password = password;
    }
    Some(address)
}

fn url(value: &str) -> Result<Address, Expected> {
    Address::from_url(value).map_err(|error| {
        let reason = match error {
            AddressError::NotAUrl(reason) => format!("is not a URL ({reason})"),
            other => format!("cannot be used: {other}"),
        };
        Expected::new("amqp://USER:PASSWORD@HOST:PORT/VHOST, with special characters percent-encoded")
            .because(reason)
    })
}

fn from_parts(reader: &mut Reader<'_>, password: Option<String>) -> Address {
    let tls = reader.get(&v::RABBITMQ_TLS, boolean);
    let port = reader.optional(&v::RABBITMQ_PORT, port);
    let mut address = Address {
        tls,
        host: reader.get(&v::RABBITMQ_HOST, host),
        port: port.unwrap_or(if tls { 5671 } else { 5672 }),
        user: reader.get(&v::RABBITMQ_USERNAME, text),
        password: reader.get(&v::RABBITMQ_PASSWORD, text),
        vhost: reader.get(&v::RABBITMQ_VHOST, vhost),
    };
    if let Some(password) = password {
        address.password = password;
    }
    address
}

fn host(value: &str) -> Result<String, Expected> {
    // An IPv6 address may stand in brackets, as in a URL.
    let bare = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let bare = bare.unwrap_or(value);
    let has_port = bare.contains(':') && bare.parse::<std::net::Ipv6Addr>().is_err();
    if has_port || bare.contains(|c: char| c.is_whitespace() || c == '/' || c == '@') {
        return Err(Expected::new("the name or the address of a host, without port"));
    }
    text(bare)
}

fn vhost(value: &str) -> Result<String, Expected> {
    if value.len() > 255 {
        return Err(Expected::new("at most 255 bytes"));
    }
    text(value)
}

/// The password in the file that is named, if one is.
fn password_file(reader: &mut Reader<'_>) -> Option<String> {
    let path = PathBuf::from(reader.optional(&v::RABBITMQ_PASSWORD_FILE, text)?);
    if reader.is_set(&v::RABBITMQ_PASSWORD) {
        reader.problem(
            &v::RABBITMQ_PASSWORD_FILE,
            "ASYA_RABBITMQ_PASSWORD is set as well; expected one of the two",
        );
    }
    let content = reader.file(&v::RABBITMQ_PASSWORD_FILE, &path)?;
    let password = content.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        reader.problem(
            &v::RABBITMQ_PASSWORD_FILE,
            format!("{} is empty; expected a password in it", path.display()),
        );
        return None;
    }
    Some(password.to_owned())
}

fn tls_files(reader: &mut Reader<'_>) -> TlsFiles {
    let mut path = |variable| {
        let path = PathBuf::from(reader.optional(variable, text)?);
        // Only to find out now that it can be read; it is read anew for each connection.
        reader.file(variable, &path).map(|_| path)
    };
    let (ca, certificate, key) = (
        path(&v::RABBITMQ_CA_FILE),
        path(&v::RABBITMQ_CERT_FILE),
        path(&v::RABBITMQ_KEY_FILE),
    );
    for (one, other) in [
        (&v::RABBITMQ_CERT_FILE, &v::RABBITMQ_KEY_FILE),
        (&v::RABBITMQ_KEY_FILE, &v::RABBITMQ_CERT_FILE),
    ] {
        if reader.is_set(one) && !reader.is_set(other) {
            reader.problem(
                other,
                format!("not set, but {} is; expected both or none of the two", one.name),
            );
        }
    }
    let client = certificate
        .zip(key)
        .map(|(certificate, key)| ClientCertificate { certificate, key });
    TlsFiles { ca, client }
}
