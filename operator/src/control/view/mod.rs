//! What is known of the cluster: small copies of everything that matters for actors, kept by watches.
//!
//! Reading it costs no request. It may lag behind what was just written; [`super::apply`] knows that.

mod live;
mod watching;

pub(super) use live::{Live, ObjectKey, is_older};
pub(super) use watching::{Scope, Wakes, watch_all};

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::work_queue::Key;
use crate::desired::Kind;
use crate::resource::AsyncActor;
use crate::status::Pod;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct View {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// As text, without `managedFields`.
    actors: HashMap<Key, Box<str>>,
    objects: HashMap<ObjectKey, Arc<Live>>,
    /// Objects by the actor that their label names.
    children: HashMap<Key, BTreeSet<(Kind, String)>>,
    /// Pods by the actor that their label names, then by name.
    pods: HashMap<Key, BTreeMap<String, Arc<Pod>>>,
    /// `status.desiredReplicas` of HPAs by namespace and `ScaledObject`, with the name of the HPA.
    scalers: HashMap<Key, (String, u32)>,
    /// Kinds whose definitions are not installed.
    absent: HashSet<Kind>,
}

impl View {
    /// One actor, if it exists.
    pub(super) fn actor(&self, key: &Key) -> Option<AsyncActor> {
        let text = self.state().actors.get(key)?.clone();
        // Written by `put_actor`.
        serde_json::from_str(&text).ok()
    }

    /// All actors.
    pub(super) fn actors(&self) -> Vec<Key> {
        self.state().actors.keys().cloned().collect()
    }

    /// All actors of a namespace.
    pub(super) fn actors_in(&self, namespace: &str) -> Vec<Key> {
        let state = self.state();
        state
            .actors
            .keys()
            .filter(|key| key.namespace == namespace)
            .cloned()
            .collect()
    }

    /// One object, if it is known.
    pub(super) fn object(&self, key: &ObjectKey) -> Option<Arc<Live>> {
        self.state().objects.get(key).cloned()
    }

    /// Objects whose label names this actor.
    pub(super) fn children(&self, actor: &Key) -> Vec<(ObjectKey, Arc<Live>)> {
        let state = self.state();
        let keys = state
            .children
            .get(actor)
            .into_iter()
            .flatten()
            .map(|(kind, name)| ObjectKey {
                kind: *kind,
                namespace: actor.namespace.clone(),
                name: name.clone(),
            });
        keys.filter_map(|key| Some((key.clone(), state.objects.get(&key)?.clone())))
            .collect()
    }

    /// The actor's pods, sorted by name.
    pub(super) fn pods(&self, actor: &Key) -> Vec<Pod> {
        let state = self.state();
        state
            .pods
            .get(actor)
            .into_iter()
            .flatten()
            .map(|(_, pod)| Pod::clone(pod))
            .collect()
    }

    /// What KEDA's HPA of the actor wants.
    pub(super) fn scaler_desired(&self, actor: &Key) -> Option<u32> {
        self.state().scalers.get(actor).map(|(_, desired)| *desired)
    }

    /// Whether the definition of a kind is not installed in the cluster.
    pub(super) fn is_absent(&self, kind: Kind) -> bool {
        self.state().absent.contains(&kind)
    }

    fn put_actor(&self, key: Key, mut actor: AsyncActor) {
        actor.metadata.managed_fields = None;
        // What came as JSON can be written as JSON.
        let text = serde_json::to_string(&actor).unwrap_or_default();
        self.state().actors.insert(key, text.into());
    }

    fn remove_actor(&self, key: &Key) -> bool {
        self.state().actors.remove(key).is_some()
    }

    /// Stores an object and gives the actors that it concerns: the one that its label names now, and before.
    fn put_object(&self, key: ObjectKey, live: Live) -> Vec<Key> {
        let mut state = self.state();
        let mut concerned = Vec::new();
        let actor = live.actor.clone().map(|name| Key::new(&key.namespace, name));
        let before = state.objects.insert(key.clone(), Arc::new(live));
        if let Some(before) = before
            .and_then(|live| live.actor.clone())
            .map(|name| Key::new(&key.namespace, name))
            && Some(&before) != actor.as_ref()
        {
            state.unlink(&before, &key);
            concerned.push(before);
        }
        if let Some(actor) = actor {
            state
                .children
                .entry(actor.clone())
                .or_default()
                .insert((key.kind, key.name));
            concerned.push(actor);
        }
        concerned
    }

    fn remove_object(&self, key: &ObjectKey) -> Option<Key> {
        let mut state = self.state();
        let live = state.objects.remove(key)?;
        let actor = Key::new(&key.namespace, live.actor.clone()?);
        state.unlink(&actor, key);
        Some(actor)
    }

    fn put_pod(&self, actor: Key, pod: Pod) {
        self.state()
            .pods
            .entry(actor)
            .or_default()
            .insert(pod.name.clone(), Arc::new(pod));
    }

    fn remove_pod(&self, namespace: &str, actor: &str, name: &str) {
        let mut state = self.state();
        let key = Key::new(namespace, actor);
        if let Some(pods) = state.pods.get_mut(&key) {
            pods.remove(name);
            if pods.is_empty() {
                state.pods.remove(&key);
            }
        }
    }

    fn put_scaler(&self, actor: Key, hpa: String, desired: u32) -> bool {
        let now = (hpa, desired);
        self.state().scalers.insert(actor, now.clone()) != Some(now)
    }

    fn remove_scaler(&self, actor: &Key) {
        self.state().scalers.remove(actor);
    }

    fn set_absent(&self, kind: Kind, is_absent: bool) -> bool {
        let mut state = self.state();
        if is_absent {
            state.absent.insert(kind)
        } else {
            state.absent.remove(&kind)
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn unlink(&mut self, actor: &Key, object: &ObjectKey) {
        if let Some(children) = self.children.get_mut(actor) {
            children.remove(&(object.kind, object.name.clone()));
            if children.is_empty() {
                self.children.remove(actor);
            }
        }
    }
}
