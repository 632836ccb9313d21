//! The history of one envelope and of all, and the hints that there is something new.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::Utc;
use tokio::sync::broadcast;
use tokio::task::JoinSet;

use super::{
    Harness, PATIENCE, call, cancelled, change, create, keeping, progress, report, success, updates,
};
use crate::{Changed, FeedCursor, FeedEntry, Phase, ReportEvent, Store};

/// Nothing twice, nothing left out, whatever was seen before.
pub async fn updates_resume_after_an_id(harness: &dyn Harness) {
    let store = harness.store();
    for id in ["e", "f"] {
        create(&*store, call(id)).await;
    }
    for index in 0..3 {
        for id in ["e", "f"] {
            change(&*store, progress(id, index, Phase::Received)).await;
        }
    }
    change(&*store, success("e", "1")).await;
    let whole = store.updates("e", 0, 100).await.unwrap();
    assert_eq!(whole.len(), 4);
    assert!(whole.iter().all(|update| &*update.envelope_id == "e"));
    for seen in 0..whole.len() {
        let rest = store.updates("e", whole[seen].id, 100).await.unwrap();
        assert_eq!(rest, whole[seen + 1..]);
        let next = store.updates("e", whole[seen].id, 1).await.unwrap();
        assert_eq!(
            next,
            whole[seen + 1..].iter().take(1).cloned().collect::<Vec<_>>()
        );
    }
    assert!(store.updates("e", i64::MAX, 100).await.unwrap().is_empty());
    assert_eq!(store.updates("e", -5, 100).await.unwrap(), whole);
    assert!(store.updates("nobody", 0, 100).await.unwrap().is_empty());
}

/// Goes on from `after` until there is nothing more.
async fn follow(store: &dyn Store, mut after: FeedCursor, limit: u32) -> Vec<FeedEntry> {
    let mut all = Vec::new();
    loop {
        let page = store.feed(after, limit).await.unwrap();
        assert!(page.len() <= usize::try_from(limit).unwrap());
        let Some(last) = page.last() else {
            return all;
        };
        after = last.cursor;
        all.extend(page);
    }
}

/// The whole, from the beginning and from any cursor in it.
pub async fn the_feed_is_the_history_of_all(harness: &dyn Harness) {
    let store = harness.store();
    let (start, oldest) = store.feed_bounds().await.unwrap();
    assert!(oldest <= start);
    assert!(store.feed(start, 10).await.unwrap().is_empty());
    for id in ["e", "f"] {
        create(&*store, call(id)).await;
    }
    let mut made = Vec::new();
    for index in 0..3 {
        for id in ["e", "f"] {
            let (_, update) = change(&*store, progress(id, index, Phase::Received)).await;
            made.push(update);
        }
    }
    let feed = super::eventually("all are in the feed", async || {
        let feed = follow(&*store, start, 2).await;
        (feed.len() == made.len()).then_some(feed)
    })
    .await;
    let told: Vec<_> = feed.iter().map(|entry| Arc::clone(&entry.update)).collect();
    assert_eq!(told, made);
    assert!(feed.is_sorted_by_key(|entry| entry.cursor));
    for (place, entry) in feed.iter().enumerate() {
        assert_eq!(follow(&*store, entry.cursor, 2).await, feed[place + 1..]);
    }
    let (end, oldest) = store.feed_bounds().await.unwrap();
    assert!(end >= feed[5].cursor && oldest <= start, "{end:?} {oldest:?}");
    assert!(store.feed(end, 10).await.unwrap().is_empty());
    assert_eq!(follow(&*harness.replica().await, start, 4).await, feed);
}

/// Eight writers and one reader that follows: it sees every update once, those of an envelope in their order.
pub async fn the_feed_has_no_gaps_while_many_write(harness: &dyn Harness) {
    const WRITERS: usize = 8;
    const EACH: i64 = 60;
    let replicas = [harness.store(), harness.replica().await];
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let id = format!("e{writer}");
        create(&*replicas[0], call(&id)).await;
        let store = Arc::clone(&replicas[writer % 2]);
        writers.spawn(async move {
            for turn in 0..EACH {
                let mut said = progress(&id, 0, Phase::Processing);
                if let ReportEvent::Progress(progress) = &mut said.event {
                    progress.message = Some(turn.to_string());
                }
                change(&*store, said).await;
            }
        });
    }
    let all = WRITERS * usize::try_from(EACH).unwrap();
    let mut seen: HashMap<String, Vec<i64>> = HashMap::new();
    let (mut after, mut count) = (FeedCursor::default(), 0);
    super::eventually("the reader has seen all", async || {
        for entry in replicas[0].feed(after, 7).await.unwrap() {
            assert!(entry.cursor > after, "the feed went back");
            after = entry.cursor;
            count += 1;
            let of = seen.entry(entry.update.envelope_id.to_string()).or_default();
            of.push(entry.update.id);
        }
        (drained(&mut writers) && count >= all).then_some(())
    })
    .await;
    assert!(replicas[0].feed(after, 7).await.unwrap().is_empty());
    for (id, seen) in seen {
        let stored: Vec<_> = updates(&*replicas[0], &id)
            .await
            .iter()
            .map(|update| update.id)
            .collect();
        assert_eq!(seen, stored, "{id}");
    }
}

/// Whether all writers are done; one that failed fails the case.
fn drained(writers: &mut JoinSet<()>) -> bool {
    while let Some(done) = writers.try_join_next() {
        done.unwrap();
    }
    writers.is_empty()
}

/// Waits for a hint.
async fn hear(hints: &mut broadcast::Receiver<Changed>, mut wanted: impl FnMut(&Changed) -> bool) {
    let listen = async {
        loop {
            match hints.recv().await {
                Ok(hint) if wanted(&hint) => return,
                // A listener that fell behind must assume anything.
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => panic!("the store is silent"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, listen).await.unwrap();
}

/// Whoever listens hears of every change of its own replica.
pub async fn changes_are_told(harness: &dyn Harness) {
    let store = harness.store();
    let mut hints = store.subscribe();
    create(&*store, call("e")).await;
    let (_, update) = change(&*store, progress("e", 0, Phase::Received)).await;
    hear(
        &mut hints,
        |hint| matches!(hint, Changed::Envelope { id, update: told } if **id == *"e" && *told >= update.id),
    )
    .await;
    change(&*store, cancelled("e", "")).await;
    hear(&mut hints, |hint| *hint == Changed::Cancellation).await;
    store
        .put_actors(vec![keeping::actor("a", Utc::now())])
        .await
        .unwrap();
    hear(&mut hints, |hint| *hint == Changed::Actors).await;
}

/// And of the changes of others, at least that there are some.
pub async fn replicas_hear_of_changes(harness: &dyn Harness) {
    let (store, replica) = (harness.store(), harness.replica().await);
    create(&*store, call("e")).await;
    let mut hints = replica.subscribe();
    change(&*store, report("e", ReportEvent::Published)).await;
    hear(&mut hints, |hint| match hint {
        Changed::Envelope { id, .. } => **id == *"e",
        hint => *hint == Changed::Everything,
    })
    .await;
    assert_eq!(updates(&*replica, "e").await.len(), 1);
}
