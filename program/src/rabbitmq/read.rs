//! Reads the variables.

use std::path::PathBuf;

use asya_transport::rabbitmq::{Address, AddressError, ClientCertificate, RabbitMqOptions, TlsFiles};

use crate::environment::{Expected, Reader, boolean, exchange, port, text};
use crate::variable::Variable;

/// The variables of one program, as they stand in its table.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each is named after its variable")]
pub struct Variables<G: 'static> {
    pub url: &'static Variable<G>,
    pub host: &'static Variable<G>,
    pub port: &'static Variable<G>,
    pub username: &'static Variable<G>,
    pub password: &'static Variable<G>,
    pub password_file: &'static Variable<G>,
    pub vhost: &'static Variable<G>,
    pub tls: &'static Variable<G>,
    pub ca_file: &'static Variable<G>,
    pub cert_file: &'static Variable<G>,
    pub key_file: &'static Variable<G>,
    pub exchange: &'static Variable<G>,
}

/// Reads them; `None` when there is no usable address. What is not about the address, files or exchange is at its
/// default.
pub fn read<G>(reader: &mut Reader<'_>, v: &Variables<G>) -> Option<RabbitMqOptions> {
    let password = password_file(reader, v);
    let address = address(reader, v, password);
    let tls = tls_files(reader, v);
    let exchange = reader.get(v.exchange, exchange);
    let address = address?;
    let has_files = tls != TlsFiles::default();
    if has_files && !address.tls {
        reader.warn(
            v.tls,
            "files for TLS are given and TLS is not spoken; set it to true, or write amqps:// in the URL",
        );
    }
    let mut options = RabbitMqOptions::new(address);
    options.exchange = exchange;
    options.tls = tls;
    Some(options)
}

/// The URL if there is one, else the parts.
fn address<G>(reader: &mut Reader<'_>, v: &Variables<G>, password: Option<String>) -> Option<Address> {
    let parts = from_parts(reader, v, password.clone());
    if !reader.is_set(v.url) {
        return Some(parts);
    }
    let mut address = reader.optional(v.url, url)?;
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

fn from_parts<G>(reader: &mut Reader<'_>, v: &Variables<G>, password: Option<String>) -> Address {
    let tls = reader.get(v.tls, boolean);
    let port = reader.optional(v.port, port);
    let mut address = Address {
        tls,
        host: reader.get(v.host, host),
        port: port.unwrap_or(if tls { 5671 } else { 5672 }),
        user: reader.get(v.username, text),
        password: reader.get(v.password, text),
        vhost: reader.get(v.vhost, vhost),
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
fn password_file<G>(reader: &mut Reader<'_>, v: &Variables<G>) -> Option<String> {
    let path = PathBuf::from(reader.optional(v.password_file, text)?);
    if reader.is_set(v.password) {
        reader.problem(
            v.password_file,
            "ASYA_RABBITMQ_PASSWORD is set as well; expected one of the two",
        );
    }
    let content = reader.file(v.password_file, &path)?;
    let password = content.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        reader.problem(
            v.password_file,
            format!("{} is empty; expected a password in it", path.display()),
        );
        return None;
    }
    Some(password.to_owned())
}

fn tls_files<G>(reader: &mut Reader<'_>, v: &Variables<G>) -> TlsFiles {
    let mut path = |variable| {
        let path = PathBuf::from(reader.optional(variable, text)?);
        // Only to find out now that it can be read; it is read anew for each connection.
        reader.file(variable, &path).map(|_| path)
    };
    let (ca, certificate, key) = (path(v.ca_file), path(v.cert_file), path(v.key_file));
    for (one, other) in [(v.cert_file, v.key_file), (v.key_file, v.cert_file)] {
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
