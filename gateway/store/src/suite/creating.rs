//! New envelopes: durable, once, for their owner.

use std::collections::HashSet;
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;

use super::{
    Harness, LONG, at, call, change, child, create, eventually, get, progress, raw, report, success, updates,
};
use crate::state::plan::basic;
use crate::{Created, Filter, Idempotency, NewEnvelope, Page, Phase, Progress, ReportEvent, Status, View};

fn keyed(id: &str, key: &str, request: u8) -> NewEnvelope {
    let idempotency = Idempotency {
        key: key.to_owned(),
        fingerprint: [request; 32],
    };
    NewEnvelope {
        idempotency: Some(idempotency),
        ..call(id)
    }
}

/// Everything that was said comes back, from this replica and from another one.
pub async fn what_is_created_can_be_read(harness: &dyn Harness) {
    let store = harness.store();
    let new = NewEnvelope {
        tenant: Some("acme".into()),
        ..call("e")
    };
    let made = create(&*store, new.clone()).await;
    assert_eq!((made.status, made.attempt, made.version), (Status::Pending, 1, 1));
    assert_eq!(made.created_at, at(0));
    assert_eq!(made.deadline, new.deadline);
    for store in [store, harness.replica().await] {
        let read = get(&*store, "e").await;
        assert_eq!(basic(read.clone()), basic(made.clone()));
        assert_eq!(
            (
                &read.payload,
                &read.headers,
                &read.route_metadata,
                read.result.as_ref()
            ),
            (&new.payload, &new.headers, &new.route_metadata, None)
        );
        assert_eq!((&read.tenant, &read.tool), (&new.tenant, &new.tool));
        assert_eq!((&read.actors, read.timeout), (&new.actors, new.timeout));
        assert!(store.get("E", View::Full).await.unwrap().is_none());
        assert!(updates(&*store, "e").await.is_empty());
    }
}

/// The same id again, with the same parent and route, changes nothing.
pub async fn a_repeat_finds_what_is_there(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    create(&*store, child("e-1", "e")).await;
    for new in [call("e"), child("e-1", "e")] {
        let again = store.create(new.clone(), LONG).await.unwrap();
        let Created::Existing(record) = again else {
            panic!("{again:?}");
        };
        assert_eq!((&record.id, record.version), (&new.id, 1));
    }
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 1);
}

/// An id is of one envelope.
pub async fn the_same_id_for_something_else_is_a_conflict(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, child("e-1", "e")).await;
    let other_route = NewEnvelope {
        actors: vec!["one".into(), "other".into(), "three".into()],
        ..child("e-1", "e")
    };
    let other_place = NewEnvelope {
        route_current: 2,
        ..child("e-1", "e")
    };
    for new in [child("e-1", "f"), other_route, other_place, call("e-1")] {
        let created = store.create(new, LONG).await.unwrap();
        assert!(matches!(created, Created::Conflict(_)), "{created:?}");
    }
    assert_eq!(get(&*store, "e-1").await.parent_id.as_deref(), Some("e"));
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 0);
}

/// A hop that runs again registers its children again, whatever they have done since.
pub async fn a_child_that_moved_on_is_still_the_same(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, child("e-1", "e")).await;
    let said = Progress {
        phase: Some(Phase::Completed),
        actors: ["one", "two", "elsewhere", "four"].map(String::from).to_vec(),
        actor_index: 1,
        exact: true,
        message: None,
    };
    change(&*store, report("e-1", ReportEvent::Progress(said))).await;
    change(&*store, success("e-1", "1")).await;
    let again = store.create(child("e-1", "e"), LONG).await.unwrap();
    let Created::Existing(record) = again else {
        panic!("{again:?}");
    };
    assert_eq!(record.status, Status::Succeeded);
}

