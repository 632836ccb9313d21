//! How the backend is set up.

use std::time::Duration;

use super::address::Address;

/// How the backend is set up.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Where the database is.
    pub address: Address,
    /// How many connections.
    pub pool: Pool,
    /// What happens to the schema at the start.
    pub at_start: AtStart,
    /// Whether payloads and results are also written as `jsonb`, which replicas of the original read. Default: true;
    /// without such replicas, false saves space and time.
    pub mirror: bool,
    /// How long an operation tries again while the database is away, restarts, or hands over. Default: 5 s.
    pub patience: Duration,
    /// How long the server may take to answer one operation before its connection is given up. Default: 30 s.
    pub answer_limit: Duration,
}

/// How many connections. Two more stand beside them: one listens for changes, and one holds the lead where we have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// At most so many, at least 1. Default: 10.
    pub max_connections: u32,
    /// Kept open. Default: 2.
    pub min_connections: u32,
    /// A connection is replaced after this time. Default: 1 h; `None` for never.
    pub max_lifetime: Option<Duration>,
    /// A connection that was idle for so long is closed. Default: 30 min; `None` for never.
    pub max_idle: Option<Duration>,
}

/// What happens to the schema at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AtStart {
    /// It is brought to the version of this program.
    #[default]
    Migrate,
    /// It must be of that version already.
    Check,
}

impl PostgresOptions {
    /// The defaults.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            pool: Pool::default(),
            at_start: AtStart::default(),
            mirror: true,
            patience: Duration::from_secs(5),
            answer_limit: Duration::from_secs(30),
        }
    }
}

impl Default for Pool {
    /// Those of the original (contract gateway §1).
    fn default() -> Self {
        Self {
            max_connections: 10,
            min_connections: 2,
            max_lifetime: Some(Duration::from_hours(1)),
            max_idle: Some(Duration::from_mins(30)),
        }
    }
}
