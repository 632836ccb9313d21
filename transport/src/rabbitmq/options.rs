//! What the caller may choose, and how a broker is addressed.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use url::{Host, Url};

/// How a broker is reached and used. Start from [`RabbitMqOptions::new`].
#[derive(Debug, Clone)]
pub struct RabbitMqOptions {
    /// Where the broker is and who we are.
    pub address: Address,
    /// Topic exchange that messages are published to. Default: `asya` (contract data-plane §4.1).
    pub exchange: String,
    /// Files for TLS; they matter only when [`Address::tls`] is set.
    pub tls: TlsFiles,
    /// What happens to a missing queue, and what a queue looks like that is created here.
    pub queues: QueueOptions,
    /// Interval of heartbeats in whole seconds; a peer silent for twice as long is given up. Default: 10 s.
    pub heartbeat: Duration,
    /// Limit for one attempt to connect, log in and declare the exchange. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long [`connect`](super::RabbitMqTransport::connect) keeps trying while nobody answers. Default: for ever.
    pub connect_patience: Option<Duration>,
    /// Waits between attempts to reconnect.
    pub backoff: Backoff,
    /// Most messages that are published and not yet confirmed; more of them wait in order. Default: 2048.
    pub max_unconfirmed: usize,
    /// Largest body in bytes. Default: 64 MiB; lowered by itself when the broker turns out to take less.
    pub max_message_size: usize,
    /// Name that the broker's management page shows for our connections. Default: `asya`.
    pub connection_name: String,
}

impl RabbitMqOptions {
    /// The defaults, for the broker at `address`.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            address,
            exchange: "asya".into(),
            tls: TlsFiles::default(),
            queues: QueueOptions::default(),
            heartbeat: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            connect_patience: None,
            backoff: Backoff::default(),
            max_unconfirmed: 2048,
            max_message_size: 64 * 1024 * 1024,
            connection_name: "asya".into(),
        }
    }
}

/// Waits that double from `initial` to `max`, each shortened at random by up to a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait. Default: 100 ms.
    pub initial: Duration,
    /// The longest wait. Default: 10 s.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
        }
    }
}

/// PEM files for TLS. The files are read anew for each connection, so rotated certificates are picked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate authorities that are trusted in addition to those of the system.
    pub ca: Option<PathBuf>,
    /// Certificate (chain) and private key that we show to the broker.
    pub client: Option<ClientCertificate>,
}

/// A certificate and its key; one is of no use without the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, followed by intermediate ones if there are any.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Queues that are made here: durable, neither exclusive nor auto-delete.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueOptions {
    /// Whether a consumer creates its own queue when that is missing (contract data-plane §4.2). Default: no.
    pub auto_create: bool,
    /// Arguments of created queues, as the operator gives them (rulings 29). Default: none.
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// Whether created queues are quorum queues. `x-queue-type` in `arguments` wins. Default: classic.
    pub quorum: bool,
}

/// Where a broker is, and the credentials for it. The password shows up nowhere: not in `Debug`, not in errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether TLS is spoken (`amqps`).
    pub tls: bool,
    /// Host name or IP address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name, not encoded.
    pub user: String,
    /// Password, not encoded.
    pub password: String,
    /// Virtual host, not encoded.
    pub vhost: String,
}

/// Why a URL does not address a broker. The URL is not repeated, since it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It cannot be read as a URL.
    #[error(
        "not a URL ({0}); expected amqp://USER:PASSWORD@HOST:PORT/VHOST, with special characters percent-encoded"
    )]
    NotAUrl(String),
    /// Another scheme.
    #[error("the scheme is {0:?}, expected amqp or amqps")]
    Scheme(String),
    /// No host.
    #[error("the URL names no host")]
    NoHost,
    /// A part is not valid UTF-8 after percent-decoding.
    #[error("the {0} is not valid UTF-8 after percent-decoding")]
    Encoding(&'static str),
    /// The path has more than one part.
    #[error("the virtual host holds a slash; write it as %2F")]
    SlashInVhost,
    /// A name that AMQP cannot carry.
    #[error("the {part} is {length} bytes long, AMQP allows at most 255")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// Its length in bytes.
        length: usize,
    },
}

