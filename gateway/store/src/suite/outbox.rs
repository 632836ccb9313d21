//! Messages that must reach the broker: never lost, claimed by one at a time, gone when they are settled.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;

use super::{
    Harness, LONG, at, call, cancelled, change, create, eventually, get, now, progress, success, updates,
};
use crate::{
    Applied, Kind, NewEnvelope, OutboxEntry, OutboxMessage, OutboxOutcome, Outcome, Phase, Status, Store,
};

async fn claim(store: &dyn Store, lease: Duration) -> Vec<OutboxEntry> {
    store.claim_outbox(100, lease).await.unwrap()
}

async fn settle(store: &dyn Store, entry: OutboxEntry, outcome: OutboxOutcome) -> Vec<Applied> {
    store.settle_outbox(vec![(entry, outcome)]).await.unwrap()
}

/// An envelope whose message anybody may claim.
async fn abandoned(store: &dyn Store, id: &str) {
    store.create(call(id), Duration::ZERO).await.unwrap();
}

/// Who creates publishes first; others wait until its lease is over.
pub async fn what_is_created_waits_for_its_creator(harness: &dyn Harness) {
    let (store, replica) = (harness.store(), harness.replica().await);
    create(&*store, call("e")).await;
    assert!(claim(&*store, LONG).await.is_empty());
    assert!(claim(&*replica, LONG).await.is_empty());
    abandoned(&*store, "f").await;
    let entries = claim(&*replica, LONG).await;
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(
        (entry.envelope_id.as_str(), entry.attempt, entry.tries),
        ("f", 1, 0)
    );
    assert_eq!(Some(&entry.message), call("f").outbox.as_ref());
    assert_eq!(entry.deadline, Some(at(300)));
    assert!(entry.created_at <= now());
}

/// A claimer that crashed loses nothing.
pub async fn a_lease_that_ran_out_is_anybodys(harness: &dyn Harness) {
    let (store, replica) = (harness.store(), harness.replica().await);
    let short = Duration::from_millis(200);
    store.create(call("e"), short).await.unwrap();
    for store in [&store, &replica] {
        let entries = eventually("the lease is over", async || {
            let entries = claim(&**store, short).await;
            (!entries.is_empty()).then_some(entries)
        })
        .await;
        assert_eq!(entries[0].message.message_id, "e/0/1/0");
    }
}

/// Many claimers, each message once.
pub async fn no_message_is_claimed_twice(harness: &dyn Harness) {
    let (store, replica) = (harness.store(), harness.replica().await);
    for number in 0..40 {
        abandoned(&*store, &format!("e{number}")).await;
    }
    let claims = (0..16).map(|claimer| {
        let store = if claimer % 2 == 0 { &store } else { &replica };
        store.claim_outbox(5, LONG)
    });
    let mut claimed = HashSet::new();
    for entries in join_all(claims).await {
        let entries = entries.unwrap();
        assert!(entries.len() <= 5);
        for entry in entries {
            assert!(claimed.insert(entry.envelope_id), "claimed twice");
        }
    }
    // A claimer that found all candidates taken may have left some to the next one.
    for entry in claim(&*store, LONG).await {
        assert!(claimed.insert(entry.envelope_id), "claimed twice");
    }
    assert_eq!(claimed.len(), 40);
}

/// Its envelope runs from then on, and a repeat changes nothing.
pub async fn a_confirmed_message_leaves(harness: &dyn Harness) {
    let store = harness.store();
    abandoned(&*store, "e").await;
    let entry = claim(&*store, Duration::ZERO).await.remove(0);
    let answers = settle(&*store, entry.clone(), OutboxOutcome::Published).await;
    let [Applied::Changed { record, update }] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!((record.status, update.kind), (Status::Running, Kind::Sent));
    assert_eq!(updates(&*store, "e").await, [(**update).clone()]);
    assert!(claim(&*store, Duration::ZERO).await.is_empty());
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 0);
    let again = settle(&*store, entry, OutboxOutcome::Published).await;
    assert!(matches!(again[..], [Applied::Nothing { .. }]), "{again:?}");
}

