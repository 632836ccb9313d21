//! What a gateway is started with: plain typed values, from wherever they come.
//!
//! What it is: the input of [`Server::start`](crate::life::Server::start). What it is not: it reads no environment;
//! the program does that. Whoever runs a gateway inside another program, or a test, makes it by hand, best from
//! [`Settings::embedded`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::Retention;
use asya_gateway_store::postgres::PostgresOptions;
use asya_transport::Transport;
#[cfg(feature = "program")]
use asya_transport::rabbitmq::RabbitMqOptions;

use crate::auth::{Auth, OriginPolicy};
use crate::core::{BrokerProbe, Patience, ToolBook};
use crate::http::RenderMetrics;

/// Everything that configures a gateway.
pub struct Settings {
    /// Where it listens.
    pub listen: Listen,
    /// Certificate and key; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Where envelopes are kept.
    pub database: Database,
    /// Where messages go.
    pub queues: Queues,
    /// What clients may call.
    pub tools: ToolBook,
    /// Who may do what. Listening beyond loopback is safe only with a decision about this.
    pub auth: Auth,
    /// Most that one request, and all of them, may take.
    pub limits: Limits,
    /// How long things are kept after their end.
    pub retention: Retention,
    /// How long the core waits for everything.
    pub patience: Patience,
    /// Makes the text of `/metrics`; `None` where nobody records them.
    pub metrics: Option<Metrics>,
}

/// How metrics are served.
#[derive(Clone)]
pub struct Metrics {
    /// Makes the text, in the exposition format of Prometheus.
    pub render: RenderMetrics,
    /// Address of an additional listener for metrics and health alone, as `HOST:PORT` or `:PORT`.
    pub address: Option<String>,
}

/// Where the gateway listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// At all addresses, of IPv6 as well where the machine has it.
    Everywhere {
        /// The port; 0 takes a free one.
        port: u16,
    },
    /// At one address.
    At(SocketAddr),
}

impl Listen {
    /// On 127.0.0.1 alone.
    pub const fn loopback(port: u16) -> Self {
        Self::At(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(self) -> bool {
        matches!(self, Self::At(address) if address.ip().is_loopback())
    }

    /// What to try, one after the other.
    pub(crate) fn addresses(self) -> Vec<SocketAddr> {
        match self {
            Self::At(address) => vec![address],
            Self::Everywhere { port } => vec![
                SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            ],
        }
    }
}

/// PEM files for TLS, read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that signed it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where envelopes are kept.
#[derive(Debug)]
pub enum Database {
    /// In a file of this machine, for one gateway. File and directory are made if they are missing.
    Sqlite(PathBuf),
    /// In PostgreSQL, for any number of replicas.
    Postgres(Box<PostgresOptions>),
}

/// Where messages go.
pub enum Queues {
    /// To queues that somebody has opened already.
    Open {
        /// The queues.
        transport: Arc<dyn Transport>,
        /// How their health is known; without it they are asked.
        probe: Option<BrokerProbe>,
    },
    /// To the queues in a directory of this machine, as `asya up` has them.
    #[cfg(feature = "program")]
    Local(PathBuf),
    /// To RabbitMQ. It may be away at the start: calls are kept until it is there (rulings 22).
    #[cfg(feature = "program")]
    RabbitMq {
        /// Where it is.
        options: Box<RabbitMqOptions>,
        /// Whether the address was given as a whole, for what is said when it refuses.
        is_url: bool,
    },
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("listen", &self.listen)
            .field("database", &self.database)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { transport, .. } => write!(f, "Open({})", transport.name()),
            #[cfg(feature = "program")]
            Self::Local(directory) => f.debug_tuple("Local").field(directory).finish(),
            #[cfg(feature = "program")]
            Self::RabbitMq { options, .. } => f.debug_tuple("RabbitMq").field(&options.address).finish(),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Most that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request; what the queues take may be less. 10 MiB (contract gateway §9).
    pub max_body: usize,
    /// Streams of events that are open at a time. 20 000.
    pub max_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 10 << 20,
            max_streams: 20_000,
        }
    }
}

impl Settings {
    /// A gateway inside another program: on loopback with nobody asked, SQLite in `state_dir`, and queues that the
    /// program has opened. `port` 0 takes a free one.
    pub fn embedded(state_dir: &Path, port: u16, transport: Arc<dyn Transport>, tools: ToolBook) -> Self {
        let mut auth = Auth::open();
        auth.origins = OriginPolicy {
            loopback_only: true,
            ..OriginPolicy::default()
        };
        Self {
            listen: Listen::loopback(port),
            tls: None,
            database: Database::Sqlite(Self::database_file(state_dir)),
            queues: Queues::Open {
                transport,
                probe: None,
            },
            tools,
            auth,
            limits: Limits::default(),
            retention: DEFAULT_RETENTION,
            patience: Patience::default(),
            metrics: None,
        }
    }

    /// The file of the embedded database in a state directory.
    pub fn database_file(state_dir: &Path) -> PathBuf {
        state_dir.join("gateway.db")
    }
}

/// Histories for 24 h, as in the original (contract gateway §7), and envelopes for 30 days.
pub const DEFAULT_RETENTION: Retention = Retention {
    updates: Some(Duration::from_hours(24)),
    envelopes: Some(Duration::from_hours(720)),
};