/// Tenant and deadline are the parent's.
pub async fn a_child_takes_after_its_parent(harness: &dyn Harness) {
    let store = harness.store();
    let parent = NewEnvelope {
        tenant: Some("acme".into()),
        ..call("e")
    };
    create(&*store, parent).await;
    let forged = NewEnvelope {
        tenant: Some("other".into()),
        ..child("e-1", "e")
    };
    create(&*store, forged).await;
    let record = get(&*store, "e-1").await;
    assert_eq!(
        (record.tenant.as_deref(), record.deadline),
        (Some("acme"), Some(at(300)))
    );
    let own = NewEnvelope {
        deadline: Some(at(7)),
        ..child("e-2", "e")
    };
    assert_eq!(create(&*store, own).await.deadline, Some(at(7)));
}

/// Children that come with their parent, or before it, take after it all the same; so do theirs.
pub async fn a_parent_may_come_last(harness: &dyn Harness) {
    let (store, replica) = (harness.store(), harness.replica().await);
    let parent = NewEnvelope {
        tenant: Some("acme".into()),
        deadline: Some(at(300)),
        ..child("e", "nobody")
    };
    create(&*store, child("e-1-1", "e-1")).await;
    create(&*store, child("e-1", "e")).await;
    create(&*store, child("e-2", "e")).await;
    change(&*store, success("e-2", "1")).await;
    let together =
        ["e-3", "e-3-1", "e-4", "e-5"].map(|id| child(id, if id == "e-3-1" { "e-3" } else { "e" }));
    let parent = std::iter::once(parent);
    let calls = together[..2]
        .iter()
        .cloned()
        .chain(parent)
        .chain(together[2..].iter().cloned());
    let calls = calls.enumerate().map(|(number, new)| {
        let store = if number % 2 == 0 { &store } else { &replica };
        store.create(new, LONG)
    });
    for answer in join_all(calls).await {
        assert!(matches!(answer.unwrap(), Created::New(_)));
    }
    for id in ["e-1", "e-1-1", "e-2", "e-3", "e-3-1", "e-4", "e-5"] {
        let record = get(&*store, id).await;
        assert_eq!(record.tenant.as_deref(), Some("acme"), "{id}");
        let deadline = (!record.status.is_final()).then_some(at(300));
        assert_eq!(record.deadline, deadline, "{id}");
        if !record.status.is_final() {
            change(&*replica, success(id, "1")).await;
        }
    }
}

/// Children may come first, or of envelopes that nobody registered; an empty parent is none.
pub async fn an_unknown_parent_is_no_obstacle(harness: &dyn Harness) {
    let store = harness.store();
    let orphan = NewEnvelope {
        tenant: Some("acme".into()),
        ..child("e-1", "nobody")
    };
    create(&*store, orphan).await;
    let record = get(&*store, "e-1").await;
    assert_eq!((record.tenant.as_deref(), record.deadline), (Some("acme"), None));
    create(&*store, child("e-2", "")).await;
    assert_eq!(get(&*store, "e-2").await.parent_id, None);
    let again = store.create(child("e-2", ""), LONG).await.unwrap();
    assert!(matches!(again, Created::Existing(_)), "{again:?}");
}

/// The same key and request finds the first envelope, the same key for another request is told, and tenants do not see
/// each other's keys.
pub async fn an_idempotency_key_is_for_one_request_of_one_tenant(harness: &dyn Harness) {
    let store = harness.store();
    for tenant in [None, Some("acme".to_owned()), Some("other".to_owned())] {
        let name = |id: &str| format!("{id} of {tenant:?}");
        let of = |new: NewEnvelope| NewEnvelope {
            tenant: tenant.clone(),
            ..new
        };
        create(&*store, of(keyed(&name("first"), "key", 1))).await;
        let same = store
            .create(of(keyed(&name("second"), "key", 1)), LONG)
            .await
            .unwrap();
        assert!(
            matches!(&same, Created::Existing(record) if record.id == name("first")),
            "{same:?}"
        );
        let other = store
            .create(of(keyed(&name("third"), "key", 2)), LONG)
            .await
            .unwrap();
        assert!(
            matches!(&other, Created::Conflict(record) if record.id == name("first")),
            "{other:?}"
        );
        for id in ["second", "third"] {
            assert!(store.get(&name(id), View::Full).await.unwrap().is_none());
        }
        create(&*store, of(keyed(&name("fourth"), "Key", 2))).await;
    }
}

