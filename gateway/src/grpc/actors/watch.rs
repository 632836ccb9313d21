//! One stream of one client: the actors that it looks for as they are, then each change.

use std::collections::BTreeSet;

use asya_gateway_store::ActorRow;
use asya_proto::status::v1::{
    self, ActorFilter, ActorsSynced, WatchActorsResponse, watch_actors_response::Event,
};
use futures::stream::{self, Stream};
use tonic::Status;

use super::convert::{self, Order};
use crate::core::{ActorEvent, ActorWatch, Gateway};
use crate::grpc::errors;

struct Watching {
    gateway: Gateway,
    events: ActorWatch,
    told: Told,
}

/// What the client knows.
struct Told {
    filter: ActorFilter,
    /// Those that were sent and are not gone.
    shown: BTreeSet<Order>,
}

/// Begins a watch.
pub(super) fn open(
    gateway: Gateway,
    filter: ActorFilter,
) -> impl Stream<Item = Result<WatchActorsResponse, Status>> + Send {
    let watching = Watching {
        events: gateway.actors().watch(),
        gateway,
        told: Told {
            filter,
            shown: BTreeSet::new(),
        },
    };
    stream::try_unfold(watching, |mut watching| async {
        let event = watching.next().await?;
        Ok(Some((WatchActorsResponse { event: Some(event) }, watching)))
    })
}

impl Watching {
    async fn next(&mut self) -> Result<Event, Status> {
        let draining = self.gateway.draining();
        loop {
            let event = tokio::select! {
                event = self.events.next() => event,
                () = draining.cancelled() => return Err(errors::closing()),
            };
            if let Some(event) = self.told.tell(event) {
                return Ok(event);
            }
        }
    }
}

impl Told {
    /// What the client is told of an event; `None` if it does not concern it.
    fn tell(&mut self, event: ActorEvent) -> Option<Event> {
        match event {
            ActorEvent::Synced => Some(Event::Synced(ActorsSynced {})),
            ActorEvent::Put(row) => self.put(&row),
            ActorEvent::Deleted(key) => self.gone((key.cluster, key.namespace, key.name)),
        }
    }

    fn put(&mut self, row: &ActorRow) -> Option<Event> {
        let actor = convert::actor(row)?;
        let place = convert::key_order(&actor);
        if convert::matches(&self.filter, &actor) {
            self.shown.insert(place);
            return Some(Event::Actor(actor));
        }
        self.gone(place)
    }

    fn gone(&mut self, place: Order) -> Option<Event> {
        self.shown.remove(&place).then(|| {
            let (cluster, namespace, name) = place;
            Event::Gone(v1::ActorKey {
                cluster,
                namespace,
                name,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use asya_proto::status::v1::{Actor, ActorState};
    use chrono::Utc;

    use super::*;
    use crate::core::ActorKey;

    fn put(name: &str, state: ActorState) -> ActorEvent {
        let actor = Actor {
            key: Some(v1::ActorKey {
                cluster: "c".to_owned(),
                namespace: "n".to_owned(),
                name: name.to_owned(),
            }),
            state: state.into(),
            ..Actor::default()
        };
        ActorEvent::Put(Arc::new(convert::row(actor, "c", Utc::now()).unwrap()))
    }

    fn deleted(name: &str) -> ActorEvent {
        ActorEvent::Deleted(ActorKey {
            cluster: "c".to_owned(),
            namespace: "n".to_owned(),
            name: name.to_owned(),
        })
    }

    #[test]
    fn what_no_longer_matches_is_gone_and_what_was_never_shown_is_not() {
        let mut told = Told {
            filter: ActorFilter {
                states: vec![ActorState::Running.into()],
                ..ActorFilter::default()
            },
            shown: BTreeSet::new(),
        };
        assert!(matches!(
            told.tell(put("a", ActorState::Running)),
            Some(Event::Actor(_))
        ));
        assert!(told.tell(put("b", ActorState::Napping)).is_none());
        assert!(matches!(told.tell(ActorEvent::Synced), Some(Event::Synced(_))));
        assert!(
            matches!(told.tell(put("a", ActorState::Napping)), Some(Event::Gone(key)) if key.name == "a")
        );
        assert!(
            told.tell(put("a", ActorState::Napping)).is_none(),
            "it is gone already"
        );
        assert!(matches!(
            told.tell(put("b", ActorState::Running)),
            Some(Event::Actor(_))
        ));
        assert!(matches!(told.tell(deleted("b")), Some(Event::Gone(key)) if key.name == "b"));
        assert!(told.tell(deleted("b")).is_none() && told.tell(deleted("x")).is_none());
    }
}
