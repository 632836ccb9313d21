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
pub(super) struct Inflight(Arc<Mutex<Calls>>);

#[derive(Default)]
struct Calls {
    held: HashMap<Key, Held>,
    /// Calls so far.
    entered: u64,
}

struct Held {
    /// Tells calls of one key apart: a client that uses a request id again withdraws the later call.
    number: u64,
    token: CancellationToken,
}

/// One call; leaving is its end.
pub(super) struct Entered {
    calls: Inflight,
    key: Option<(Key, u64)>,
    token: CancellationToken,
}

impl Inflight {
    /// Notes a call. Without a key nobody can find it.
    pub(super) fn enter(&self, key: Option<Key>) -> Entered {
        let token = CancellationToken::new();
        let key = key.map(|key| {
            let number = self.calls(|calls| calls.enter(key.clone(), token.clone()));
            (key, number)
        });
        Entered {
            calls: self.clone(),
            key,
            token,
        }
    }

    /// Cancels a call; says whether there was one.
    pub(super) fn cancel(&self, key: &Key) -> bool {
        let held = self.calls(|calls| calls.held.remove(key));
        held.is_some_and(|held| {
            held.token.cancel();
            true
        })
    }

    fn calls<T>(&self, use_them: impl FnOnce(&mut Calls) -> T) -> T {
        // A map of tokens cannot be left half changed.
        use_them(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Calls {
    fn enter(&mut self, key: Key, token: CancellationToken) -> u64 {
        self.entered += 1;
        let number = self.entered;
        self.held.insert(key, Held { number, token });
        number
    }

    /// Forgets a call, unless a later one has taken its key.
    fn leave(&mut self, key: &Key, number: u64) {
        if self.held.get(key).is_some_and(|held| held.number == number) {
            self.held.remove(key);
        }
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
        if let Some((key, number)) = &self.key {
            self.calls.calls(|calls| calls.leave(key, *number));
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

    #[test]
    fn the_end_of_a_call_hides_no_later_one_of_the_same_id() {
        let inflight = Inflight::default();
        let first = inflight.enter(Some(key("a", "s")));
        let second = inflight.enter(Some(key("a", "s")));
        drop(first);
        assert!(inflight.cancel(&key("a", "s")));
        assert!(second.token.is_cancelled());
        drop(second);
        assert!(inflight.0.lock().unwrap().held.is_empty());
    }
}
