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
        let on_broker = |name: String| QueueName {
            broker: broker.clone(),
            name,
        };
        let dead_letter = transport.broker.queues().dead_letter;
        let is_shared = matches!(transport.broker, Broker::Sqs(_)) && !dead_letter.per_actor;
        let annotation = actor
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(QUEUE_SHARING_ANNOTATION));
        let created = actor
            .metadata
            .creation_timestamp
            .as_ref()
            .map_or(Timestamp::MAX, |time| time.0);
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
        self.names()
            .any(|name| other.names().any(|theirs| theirs == name))
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
        Self {
            registry,
            state: Mutex::default(),
        }
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
            return Some(format!(
                "queue {queue:?} is the dead-letter queue of all actors; rename the actor"
            ));
        }
        let elder = state
            .peers(key, claim)
            .into_iter()
            .filter_map(|peer| state.by_actor.get(&peer))
            .filter(|peer| peer.age < claim.age && peer.clashes_with(claim))
            .min_by(|one, other| one.age.cmp(&other.age))?;
        let Key { namespace, name } = &elder.age.1;
        Some(format!(
            "queue {queue:?} already belongs to actor {name:?} in namespace {namespace:?}; rename one of them, or annotate \
             both with {QUEUE_SHARING_ANNOTATION}=true to share it"
        ))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn peers(&self, key: &Key, claim: &Claim) -> Vec<Key> {
        let mut peers: Vec<Key> = claim
            .names()
            .filter_map(|name| self.by_name.get(name))
            .flatten()
            .cloned()
            .collect();
        peers.retain(|peer| peer != key);
        peers.sort();
        peers.dedup();
        peers
    }

    fn remove(&mut self, key: &Key) -> Vec<Key> {
        let Some(claim) = self.by_actor.remove(key) else {
            return Vec::new();
        };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::{Claims, Key};
    use crate::registry;
    use crate::resource::AsyncActor;

    fn claims() -> Claims {
        let dead_letters = json!({"dlq": {"enabled": true}});
        let rabbitmq = json!({"host": "broker", "queues": dead_letters});
        let sqs = json!({"region": "eu-west-1", "accountId": "123456789012", "queues": dead_letters});
        let entry = |kind: &str, config: &Value| json!({"type": kind, "enabled": true, "config": config});
        let document = json!({"transports": {
            "one": entry("rabbitmq", &rabbitmq), "same": entry("rabbitmq", &rabbitmq), "sqs": entry("sqs", &sqs),
        }});
        Claims::new(Arc::new(registry::read(&document.to_string()).unwrap().0))
    }

    /// An actor of this age, in the order of letters.
    fn actor(age: char, transport: &str, shares: bool) -> AsyncActor {
        let second = u32::from(age) - u32::from('a') + 10;
        let annotations = if shares {
            json!({"asya.sh/queue-sharing": "true"})
        } else {
            json!({})
        };
        let metadata =
            json!({"creationTimestamp": format!("2026-01-01T00:00:{second}Z"), "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata, "spec": {"transport": transport}})).unwrap()
    }

    #[test]
    fn the_eldest_has_the_queue_whatever_the_transport_is_called() {
        let claims = claims();
        let [old, young] = [Key::new("z", "x"), Key::new("a", "x")];
        claims.put(&young, &actor('b', "same", false));
        assert_eq!(claims.conflict(&young), None);
        assert_eq!(
            claims.put(&old, &actor('a', "one", false)),
            std::slice::from_ref(&young),
            "it has to be looked at again"
        );
        assert_eq!(claims.conflict(&old), None);
        let text = claims.conflict(&young).unwrap();
        assert!(text.contains("asya-x") && text.contains("\"z\""), "{text}");
        assert_eq!(claims.remove(&old), std::slice::from_ref(&young));
        assert_eq!(claims.conflict(&young), None);
    }

    #[test]
    fn both_have_to_agree_to_share() {
        let claims = claims();
        let [one, two] = [Key::new("one", "x"), Key::new("two", "x")];
        claims.put(&one, &actor('a', "one", false));
        claims.put(&two, &actor('b', "one", true));
        assert!(claims.conflict(&two).is_some());
        claims.put(&one, &actor('a', "one", true));
        assert_eq!(claims.conflict(&two), None);
    }

    #[test]
    fn a_queue_is_nobody_elses_dead_letter_queue() {
        let claims = claims();
        let [actor_x, dead_letters_of_x] = [Key::new("n", "x"), Key::new("n", "x-dlq")];
        claims.put(&actor_x, &actor('a', "one", false));
        claims.put(&dead_letters_of_x, &actor('b', "one", false));
        assert_eq!(claims.conflict(&actor_x), None);
        assert!(claims.conflict(&dead_letters_of_x).is_some());

        let shared = Key::new("n", "dlq");
        claims.put(&shared, &actor('c', "sqs", false));
        assert!(claims.conflict(&shared).unwrap().contains("all actors"));
        claims.put(&shared, &actor('c', "one", false));
        assert_eq!(
            claims.conflict(&shared),
            None,
            "RabbitMQ has no queue of that name"
        );
    }

    #[test]
    fn actors_of_other_names_and_brokers_do_not_meet() {
        let claims = claims();
        for (namespace, name, transport) in [
            ("n", "x", "one"),
            ("m", "x", "sqs"),
            ("n", "y", "one"),
            ("m", "z", "unknown"),
        ] {
            let key = Key::new(namespace, name);
            assert_eq!(claims.put(&key, &actor('a', transport, false)), []);
            assert_eq!(claims.conflict(&key), None);
        }
    }
}
