//! Actors on the wire and in the store, and which of them a client looks for. Pure.

use asya_gateway_store::ActorRow;
use asya_proto::status::v1::{self, Actor, ActorFilter, ActorState};
use chrono::{DateTime, Utc};
use prost::Message as _;

use crate::core::ActorKey;
use crate::grpc::convert::{instant, timestamp};

/// The row for what an operator of `cluster` says. The error names the field.
pub(super) fn row(mut actor: Actor, cluster: &str, now: DateTime<Utc>) -> Result<ActorRow, String> {
    let key = key(actor.key.take(), cluster, "observed.key")?;
    let observed_at = match &actor.observed_at {
        None => now,
        Some(at) => instant(at).ok_or("observed.observed_at: not an instant between the years 1 and 9999")?,
    };
    actor.observed_at = Some(timestamp(observed_at));
    actor.key = Some(v1::ActorKey {
        cluster: key.cluster.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    });
    Ok(ActorRow {
        observed_at,
        body: actor.encode_to_vec().into(),
        cluster: key.cluster,
        namespace: key.namespace,
        name: key.name,
    })
}

/// The key that an operator of `cluster` says; an empty cluster is its own.
pub(super) fn key(key: Option<v1::ActorKey>, cluster: &str, field: &str) -> Result<ActorKey, String> {
    let key = key.ok_or_else(|| format!("{field}: missing"))?;
    if !key.cluster.is_empty() && key.cluster != cluster {
        return Err(format!(
            "{field}.cluster: {:?}, but hello said {cluster:?}",
            key.cluster
        ));
    }
    for (part, text) in [("namespace", &key.namespace), ("name", &key.name)] {
        check_name(&format!("{field}.{part}"), text)?;
    }
    Ok(ActorKey {
        cluster: cluster.to_owned(),
        namespace: key.namespace,
        name: key.name,
    })
}

/// Whether a name can be one.
pub(super) fn check_name(field: &str, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > 1024 || text.contains('\0') {
        return Err(format!("{field}: must have 1 to 1024 bytes and no NUL"));
    }
    Ok(())
}

/// What a row says; `None` if it cannot be read, which is a fault of whoever wrote it.
pub(super) fn actor(row: &ActorRow) -> Option<Actor> {
    Actor::decode(row.body.clone())
        .inspect_err(
            |error| tracing::error!(%error, actor = row.name, "an actor in the store cannot be read"),
        )
        .ok()
}

/// Cluster, namespace and name: the order of lists.
pub(super) type Order = (String, String, String);

/// The place of a key.
pub(super) fn order(key: &v1::ActorKey) -> Order {
    (key.cluster.clone(), key.namespace.clone(), key.name.clone())
}

/// The place of an actor.
pub(super) fn key_order(actor: &Actor) -> Order {
    actor.key.as_ref().map(order).unwrap_or_default()
}

/// Whether a filter can match anything. The error names the field.
pub(super) fn check(filter: &ActorFilter) -> Result<(), String> {
    let is_none = |state: &i32| ActorState::try_from(*state).unwrap_or_default() == ActorState::Unspecified;
    if filter.states.iter().any(is_none) {
        return Err("filter.states: unspecified, or a state that this gateway does not know".to_owned());
    }
    Ok(())
}

/// Whether a client looks for this actor.
pub(super) fn matches(filter: &ActorFilter, actor: &Actor) -> bool {
    let (cluster, namespace, name) = key_order(actor);
    let is = |wanted: &str, there: &str| wanted.is_empty() || wanted == there;
    is(&filter.cluster, &cluster)
        && is(&filter.namespace, &namespace)
        && is(&filter.name, &name)
        && is(&filter.transport, &actor.transport)
        && (filter.states.is_empty() || filter.states().any(|state| state == actor.state()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Actor {
        Actor {
            key: Some(v1::ActorKey {
                cluster: String::new(),
                namespace: "n".to_owned(),
                name: "a".to_owned(),
            }),
            state: ActorState::Napping.into(),
            transport: "rabbitmq".to_owned(),
            ..Actor::default()
        }
    }

    #[test]
    fn what_an_operator_says_survives_the_store() {
        let now = Utc::now();
        let row = row(seen(), "c", now).unwrap();
        assert_eq!(
            (row.cluster.as_str(), row.namespace.as_str(), row.name.as_str()),
            ("c", "n", "a")
        );
        let read = actor(&row).unwrap();
        assert_eq!(
            read.key.as_ref().unwrap().cluster,
            "c",
            "the cluster is that of hello"
        );
        assert_eq!(read.observed_at, Some(timestamp(now)));
        assert_eq!(read.state(), ActorState::Napping);
    }

    #[test]
    fn what_names_no_actor_of_this_operator_is_told() {
        let named = |cluster: &str, namespace: &str, name: &str| {
            Some(v1::ActorKey {
                cluster: cluster.to_owned(),
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        };
        for (told, field) in [
            (None, "key: missing"),
            (named("other", "n", "a"), "key.cluster"),
            (named("", "", "a"), "key.namespace"),
            (named("c", "n", ""), "key.name"),
            (named("c", "n", "a\0"), "key.name"),
        ] {
            let error = key(told, "c", "key").unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
    }

    #[test]
    fn all_that_is_set_must_match() {
        let every = ActorFilter::default();
        let exact = ActorFilter {
            namespace: "n".to_owned(),
            name: "a".to_owned(),
            transport: "rabbitmq".to_owned(),
            states: vec![ActorState::Running.into(), ActorState::Napping.into()],
            ..ActorFilter::default()
        };
        assert!(matches(&every, &seen()) && matches(&exact, &seen()));
        for other in [
            ActorFilter {
                cluster: "c".to_owned(),
                ..exact.clone()
            },
            ActorFilter {
                namespace: "x".to_owned(),
                ..exact.clone()
            },
            ActorFilter {
                name: "x".to_owned(),
                ..exact.clone()
            },
            ActorFilter {
                transport: "sqs".to_owned(),
                ..exact.clone()
            },
            ActorFilter {
                states: vec![ActorState::Running.into()],
                ..exact.clone()
            },
        ] {
            assert!(!matches(&other, &seen()));
        }
        assert!(check(&exact).is_ok());
        assert!(
            check(&ActorFilter {
                states: vec![77],
                ..every
            })
            .is_err()
        );
    }
}