/// Sixteen callers with one key: one envelope, one message.
pub async fn one_key_makes_one_envelope_in_a_crowd(harness: &dyn Harness) {
    let (store, replica) = (harness.store(), harness.replica().await);
    let calls = (0..16).map(|caller| {
        let store = if caller % 2 == 0 { &store } else { &replica };
        store.create(keyed(&format!("e{caller}"), "key", 1), LONG)
    });
    let answers = join_all(calls).await;
    let mut made = 0;
    let mut ids = HashSet::new();
    for answer in answers {
        match answer.unwrap() {
            Created::New(record) => {
                made += 1;
                ids.insert(record.id);
            }
            Created::Existing(record) => {
                ids.insert(record.id);
            }
            Created::Conflict(record) => panic!("{record:?}"),
        }
    }
    assert_eq!((made, ids.len()), (1, 1));
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 1);
    let page = Page {
        size: 100,
        after: None,
        view: View::Basic,
    };
    let listed = store.list(&Filter::default(), page).await.unwrap();
    assert_eq!(listed.records.len(), 1);
}

/// Ids are compared byte by byte.
pub async fn odd_ids_are_ids(harness: &dyn Harness) {
    let store = harness.store();
    let long = "é".repeat(512);
    let ids = [
        "a",
        "A",
        " a",
        "a ",
        "%",
        "_",
        "'; drop table envelopes; --",
        "\"\\\n\t",
        "..",
        "{}",
        "null",
        "0",
        "00",
        "é",
        "e\u{301}",
        "🦀",
        "\u{1}\u{7f}\u{fffd}",
        &long,
    ];
    for id in ids {
        create(&*store, call(id)).await;
    }
    for id in ids {
        assert_eq!(get(&*store, id).await.id, id);
        change(&*store, progress(id, 0, Phase::Received)).await;
        change(&*store, success(id, "1")).await;
        let history = updates(&*store, id).await;
        assert!(history.iter().all(|update| &*update.envelope_id == id));
        assert_eq!(history.len(), 2, "{id:?}");
    }
}

/// What no text column can hold is refused, and asking for it finds nothing.
pub async fn what_cannot_be_stored_is_refused(harness: &dyn Harness) {
    let store = harness.store();
    for id in ["", "a\0b", &"x".repeat(1025)] {
        store.create(call(id), LONG).await.unwrap_err();
        assert!(store.get(id, View::Full).await.unwrap().is_none());
        assert!(store.updates(id, 0, 10).await.unwrap().is_empty());
        assert_eq!(store.children(id).await.unwrap().total(), 0);
        assert!(store.unfinished_below(id, 10).await.unwrap().is_empty());
        let answers = store.apply(vec![success(id, "1")]).await.unwrap();
        assert!(matches!(answers[..], [crate::Applied::Unknown]));
    }
    let routed = NewEnvelope {
        actors: vec!["a\0".into()],
        ..call("e")
    };
    store.create(routed, LONG).await.unwrap_err();
    let below = NewEnvelope {
        parent_id: Some("p".repeat(1025)),
        ..call("e")
    };
    store.create(below, LONG).await.unwrap_err();
    let filter = Filter {
        actor: Some("a\0".into()),
        ..Filter::default()
    };
    let page = Page {
        size: 1,
        after: None,
        view: View::Full,
    };
    assert!(store.list(&filter, page).await.unwrap().records.is_empty());
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 0);
}

/// A caller that goes away takes nothing along.
pub async fn a_dropped_call_is_done_all_the_same(harness: &dyn Harness) {
    let store = harness.store();
    let new = NewEnvelope {
        payload: Some(raw("17")),
        ..call("e")
    };
    let _gone = store.create(new, Duration::ZERO).now_or_never();
    eventually("the envelope is there", async || {
        store.get("e", View::Full).await.unwrap()
    })
    .await;
    let _gone = store.apply(vec![success("e", "18")]).now_or_never();
    eventually("the envelope is final", async || {
        let record = get(&*store, "e").await;
        record.status.is_final().then_some(())
    })
    .await;
}
