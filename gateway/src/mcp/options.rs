//! How the MCP endpoint behaves.

use std::time::Duration;

/// How the MCP endpoint behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct McpOptions {
    /// Largest request body in bytes; above it the answer is 413. Default 10 MiB.
    pub max_body: usize,
    /// How long the body of a request may take to arrive; beyond it the answer is 408. Default 1 min, as for REST.
    pub body_timeout: Duration,
    /// How long a call in the mode `wait` is held before it is answered with the handle instead. Default 55 s: many
    /// proxies cut a request after 60 s.
    pub wait_limit: Duration,
    /// How many streams may be open at once: held calls, subscriptions and the streams of old clients. Above it a call
    /// is answered with the handle, and a subscription with 503. Default 20 000.
    pub max_streams: usize,
    /// How long clients may keep what `tools/list` and `server/discover` said, without asking again. Default 30 s.
    pub cache: Duration,
    /// How often clients are asked to look after a task. Default 1 s.
    pub poll: Duration,
    /// How long a task is kept after it is final, as the retention of envelopes says; `None` for ever. Default 30 days.
    pub keep_tasks: Option<Duration>,
    /// How often a comment is sent on a stream that is silent, so that proxies do not cut it. Default 15 s.
    pub keep_alive: Duration,
}

impl Default for McpOptions {
    fn default() -> Self {
        Self {
            max_body: 10 * 1024 * 1024,
            body_timeout: Duration::from_mins(1),
            wait_limit: Duration::from_secs(55),
            max_streams: 20_000,
            cache: Duration::from_secs(30),
            poll: Duration::from_secs(1),
            keep_tasks: Some(Duration::from_hours(720)),
            keep_alive: Duration::from_secs(15),
        }
    }
}