/// What can never be published is told.
pub async fn a_refused_message_fails_its_envelope(harness: &dyn Harness) {
    let store = harness.store();
    for id in ["e", "f"] {
        abandoned(&*store, id).await;
    }
    change(&*store, progress("f", 0, Phase::Received)).await;
    let error = "there is no queue".to_owned();
    let entries = claim(&*store, LONG).await;
    let settled = entries
        .into_iter()
        .map(|entry| (entry, OutboxOutcome::Failed { error: error.clone() }));
    let answers = store.settle_outbox(settled.collect()).await.unwrap();
    assert_eq!(answers.len(), 2);
    let record = get(&*store, "e").await;
    assert_eq!(
        (record.status, record.outcome),
        (Status::Failed, Some(Outcome::Failed))
    );
    assert_eq!(
        record.error.as_deref(),
        Some("failed to send envelope: there is no queue")
    );
    // Somebody works on it: it has been published all the same.
    assert_eq!(get(&*store, "f").await.status, Status::Running);
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 0);
}

/// A pause before the next try, counted.
pub async fn a_postponed_message_comes_later(harness: &dyn Harness) {
    let store = harness.store();
    abandoned(&*store, "e").await;
    let later = |after| OutboxOutcome::Later {
        after,
        error: "the broker is away".to_owned(),
    };
    let mut entry = claim(&*store, LONG).await.remove(0);
    for tries in 1..3 {
        let answers = settle(&*store, entry, later(Duration::ZERO)).await;
        assert!(matches!(answers[..], [Applied::Nothing { .. }]), "{answers:?}");
        entry = claim(&*store, LONG).await.remove(0);
        assert_eq!(entry.tries, tries);
        assert_eq!(Some(&entry.message), call("e").outbox.as_ref());
    }
    settle(&*store, entry, later(LONG)).await;
    assert!(claim(&*store, LONG).await.is_empty());
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 1);
    assert_eq!(get(&*store, "e").await.status, Status::Pending);
    assert!(updates(&*store, "e").await.is_empty());
}

/// A cancelled or expired envelope leaves the outbox; a publish that was under way settles without harm.
pub async fn what_is_final_is_not_published(harness: &dyn Harness) {
    let store = harness.store();
    for id in ["e", "f"] {
        abandoned(&*store, id).await;
    }
    let entries = store.claim_outbox(1, LONG).await.unwrap();
    for id in ["e", "f"] {
        change(&*store, cancelled(id, "")).await;
    }
    assert!(claim(&*store, LONG).await.is_empty());
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 0);
    let error = "away".to_owned();
    let after = Duration::ZERO;
    for outcome in [OutboxOutcome::Later { after, error }, OutboxOutcome::Published] {
        let answers = settle(&*store, entries[0].clone(), outcome).await;
        assert!(
            matches!(&answers[..], [Applied::Nothing { record }] if record.outcome == Some(Outcome::Cancelled)),
            "{answers:?}"
        );
    }
    assert!(claim(&*store, LONG).await.is_empty());
}

/// How much waits, leased or not, and since when.
pub async fn depth_counts_what_waits(harness: &dyn Harness) {
    let store = harness.store();
    let empty = store.outbox_depth().await.unwrap();
    assert_eq!((empty.waiting, empty.oldest), (0, None));
    let before = now();
    create(&*store, call("e")).await;
    abandoned(&*store, "f").await;
    let depth = store.outbox_depth().await.unwrap();
    assert_eq!(depth.waiting, 2);
    let oldest = depth.oldest.unwrap();
    // The clock of the database may be another one, but not by much.
    assert!(
        (oldest - before).abs() < chrono::TimeDelta::seconds(60),
        "{oldest}"
    );
    change(&*store, success("e", "1")).await;
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 1);
}

/// Oldest first, at most as many as asked for.
pub async fn the_oldest_comes_first(harness: &dyn Harness) {
    let store = harness.store();
    for number in 0..9 {
        abandoned(&*store, &format!("e{number}")).await;
    }
    let mut claimed = Vec::new();
    for limit in [1, 3, 100] {
        let entries = store.claim_outbox(limit, LONG).await.unwrap();
        assert!(entries.len() <= usize::try_from(limit).unwrap());
        claimed.extend(entries.into_iter().map(|entry| entry.envelope_id));
    }
    let expected: Vec<_> = (0..9).map(|number| format!("e{number}")).collect();
    assert_eq!(claimed, expected);
    // A message of many bytes is a message.
    let big = NewEnvelope {
        outbox: Some(OutboxMessage {
            actor: "one".into(),
            message_id: "m".into(),
            body: vec![0xFF; 1 << 20].into(),
        }),
        ..call("big")
    };
    store.create(big.clone(), Duration::ZERO).await.unwrap();
    assert_eq!(Some(&claim(&*store, LONG).await[0].message), big.outbox.as_ref());
}
