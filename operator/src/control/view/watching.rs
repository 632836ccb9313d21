//! The watches that keep a [`View`], and what they set in motion.
//!
//! Every watch starts again by itself after an error, with growing pauses. A kind whose definition is not installed
//! (KEDA's) counts as empty and is looked for again.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::collisions::Claims;
use super::super::memory::Memory;
use super::super::work_queue::{Key, WorkQueue};
use super::{Live, ObjectKey, View};
use crate::desired::Kind;
use crate::resource::{ACTOR_LABEL, AsyncActor};
use crate::status;

/// Pods come and go in bursts; one pass shows many changes.
const BURST: Duration = Duration::from_millis(100);
/// KEDA's label of HPAs; its value is the name of the `ScaledObject`, which is the actor's.
const SCALER_LABEL: &str = "scaledobject.keda.sh/name";
/// Selects the `ConfigMaps` with the runtime script (contract operator §8.5).
const SCRIPT_SELECTOR: &str = "app.kubernetes.io/name=asya-runtime";

/// Where to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::control) enum Scope {
    /// Every namespace.
    Cluster,
    /// One of them.
    Namespace(String),
}

impl Scope {
    fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Cluster => Api::all(client.clone()),
            Self::Namespace(name) => Api::namespaced(client.clone(), name),
        }
    }

    fn dynamic(&self, client: &Client, resource: &ApiResource) -> Api<DynamicObject> {
        match self {
            Self::Cluster => Api::all_with(client.clone(), resource),
            Self::Namespace(name) => Api::namespaced_with(client.clone(), name, resource),
        }
    }
}

/// What watches change and wake.
#[derive(Clone)]
pub(in crate::control) struct Wakes {
    /// What is known.
    pub(in crate::control) view: Arc<View>,
    /// Whose actors to look at.
    pub(in crate::control) queue: Arc<WorkQueue>,
    /// What was applied; forgotten when an object goes.
    pub(in crate::control) memory: Arc<Memory>,
    /// Who uses which queue.
    pub(in crate::control) claims: Arc<Claims>,
}

/// Tells when every watch has listed what exists.
#[derive(Debug)]
pub(in crate::control) struct Synced(watch::Receiver<usize>);

impl Synced {
    /// Waits for it.
    pub(in crate::control) async fn wait(&mut self) {
        // The watches hold the sender for as long as they run; without them nothing is left to wait for.
        let _ = self.0.wait_for(|missing| *missing == 0).await;
    }
}

/// Starts all watches in `tasks`.
pub(in crate::control) fn watch_all(
    client: &Client,
    scopes: &[Scope],
    wakes: &Wakes,
    tasks: &mut JoinSet<()>,
) -> Synced {
    let (missing, synced) = watch::channel(0);
    let missing = Arc::new(missing);
    for scope in scopes {
        let actors = Actors(wakes.clone());
        start(tasks, scope.api::<AsyncActor>(client), None, actors, &missing);
        let pods = Pods {
            wakes: wakes.clone(),
            actors: HashMap::new(),
        };
        start(tasks, scope.api::<Pod>(client), Some(ACTOR_LABEL), pods, &missing);
        let scalers = Scalers {
            wakes: wakes.clone(),
            actors: HashMap::new(),
        };
        start(
            tasks,
            scope.dynamic(client, &hpa()),
            Some(SCALER_LABEL),
            scalers,
            &missing,
        );
        let scripts = Objects {
            wakes: wakes.clone(),
            kind: Kind::ConfigMap,
        };
        start(
            tasks,
            scope.dynamic(client, &Kind::ConfigMap.api_resource()),
            Some(SCRIPT_SELECTOR),
            scripts,
            &missing,
        );
        for kind in Kind::ALL {
            let objects = Objects {
                wakes: wakes.clone(),
                kind,
            };
            start(
                tasks,
                scope.dynamic(client, &kind.api_resource()),
                Some(ACTOR_LABEL),
                objects,
                &missing,
            );
        }
    }
    Synced(synced)
}

