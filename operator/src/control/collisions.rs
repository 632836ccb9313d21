//! Who uses which queue: two actors must not share one by accident (contract operator §8.6).
//!
//! Of several actors the eldest has the queue; the others are refused until it is gone. Actors in different namespaces
//! that both carry the annotation `asya.sh/queue-sharing: "true"` share it on purpose.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::Timestamp;

use super::work_queue::Key;
use crate::registry::{Broker, Registry, Transport};
use crate::resource::{AsyncActor, QUEUE_SHARING_ANNOTATION};

/// See the module.
#[derive(Debug)]
pub(super) struct Claims {
    registry: std::sync::Arc<Registry>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_actor: HashMap<Key, Claim>,
    by_name: HashMap<QueueName, Vec<Key>>,
}

/// A name on a broker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct QueueName {
    broker: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Claim {
    queue: QueueName,
    /// The actor's own dead letters.
    dead_letters: Option<QueueName>,
    /// A name that no actor of this broker may have: the dead letters of all.
    is_reserved: bool,
    age: (Timestamp, Key),
    shares: bool,
}

impl Claim {
    fn of(key: &Key, actor: &AsyncActor, transport: &Transport) -> Self {
        let name = transport.queue_name(&key.namespace, &key.name);
        let broker = identity(&transport.broker);
        let on_broker = |name: String| QueueName { broker: broker.clone(), name };
        let dead_letter = transport.broker.queues().dead_letter;
        let is_shared = matches!(transport.broker, Broker::Sqs(_)) && !dead_letter.per_actor;
        let annotation = actor.metadata.annotations.as_ref().and_then(|all| all.get(QUEUE_SHARING_ANNOTATION));
        let created = actor.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
        Self {
            is_reserved: is_shared && dead_letter.enabled && name == "asya-dlq",
            dead_letters: (dead_letter.enabled && !is_shared).then(|| on_broker(format!("{name}-dlq"))),
            queue: on_broker(name),
            age: (created, key.clone()),
            shares: annotation.is_some_and(|value| value == "true"),
        }
    }

    fn names(&self) -> impl Iterator<Item = &QueueName> {
        std::iter::once(&self.queue).chain(&self.dead_letters)
    }

    fn clashes_with(&self, other: &Self) -> bool {
        if self.queue == other.queue {
            return !(self.shares && other.shares);
        }
        self.names().any(|name| other.names().any(|theirs| theirs == name))
    }
}

/// Two transports of the registry may be the same broker.
fn identity(broker: &Broker) -> String {
    match broker {
        Broker::RabbitMq(broker) => format!("rabbitmq {}:{} {}", broker.host, broker.port, broker.vhost),
        Broker::Sqs(broker) => {
            let endpoint = broker.endpoint.as_deref().unwrap_or_default();
            format!("sqs {} {} {endpoint}", broker.region, broker.account_id)
        }
    }
}

impl Claims {
    /// For the transports of this registry.
    pub(super) fn new(registry: std::sync::Arc<Registry>) -> Self {
        Self { registry, state: Mutex::default() }
    }

    /// Notes what an actor uses, and gives the actors that this may concern.
    pub(super) fn put(&self, key: &Key, actor: &AsyncActor) -> Vec<Key> {
        let transport = actor.spec.get("transport").and_then(serde_json::Value::as_str);
        let transport = transport.and_then(|name| self.registry.find(name).ok());
        let claim = transport.map(|transport| Claim::of(key, actor, transport));
        let mut state = self.state();
        if state.by_actor.get(key) == claim.as_ref() {
            return Vec::new();
        }
        let mut concerned = state.remove(key);
        if let Some(claim) = claim {
            concerned.extend(state.peers(key, &claim));
            for name in claim.names() {
                state.by_name.entry(name.clone()).or_default().push(key.clone());
            }
            state.by_actor.insert(key.clone(), claim);
        }
        concerned
    }

    /// Forgets an actor, and gives those that waited for its queue.
    pub(super) fn remove(&self, key: &Key) -> Vec<Key> {
        self.state().remove(key)
    }

    /// Why the actor may not use its queue, if it may not.
    pub(super) fn conflict(&self, key: &Key) -> Option<String> {
        let state = self.state();
        let claim = state.by_actor.get(key)?;
        let queue = &claim.queue.name;
        if claim.is_reserved {
            return Some(format!("queue {queue:?} is the dead-letter queue of all actors; rename the actor"));
        }
        let elder = state
            .peers(key, claim)
            .into_iter()
            .filter_map(|peer| state.by_actor.get(&peer))
            .filter(|peer| peer.age < claim.age && peer.clashes_with(claim))
            .min_by(|one, other| one.age.cmp(&other.age))?;
        let Key { namespace, name } = &elder.age.1;
        Some(format!(
            "queue {queue:?} already belongs to actor {name:?} in namespace {namespace:?}; rename one of them, set \
             queues.nameTemplate with {{namespace}} for the transport, or annotate both with \
             {QUEUE_SHARING_ANNOTATION}=true to share it"
        ))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn peers(&self, key: &Key, claim: &Claim) -> Vec<Key> {
        let mut peers: Vec<Key> = claim.names().filter_map(|name| self.by_name.get(name)).flatten().cloned().collect();
        peers.retain(|peer| peer != key);
        peers.sort();
        peers.dedup();
        peers
    }

    fn remove(&mut self, key: &Key) -> Vec<Key> {
        let Some(claim) = self.by_actor.remove(key) else { return Vec::new() };
        for name in claim.names() {
            if let Some(keys) = self.by_name.get_mut(name) {
                keys.retain(|other| other != key);
                if keys.is_empty() {
                    self.by_name.remove(name);
                }
            }
        }
        self.peers(key, &claim)
    }
}
