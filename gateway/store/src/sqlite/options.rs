//! How the backend is set up.

use std::time::Duration;

/// How the backend is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Connections that read beside the one that writes, at least 1. Default: 4.
    pub readers: u32,
    /// How long to wait for another process that writes to the file. Default: 10 s.
    pub busy_timeout: Duration,
    /// The file does not grow beyond so many bytes; then new envelopes are refused as if the disk was full. Default:
    /// none.
    pub max_size: Option<u64>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers: 4,
            busy_timeout: Duration::from_secs(10),
            max_size: None,
        }
    }
}