impl Address {
    /// An address without TLS, in virtual host `/`, from parts that need no encoding.
    #[must_use]
    pub fn new(host: &str, port: u16, user: &str, password: &str) -> Self {
        Self {
            tls: false,
            host: host.into(),
            port,
            user: user.into(),
            password: password.into(),
            vhost: "/".into(),
        }
    }

    /// Reads `amqp://user:password@host:port/vhost` or `amqps://…`; user, password and virtual host are
    /// percent-decoded. An empty path and `/` mean virtual host `/`; credentials default to `guest`, the port to
    /// 5672 or 5671 (contract data-plane §4.1).
    pub fn from_url(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|error| AddressError::NotAUrl(error.to_string()))?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            other => return Err(AddressError::Scheme(other.into())),
        };
        let host = match url.host() {
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Domain(name)) if !name.is_empty() => decode(name, "host")?,
            _ => return Err(AddressError::NoHost),
        };
        let path = url.path().strip_prefix('/').unwrap_or_default();
        if path.contains('/') {
            return Err(AddressError::SlashInVhost);
        }
        let address = Self {
            tls,
            host,
            port: url.port().unwrap_or(if tls { 5671 } else { 5672 }),
            user: non_empty(decode(url.username(), "user name")?, "guest"),
            password: match url.password() {
                Some(password) => decode(password, "password")?,
                None => "guest".into(),
            },
            vhost: non_empty(decode(path, "virtual host")?, "/"),
        };
        address.check()?;
        Ok(address)
    }

    /// Whether AMQP can carry the names.
    pub(super) fn check(&self) -> Result<(), AddressError> {
        let too_long = |part, length| AddressError::TooLong { part, length };
        match self.vhost.len() {
            0..=255 => Ok(()),
            length => Err(too_long("virtual host", length)),
        }
    }
}

fn decode(text: &str, part: &'static str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| AddressError::Encoding(part))
}

fn non_empty(text: String, default: &str) -> String {
    if text.is_empty() { default.into() } else { text }
}

/// Scheme, host, port and virtual host: what may stand in logs.
impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(formatter, "{scheme}://{open}{}{close}:{}", self.host, self.port)?;
        if self.vhost != "/" {
            write!(formatter, "/{}", self.vhost)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({self} as {:?})", self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_decoded_part_by_part() {
        let address =
            Address::from_url("amqps://us%40er:p%2Fa%3As%25s%20%C3%BC@broker:5999/my%2Fhost").unwrap();
        assert_eq!(address.user, "us@er");
        assert_eq!(address.password, "p/a:s%s ü");
        assert_eq!(address.vhost, "my/host");
        assert_eq!(
            (address.host.as_str(), address.port, address.tls),
            ("broker", 5999, true)
        );
    }

    #[test]
    fn what_a_url_leaves_out_has_a_default() {
        for url in ["amqp://broker", "amqp://broker/", "amqp://broker/%2F"] {
            assert_eq!(
                Address::from_url(url).unwrap(),
                Address::new("broker", 5672, "guest", "guest")
            );
        }
        assert_eq!(Address::from_url("amqps://broker").unwrap().port, 5671);
        assert_eq!(Address::from_url("amqp://[::1]:7").unwrap().host, "::1");
        assert_eq!(Address::from_url("amqp://10.0.0.1").unwrap().host, "10.0.0.1");
    }

    #[test]
    fn a_bad_url_is_refused_without_repeating_it() {
        for (url, part) in [
            ("amqp://u:secret@host:99999/", "URL"),
            ("http://u:secret@host/", "scheme"),
            ("amqp://u:secret@/", ""),
            ("amqp://u:secret@host/a/b", "%2F"),
            ("amqp://u:secret%FF@host/", "password"),
        ] {
            let error = Address::from_url(url).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_password_is_shown_nowhere() {
        let options = RabbitMqOptions::new(Address::from_url("amqp://me:hush@host/v").unwrap());
        let shown = format!("{options:?} {}", options.address);
        assert!(
            !shown.contains("hush") && shown.contains("amqp://host:5672/v"),
            "{shown}"
        );
    }
}
