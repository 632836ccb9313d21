//! Where the gateway listens, and with which certificate.

use std::net::SocketAddr;
use std::path::PathBuf;

use asya_program::Reader;
use asya_program::environment::text;

use super::super::variables as v;
use super::values;
use crate::server::Tls;
use crate::settings::{Listen, TlsFiles};

/// Without `ASYA_AUTH` on loopback alone; to listen elsewhere one must choose.
pub(super) fn listen(reader: &mut Reader<'_>) -> Listen {
    let port = reader.get(&v::PORT, values::port);
    let address = reader.optional(&v::BIND, values::address);
    let chosen = reader.is_set(&v::AUTH);
    match address {
        Some(address) => {
            if !chosen && !address.is_loopback() {
                reader.problem(
                    &v::AUTH,
                    format!(
                        "not set, and {} is an address that others can reach; expected none, keys or oidc, so that \
                         it is decided who may do what",
                        v::BIND.name
                    ),
                );
            }
            Listen::At(SocketAddr::new(address, port))
        }
        None if chosen => Listen::Everywhere { port },
        None => Listen::loopback(port),
    }
}

/// Certificate and key, if both are given and go together.
pub(super) fn tls(reader: &mut Reader<'_>) -> Option<TlsFiles> {
    let certificate = reader.optional(&v::TLS_CERT_FILE, text).map(PathBuf::from);
    let key = reader.optional(&v::TLS_KEY_FILE, text).map(PathBuf::from);
    let missing = match (&certificate, &key) {
        (Some(_), None) => Some((&v::TLS_KEY_FILE, &v::TLS_CERT_FILE)),
        (None, Some(_)) => Some((&v::TLS_CERT_FILE, &v::TLS_KEY_FILE)),
        _ => None,
    };
    if let Some((missing, given)) = missing {
        reader.problem(
            missing,
            format!("not set, but {} is; expected both or none of the two", given.name),
        );
    }
    let files = TlsFiles {
        certificate: certificate?,
        key: key?,
    };
    if let Err(error) = Tls::load(&files.certificate, &files.key) {
        reader.problem(
            &v::TLS_CERT_FILE,
            format!("{error}; expected PEM files that this user may read"),
        );
    }
    Some(files)
}
