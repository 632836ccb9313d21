//! Many writers at once: no update is lost, and none comes after a final.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::{Chance, Harness, call, cancelled, create, get, progress, report, success, updates};
use crate::state::plan::basic;
use crate::{Applied, Phase, Report, ReportEvent, Store, Update};

const WRITERS: u64 = 16;
/// Of each writer.
const REPORTS: usize = 1000;
const ENVELOPES: usize = 20;

/// Sixteen writers, a thousand reports each, in no order, in batches of any size: what was answered as changed is what
/// is in the history, step by step.
pub async fn many_writers_lose_nothing(harness: &dyn Harness) {
    let store = harness.store();
    crowd(&[store]).await;
}

/// The same over two replicas.
pub async fn writers_on_two_replicas_lose_nothing(harness: &dyn Harness) {
    let replicas = [harness.store(), harness.replica().await];
    crowd(&replicas).await;
}

async fn crowd(replicas: &[Arc<dyn Store>]) {
    for envelope in 0..ENVELOPES {
        create(&*replicas[0], call(&name(envelope))).await;
    }
    let mut writers = JoinSet::new();
    for (writer, store) in (0..WRITERS).zip(replicas.iter().cycle()) {
        writers.spawn(write(Arc::clone(store), writer));
    }
    // The updates that were answered, by envelope.
    let mut answered: HashMap<String, BTreeMap<i64, Arc<Update>>> = HashMap::new();
    while let Some(written) = writers.join_next().await {
        for update in written.unwrap() {
            let of = answered.entry(update.envelope_id.to_string()).or_default();
            assert!(of.insert(update.id, update).is_none(), "an id came twice");
        }
    }
    let changes: usize = answered.values().map(BTreeMap::len).sum();
    assert!(
        changes > 20 * ENVELOPES,
        "too few changes to prove anything: {changes}"
    );
    for envelope in 0..ENVELOPES {
        let id = name(envelope);
        let answered = answered.remove(&id).unwrap_or_default();
        let stored = updates(&*replicas[0], &id).await;
        assert_eq!(
            stored,
            answered
                .values()
                .map(|update| (**update).clone())
                .collect::<Vec<_>>()
        );
        let record = get(&*replicas[0], &id).await;
        assert_eq!(record.version, 1 + i64::try_from(stored.len()).unwrap());
        assert!(record.status.is_final());
        let finals = stored.iter().filter(|update| update.is_final()).count();
        assert_eq!(finals, 1, "{id}");
        assert!(stored.last().is_some_and(Update::is_final), "{id}");
        let percents: Vec<_> = stored
            .iter()
            .filter_map(|update| update.progress_percent)
            .collect();
        assert!(percents.is_sorted(), "progress of {id} fell: {percents:?}");
    }
}

fn name(envelope: usize) -> String {
    format!("e{envelope}")
}

/// With a message of its own, so that it is never a repeat.
fn told_once(mut report: Report, writer: u64, turn: usize) -> Report {
    if let ReportEvent::Progress(said) = &mut report.event {
        said.message = Some(format!("{writer} said {turn}"));
    }
    report
}

/// Every writer tells the whole story of every envelope, out of order and with garbage in between.
fn story(writer: u64) -> Vec<Report> {
    let mut chance = Chance(writer);
    let phases = [Phase::Received, Phase::Processing, Phase::Completed];
    let mut reports: Vec<_> = (0..REPORTS)
        .map(|turn| {
            let id = name(chance.below(ENVELOPES));
            let index = i64::try_from(chance.below(5)).unwrap() - 1;
            match turn % 50 {
                0 => report(&id, ReportEvent::Published),
                1 => success("nobody", "1"),
                _ => told_once(progress(&id, index, phases[chance.below(3)]), writer, turn),
            }
        })
        .collect();
    chance.shuffle(&mut reports);
    // The ends come late, so that there is something to end.
    let ends = (0..ENVELOPES).map(|envelope| {
        let id = name(envelope);
        match chance.below(3) {
            0 => success(&id, &writer.to_string()),
            1 => report(&id, ReportEvent::TimedOut),
            _ => cancelled(&id, &writer.to_string()),
        }
    });
    let ends: Vec<_> = ends.collect();
    for end in ends {
        let place = reports.len() * 9 / 10 + chance.below(reports.len() / 10);
        reports.insert(place, end);
    }
    reports
}

async fn write(store: Arc<dyn Store>, writer: u64) -> Vec<Arc<Update>> {
    let mut chance = Chance(!writer);
    let mut left = story(writer).into_iter().peekable();
    let mut updates = Vec::new();
    while left.peek().is_some() {
        let batch: Vec<_> = left.by_ref().take(1 + chance.below(16)).collect();
        for answer in store.apply(batch).await.unwrap() {
            if let Applied::Changed { update, .. } = answer {
                updates.push(update);
            }
        }
    }
    updates
}

/// Sixteen ends at the same time: one of them is the end, and all are told the same.
pub async fn one_final_wins_in_a_crowd(harness: &dyn Harness) {
    let replicas = [harness.store(), harness.replica().await];
    create(&*replicas[0], call("e")).await;
    let mut writers = JoinSet::new();
    for (writer, store) in (0..WRITERS).zip(replicas.iter().cycle()) {
        let store = Arc::clone(store);
        let last = success("e", &writer.to_string());
        writers.spawn(async move { store.apply(vec![last]).await.unwrap().remove(0) });
    }
    let answers = writers.join_all().await;
    let read = basic(get(&*replicas[0], "e").await);
    let mut winners = 0;
    for answer in answers {
        match answer {
            Applied::Changed { record, .. } => {
                winners += 1;
                assert_eq!(*record, read);
            }
            Applied::Nothing { record } => assert_eq!(*record, read),
            Applied::Unknown => panic!("it is unknown"),
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(updates(&*replicas[0], "e").await.len(), 1);
}
