//! Held calls by session and request id, so that `notifications/cancelled` finds them.
//!
//! Known to this replica alone: a session of an old client has no other state, and its notification reaches the call
//! only through the replica that holds it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use asya_runtime_protocol::RawJson;
use tokio_util::sync::CancellationToken;

/// Whose request it is. The tenant is a part of it: session ids of others may be guessed or seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The caller's tenant.
    pub(super) tenant: Option<String>,
    /// `Mcp-Session-Id`.
    pub(super) session: String,
    /// The id as JSON text.
    pub(super) request: RawJson,
}

/// The held calls of one replica.
#[derive(Clone, Default)]
pub(super) struct Inflight(Arc<Mutex<HashMap<Key, CancellationToken>>>);

/// One call; leaving is its end.
pub(super) struct Entered {
    calls: Inflight,
    key: Option<Key>,
    token: CancellationToken,
}

impl Inflight {
    /// Notes a call. Without a key nobody can find it.
    pub(super) fn enter(&self, key: Option<Key>) -> Entered {
        let token = CancellationToken::new();
        if let Some(key) = &key {
            self.calls(|calls| calls.insert(key.clone(), token.clone()));
        }
        Entered {
            calls: self.clone(),
            key,
            token,
        }
    }

    /// Cancels a call; says whether there was one.
    pub(super) fn cancel(&self, key: &Key) -> bool {
        let token = self.calls(|calls| calls.remove(key));
        token.is_some_and(|token| {
            token.cancel();
            true
        })
    }

    fn calls<T>(&self, use_them: impl FnOnce(&mut HashMap<Key, CancellationToken>) -> T) -> T {
        // A map of tokens cannot be left half changed.
        use_them(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entered {
    /// Ends when the client has withdrawn the call.
    pub(super) async fn cancelled(&self) {
        self.token.cancelled().await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.calls.calls(|calls| calls.remove(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str, session: &str) -> Key {
        Key {
            tenant: Some(tenant.to_owned()),
            session: session.to_owned(),
            request: RawJson::parse("7").unwrap(),
        }
    }

    #[test]
    fn a_call_is_found_by_its_own_tenant_and_session_until_it_ends() {
        let inflight = Inflight::default();
        let entered = inflight.enter(Some(key("a", "s")));
        assert!(!inflight.cancel(&key("b", "s")));
        assert!(!inflight.cancel(&key("a", "t")));
        assert!(!entered.token.is_cancelled());
        assert!(inflight.cancel(&key("a", "s")));
        assert!(entered.token.is_cancelled());
        drop(inflight.enter(Some(key("a", "s"))));
        assert!(!inflight.cancel(&key("a", "s")), "it has ended");
    }
}