fn hpa() -> ApiResource {
    ApiResource {
        group: "autoscaling".into(),
        version: "v2".into(),
        api_version: "autoscaling/v2".into(),
        kind: "HorizontalPodAutoscaler".into(),
        plural: "horizontalpodautoscalers".into(),
    }
}

/// What is done with the objects of one watch.
trait Sink<K>: Send + 'static {
    /// It is new or has changed.
    fn put(&mut self, key: Key, object: K);
    /// It is gone.
    fn remove(&mut self, key: &Key);
    /// Whether its definition is installed. Gives whether that it is not is nothing to wait for.
    fn installed(&mut self, is_installed: bool) -> bool;
}

fn start<K>(
    tasks: &mut JoinSet<()>,
    api: Api<K>,
    selector: Option<&str>,
    sink: impl Sink<K>,
    missing: &Arc<watch::Sender<usize>>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Send + Sync,
{
    let config = selector.map_or_else(watcher::Config::default, |selector| {
        watcher::Config::default().labels(selector)
    });
    missing.send_modify(|missing| *missing += 1);
    tasks.spawn(follow(api, config, sink, missing.clone()));
}

async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    mut sink: impl Sink<K>,
    missing: Arc<watch::Sender<usize>>,
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    K::DynamicType: Send + Sync,
{
    let path = api.resource_url().to_owned();
    let mut is_waited_for = true;
    let mut reached = || {
        if std::mem::take(&mut is_waited_for) {
            missing.send_modify(|missing| *missing -= 1);
        }
    };
    let mut known: HashSet<Key> = HashSet::new();
    let mut listed: HashSet<Key> = HashSet::new();
    let mut failures = 0_u32;
    let mut events = pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => {
                let key = key_of(&object);
                listed.insert(key.clone());
                sink.put(key, object);
            }
            Ok(Event::InitDone) => {
                known.extend(listed.iter().cloned());
                let gone: Vec<Key> = known.extract_if(|key| !listed.contains(key)).collect();
                for key in &gone {
                    sink.remove(key);
                }
                listed = HashSet::new();
                failures = 0;
                sink.installed(true);
                reached();
            }
            Ok(Event::Apply(object)) => {
                let key = key_of(&object);
                known.insert(key.clone());
                sink.put(key, object);
            }
            Ok(Event::Delete(object)) => {
                let key = key_of(&object);
                known.remove(&key);
                sink.remove(&key);
            }
            Err(error) if is_not_found(&error) && sink.installed(false) => reached(),
            Err(error) => {
                failures += 1;
                if is_forbidden(&error) {
                    if failures.is_power_of_two() {
                        tracing::error!(
                            path,
                            failures,
                            %error,
                            "the right to list and watch this is missing, and nothing is done without it; the chart \
                             asya-operator makes the roles that are needed"
                        );
                    }
                    continue;
                }
                // One broken watch is usual: servers end them. What goes on is worth a line.
                if failures.is_power_of_two() && failures > 1 {
                    tracing::warn!(path, failures, %error, "a watch fails and is started again");
                } else {
                    tracing::debug!(path, %error, "a watch was interrupted");
                }
            }
        }
    }
}

fn key_of<K: Resource>(object: &K) -> Key {
    Key::new(
        object.meta().namespace.clone().unwrap_or_default(),
        object.name_any(),
    )
}

fn is_not_found(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

/// Whether the operator lacks the right to list or watch.
fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 403,
        _ => false,
    }
}

struct Actors(Wakes);

impl Sink<AsyncActor> for Actors {
    fn put(&mut self, key: Key, actor: AsyncActor) {
        let Wakes {
            view, queue, claims, ..
        } = &self.0;
        for peer in claims.put(&key, &actor) {
            queue.add(peer);
        }
        view.put_actor(key.clone(), actor);
        queue.add(key);
    }

    fn remove(&mut self, key: &Key) {
        let Wakes {
            view, queue, claims, ..
        } = &self.0;
        for peer in claims.remove(key) {
            queue.add(peer);
        }
        if view.remove_actor(key) {
            queue.add(key.clone());
        }
    }

