//! Time: what expires, what is kept, who cleans; and what operators say.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{
    Harness, after, at, call, cancelled, change, child, create, eventually, get, now, progress, success,
    updates,
};
use crate::{ActorRow, NewEnvelope, Phase, Retention, Unfinished, View};

const DAY: Duration = Duration::from_hours(24);
const DAY_SECONDS: i64 = 24 * 3600;

/// Deadlines that have passed, of what is not final.
pub async fn what_has_expired_is_found(harness: &dyn Harness) {
    let store = harness.store();
    for (id, deadline) in [("soon", 10), ("sooner", 5), ("late", 100), ("done", 5)] {
        let new = NewEnvelope {
            deadline: Some(at(deadline)),
            ..call(id)
        };
        create(&*store, new).await;
    }
    create(&*store, child("never", "nobody")).await;
    change(&*store, progress("soon", 0, Phase::Received)).await;
    change(&*store, success("done", "1")).await;
    assert!(store.expired(at(0)..at(5), 10).await.unwrap().is_empty());
    for (passed, limit, found) in [
        (at(0)..at(6), 10, &["sooner"][..]),
        (at(0)..at(50), 10, &["sooner", "soon"]),
        (at(5)..at(50), 10, &["sooner", "soon"]),
        (at(6)..at(50), 10, &["soon"]),
        (at(0)..at(50), 1, &["sooner"]),
    ] {
        assert_eq!(
            ids(&store.expired(passed.clone(), limit).await.unwrap()),
            found,
            "{passed:?}"
        );
    }
    let ever = DateTime::UNIX_EPOCH..at(1000);
    let all = harness.replica().await.expired(ever, 10).await.unwrap();
    assert_eq!(ids(&all), ["sooner", "soon", "late"]);
    assert!(all.iter().all(|one| one.attempt == 1));
}

fn ids(found: &[Unfinished]) -> Vec<&str> {
    found.iter().map(|one| one.id.as_str()).collect()
}

/// A cancellation is for all that is below, whether or not the envelope itself had ended before.
pub async fn a_cancellation_is_found_from_below(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    create(&*store, call("other")).await;
    for (id, parent) in [
        ("e-1", "e"),
        ("e-1-1", "e-1"),
        ("other-1", "other"),
        ("a", "b"),
        ("b", "a"),
    ] {
        create(&*store, child(id, parent)).await;
    }
    for id in ["e", "e-1"] {
        change(&*store, success(id, "1")).await;
    }
    for id in ["e", "e-1", "e-1-1", "nobody", "a\0", "a"] {
        assert_eq!(store.cancelled_above(id).await.unwrap(), None, "{id}");
    }
    store.apply(vec![cancelled("e", "no money")]).await.unwrap();
    let replica = harness.replica().await;
    for id in ["e", "e-1", "e-1-1"] {
        let reason = replica.cancelled_above(id).await.unwrap();
        assert_eq!(reason.as_deref(), Some("no money"), "{id}");
    }
    for id in ["other-1", "a"] {
        assert_eq!(replica.cancelled_above(id).await.unwrap(), None, "{id}");
    }
    let other_attempt = crate::Report {
        attempt: 2,
        ..cancelled("other", "")
    };
    store.apply(vec![other_attempt]).await.unwrap();
    assert_eq!(store.cancelled_above("other").await.unwrap(), None);
}

/// Sidecars are told as long as a message may still be about.
pub async fn cancellations_are_kept_until_the_deadline(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    create(&*store, child("f", "nobody")).await;
    create(&*store, call("g")).await;
    change(&*store, success("g", "1")).await;
    let before = now();
    for id in ["e", "f", "g"] {
        store.apply(vec![cancelled(id, "no money")]).await.unwrap();
    }
    let mut notices = harness.replica().await.cancellations(at(299)).await.unwrap();
    // The one without a deadline is kept by today's clock.
    notices.extend(store.cancellations(before).await.unwrap());
    let of = |id: &str| notices.iter().find(|notice| notice.envelope_id == id);
    let notice = of("e").unwrap();
    assert_eq!((notice.attempt, notice.keep_until), (1, at(300)));
    assert_eq!(notice.reason, "no money");
    let kept = of("f").unwrap().keep_until - before;
    assert!(
        (kept - chrono::TimeDelta::days(1)).abs() < chrono::TimeDelta::seconds(60),
        "{kept}"
    );
    assert!(of("g").is_some(), "for the children of what is ready");
    let later = store.cancellations(at(301)).await.unwrap();
    assert!(later.iter().all(|notice| notice.envelope_id != "e"), "{later:?}");
}

