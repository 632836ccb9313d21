//! MCP at `/mcp`, on the official SDK: tools for language models and their clients (contract gateway §8).
//!
//! What it is: streamable HTTP for both halves of the protocol's history, chosen by every request for itself (2026-07-28
//! without sessions, 2025-11-25 and older with a handshake), over the one [core](crate::core) of the gateway. What it is
//! not: it keeps no sessions and no tasks. A session id is a word that any replica serves, and a task is an envelope.
//!
//! Where to read on: `endpoint` (HTTP, before the SDK), `message` and `answers` (JSON that the SDK must not touch),
//! `server` (the SDK's handler), `call` and `wait` (tool calls), `tasks`, `listen`.

mod answers;
mod call;
mod endpoint;
mod exchange;
mod inflight;
mod listen;
mod message;
mod options;
mod outcome;
mod progress;
mod refusal;
mod server;
mod tasks;
mod tools;
mod wait;

use axum::Router;
use axum::routing::any;

pub use options::McpOptions;

use crate::core::Gateway;

/// Where `_meta` of a call chooses the mode, and `_meta` of a tool tells it.
const MODE_KEY: &str = "asya.sh/mode";

/// Characters of a client's word that are told back to it.
const TOLD_BACK: usize = 100;

/// A client's word as it is told back: cut, since it may have megabytes.
fn told_back(word: &str) -> String {
    match word.char_indices().nth(TOLD_BACK) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

/// The routes `/mcp` and `/mcp/sse`. Every request must have a [`Caller`](crate::auth::Caller) in its extensions, and
/// its `Host` and `Origin` must have been looked at: the [auth layer](crate::auth) does both.
pub fn router(gateway: Gateway, options: McpOptions) -> Router {
    let endpoint = endpoint::Endpoint::new(gateway, options);
    Router::new()
        .route("/mcp", any(endpoint::serve))
        .route("/mcp/sse", any(endpoint::sse_is_gone))
        .with_state(endpoint)
}