    fn installed(&mut self, _: bool) -> bool {
        false
    }
}

struct Objects {
    wakes: Wakes,
    kind: Kind,
}

impl Objects {
    fn wake(&self, namespace: &str, concerned: impl IntoIterator<Item = Key>) {
        let Wakes { view, queue, .. } = &self.wakes;
        let mut is_shared = true;
        for key in concerned {
            is_shared = false;
            queue.add(key);
        }
        if self.kind == Kind::ConfigMap && is_shared {
            for key in view.actors_in(namespace) {
                queue.add(key);
            }
        }
    }

    fn key(&self, key: &Key) -> ObjectKey {
        ObjectKey {
            kind: self.kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

impl Sink<DynamicObject> for Objects {
    fn put(&mut self, key: Key, object: DynamicObject) {
        let concerned = self.wakes.view.put_object(self.key(&key), Live::reduce(object));
        self.wake(&key.namespace, concerned);
    }

    fn remove(&mut self, key: &Key) {
        let object = self.key(key);
        self.wakes.memory.forget(&object);
        let concerned = self.wakes.view.remove_object(&object);
        self.wake(&key.namespace, concerned);
    }

    fn installed(&mut self, is_installed: bool) -> bool {
        let Wakes { view, queue, .. } = &self.wakes;
        let has_changed = view.set_absent(self.kind, !is_installed);
        if has_changed && self.kind.is_scaler() {
            tracing::info!(
                kind = self.kind.names().1,
                is_installed,
                "a definition came or is missing"
            );
            for key in view.actors() {
                queue.add(key);
            }
        }
        self.kind.is_scaler()
    }
}

struct Pods {
    wakes: Wakes,
    /// The actor that each pod was counted for.
    actors: HashMap<Key, String>,
}

impl Sink<Pod> for Pods {
    fn put(&mut self, key: Key, pod: Pod) {
        let Some(actor) = pod.labels().get(ACTOR_LABEL).cloned() else {
            return;
        };
        let Wakes { view, queue, .. } = &self.wakes;
        if let Some(before) = self.actors.insert(key.clone(), actor.clone())
            && before != actor
        {
            view.remove_pod(&key.namespace, &before, &key.name);
            queue.add_after(Key::new(&key.namespace, before), BURST);
        }
        let actor = Key::new(&key.namespace, actor);
        view.put_pod(actor.clone(), status::Pod::read(&pod));
        queue.add_after(actor, BURST);
    }

    fn remove(&mut self, key: &Key) {
        let Wakes { view, queue, .. } = &self.wakes;
        if let Some(actor) = self.actors.remove(key) {
            view.remove_pod(&key.namespace, &actor, &key.name);
            queue.add_after(Key::new(&key.namespace, actor), BURST);
        }
    }

    fn installed(&mut self, _: bool) -> bool {
        false
    }
}

struct Scalers {
    wakes: Wakes,
    /// The actor that each HPA belongs to.
    actors: HashMap<Key, Key>,
}

impl Sink<DynamicObject> for Scalers {
    fn put(&mut self, key: Key, hpa: DynamicObject) {
        let Some(actor) = hpa.labels().get(SCALER_LABEL) else {
            return;
        };
        let actor = Key::new(&key.namespace, actor);
        let desired = hpa
            .data
            .pointer("/status/desiredReplicas")
            .and_then(serde_json::Value::as_u64);
        let desired = u32::try_from(desired.unwrap_or_default()).unwrap_or(u32::MAX);
        self.actors.insert(key.clone(), actor.clone());
        if self.wakes.view.put_scaler(actor.clone(), key.name, desired) {
            self.wakes.queue.add(actor);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(actor) = self.actors.remove(key) {
            self.wakes.view.remove_scaler(&actor);
            self.wakes.queue.add(actor);
        }
    }

    fn installed(&mut self, _: bool) -> bool {
        false
    }
}