fn keep(updates: Option<Duration>, envelopes: Option<Duration>) -> Retention {
    Retention { updates, envelopes }
}

/// The history goes a day after the end, the envelope stays.
pub async fn history_is_cleaned_after_its_time(harness: &dyn Harness) {
    let store = harness.store();
    for id in ["done", "working"] {
        create(&*store, call(id)).await;
        change(&*store, progress(id, 0, Phase::Received)).await;
    }
    let (record, _) = change(&*store, success("done", "1")).await;
    let ended = record.updated_at;
    let retention = keep(Some(DAY), None);
    let cleaned = store
        .clean(retention, after(ended, DAY_SECONDS - 60))
        .await
        .unwrap();
    assert_eq!((cleaned.updates, cleaned.envelopes), (0, 0));
    let (end, before) = store.feed_bounds().await.unwrap();
    let cleaned = store
        .clean(retention, after(ended, DAY_SECONDS + 60))
        .await
        .unwrap();
    assert_eq!((cleaned.updates, cleaned.envelopes), (2, 0));
    assert!(updates(&*store, "done").await.is_empty());
    assert_eq!(updates(&*store, "working").await.len(), 1);
    assert_eq!(crate::state::plan::basic(get(&*store, "done").await), record);
    let (same_end, oldest) = store.feed_bounds().await.unwrap();
    assert!(same_end >= end);
    assert!(oldest > before, "the feed is complete from where it was before");
    let again = store
        .clean(retention, after(ended, DAY_SECONDS + 60))
        .await
        .unwrap();
    assert_eq!((again.updates, again.envelopes), (0, 0));
    // What comes after a clean is in the feed.
    let (_, update) = change(&*store, progress("working", 1, Phase::Received)).await;
    let feed = eventually("the update is in the feed", async || {
        let feed = store.feed(same_end, 10).await.unwrap();
        (!feed.is_empty()).then_some(feed)
    })
    .await;
    assert_eq!(feed.last().map(|entry| entry.update.id), Some(update.id));
}

/// With everything that hangs on them; their ids and keys may be used again.
pub async fn envelopes_are_cleaned_after_their_time(harness: &dyn Harness) {
    let store = harness.store();
    let new = NewEnvelope {
        idempotency: Some(crate::Idempotency {
            key: "key".into(),
            fingerprint: [1; 32],
        }),
        ..call("e")
    };
    create(&*store, new.clone()).await;
    let (record, _) = change(&*store, cancelled("e", "")).await;
    let retention = keep(Some(DAY), Some(2 * DAY));
    let late = after(record.updated_at, 2 * DAY_SECONDS + 60);
    let cleaned = store.clean(retention, late).await.unwrap();
    assert_eq!((cleaned.updates, cleaned.envelopes), (1, 1));
    assert!(store.get("e", View::Full).await.unwrap().is_none());
    assert!(updates(&*store, "e").await.is_empty());
    create(&*store, new).await;
    assert_eq!(get(&*store, "e").await.version, 1);
}

/// However old it is.
pub async fn what_is_not_final_is_never_cleaned(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("pending")).await;
    create(&*store, child("running", "pending")).await;
    change(&*store, progress("running", 0, Phase::Received)).await;
    create(&*store, call("done")).await;
    change(&*store, success("done", "1")).await;
    let century = after(now(), 100 * 366 * DAY_SECONDS);
    let cleaned = store.clean(keep(None, None), century).await.unwrap();
    assert_eq!((cleaned.updates, cleaned.envelopes), (0, 0));
    let zero = Some(Duration::ZERO);
    let cleaned = store.clean(keep(zero, zero), century).await.unwrap();
    assert_eq!((cleaned.updates, cleaned.envelopes), (1, 1));
    assert_eq!(updates(&*store, "running").await.len(), 1);
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 1);
}

/// One of all replicas; another one when it gives up.
pub async fn one_leads(harness: &dyn Harness) {
    let (store, replica) = (harness.store(), harness.replica().await);
    let lead = store.lead().await.unwrap().unwrap();
    assert!(lead.holds().await);
    assert!(store.lead().await.unwrap().is_none());
    assert!(replica.lead().await.unwrap().is_none());
    drop(lead);
    let lead = eventually("another one leads", async || replica.lead().await.unwrap()).await;
    assert!(lead.holds().await);
    assert!(store.lead().await.unwrap().is_none());
}

pub(super) fn actor(name: &str, observed_at: DateTime<Utc>) -> ActorRow {
    ActorRow {
        cluster: "c".to_owned(),
        namespace: "n".to_owned(),
        name: name.to_owned(),
        observed_at,
        body: Bytes::from(format!("{name}\0\u{fffd}").into_bytes()),
    }
}

/// The newest word counts, whenever it comes.
pub async fn actors_are_kept_by_time(harness: &dyn Harness) {
    let store = harness.store();
    let rows = vec![actor("b", at(5)), actor("a", at(5))];
    assert_eq!(store.put_actors(rows.clone()).await.unwrap().len(), 2);
    assert!(
        store
            .put_actors(vec![actor("a", at(4))])
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.put_actors(vec![rows[0].clone()]).await.unwrap().is_empty());
    let newer = ActorRow {
        body: Bytes::from_static(&[0, 255]),
        ..actor("a", at(6))
    };
    let changed = store
        .put_actors(vec![newer.clone(), actor("a", at(3))])
        .await
        .unwrap();
    assert_eq!(changed, std::slice::from_ref(&newer));
    let read = harness.replica().await.actors().await.unwrap();
    assert_eq!(read, [newer, actor("b", at(5))]);
    assert!(store.delete_actor("c", "n", "a").await.unwrap());
    assert!(!store.delete_actor("c", "n", "a").await.unwrap());
    assert!(!store.delete_actor("x", "n", "b").await.unwrap());
    assert_eq!(store.actors().await.unwrap(), [actor("b", at(5))]);
}

/// An operator that begins anew says which ones there are.
pub async fn actors_are_retained(harness: &dyn Harness) {
    let store = harness.store();
    let elsewhere = ActorRow {
        cluster: "d".to_owned(),
        ..actor("a", at(1))
    };
    let rows = vec![
        elsewhere.clone(),
        actor("c", at(1)),
        actor("a", at(1)),
        actor("b", at(1)),
    ];
    store.put_actors(rows).await.unwrap();
    let pair = |name: &str| ("n".to_owned(), name.to_owned());
    let mut gone = store
        .retain_actors("c", &[pair("b"), ("x".to_owned(), "a".to_owned())])
        .await
        .unwrap();
    gone.sort();
    assert_eq!(gone, [pair("a"), pair("c")]);
    assert_eq!(
        store.actors().await.unwrap(),
        [actor("b", at(1)), elsewhere.clone()]
    );
    assert_eq!(store.retain_actors("c", &[]).await.unwrap(), [pair("b")]);
    assert_eq!(store.actors().await.unwrap(), [elsewhere]);
}

/// A store says who it is, that it works, and closes without a fuss.
pub async fn it_answers(harness: &dyn Harness) {
    let store = harness.store();
    assert!(["sqlite", "postgres"].contains(&store.name()));
    store.ping().await.unwrap();
    create(&*store, call("e")).await;
    let replica = harness.replica().await;
    replica.close().await;
    replica.close().await;
    replica.ping().await.unwrap_err();
    store.ping().await.unwrap();
    get(&*store, "e").await;
}
