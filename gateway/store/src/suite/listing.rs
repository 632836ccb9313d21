//! Lists, filters, pages, children.

use std::collections::BTreeSet;

use super::{
    Harness, apply_one, at, call, cancelled, change, child, create, get, progress, raw, report, success,
};
use crate::{
    ChildCounts, Filter, Final, FinalFailure, NewEnvelope, Outcome, Page, Phase, Record, ReportEvent, Status,
    Store, Unfinished, View,
};

/// All pages of a list, `size` each.
async fn listed(store: &dyn Store, filter: &Filter, size: u32) -> Vec<Record> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = Page {
            size,
            after,
            view: View::Basic,
        };
        let page = store.list(filter, page).await.unwrap();
        assert!(page.records.len() <= usize::try_from(size).unwrap());
        all.extend(page.records);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

async fn ids(store: &dyn Store, filter: Filter) -> Vec<String> {
    let mut ids: Vec<_> = listed(store, &filter, 3)
        .await
        .into_iter()
        .map(|record| record.id)
        .collect();
    ids.sort();
    ids
}

/// Whatever the size of the pages: each envelope once, newest first, also those of the same instant.
pub async fn pages_are_the_whole_in_order(harness: &dyn Harness) {
    let store = harness.store();
    assert!(listed(&*store, &Filter::default(), 10).await.is_empty());
    for number in 0..23_i64 {
        let new = NewEnvelope {
            // Three of each instant.
            created_at: at((number * 7 % 23) / 3),
            ..call(&format!("e{number}"))
        };
        create(&*store, new).await;
    }
    let whole = listed(&*store, &Filter::default(), 1000).await;
    assert_eq!(whole.len(), 23);
    assert!(whole.is_sorted_by(|newer, older| newer.created_at >= older.created_at));
    for size in [1, 2, 7, 22, 23, 24] {
        assert_eq!(listed(&*store, &Filter::default(), size).await, whole, "{size}");
    }
    for record in &whole {
        assert_eq!(
            Some(record),
            store.get(&record.id, View::Basic).await.unwrap().as_ref()
        );
    }
}

/// One filter at a time.
pub async fn each_filter_filters(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("pending")).await;
    let of_acme = NewEnvelope {
        tenant: Some("acme".into()),
        tool: Some("other".into()),
        created_at: at(10),
        ..call("running")
    };
    create(&*store, of_acme).await;
    create(&*store, child("child", "running")).await;
    create(&*store, call("succeeded")).await;
    create(&*store, call("cancelled")).await;
    change(&*store, progress("running", 1, Phase::Received)).await;
    change(&*store, success("succeeded", "1")).await;
    change(&*store, cancelled("cancelled", "")).await;
    let statuses = |statuses: &[Status]| Filter {
        statuses: statuses.iter().copied().collect::<BTreeSet<_>>(),
        ..Filter::default()
    };
    let outcomes = |outcomes: &[Outcome]| Filter {
        outcomes: outcomes.to_vec(),
        ..Filter::default()
    };
    let actor = |actor: &str| Filter {
        actor: Some(actor.into()),
        ..Filter::default()
    };
    let tenant = |tenant: &str| Filter {
        tenant: Some(tenant.into()),
        ..Filter::default()
    };
    let tool = |tool: &str| Filter {
        tool: Some(tool.into()),
        ..Filter::default()
    };
    let from = Filter {
        created_from: Some(at(1)),
        ..Filter::default()
    };
    let before = Filter {
        created_before: Some(at(1)),
        ..Filter::default()
    };
    let parent = Filter {
        parent_id: Some("running".into()),
        ..Filter::default()
    };
    let cases: [(Filter, &[&str]); 14] = [
        (statuses(&[Status::Pending]), &["pending"]),
        (
            statuses(&[Status::Running, Status::Succeeded]),
            &["child", "running", "succeeded"],
        ),
        (statuses(&[Status::Unknown]), &[]),
        (outcomes(&[Outcome::Cancelled]), &["cancelled"]),
        (
            outcomes(&[Outcome::Cancelled, Outcome::Succeeded]),
            &["cancelled", "succeeded"],
        ),
        (outcomes(&[Outcome::Failed]), &[]),
        // Whose turn it is, whether or not that actor has said a word.
        (actor("one"), &["cancelled", "pending", "succeeded"]),
        (actor("two"), &["child", "running"]),
        (tenant("acme"), &["child", "running"]),
        (tenant("nobody"), &[]),
        (tool("other"), &["running"]),
        (from, &["child", "running"]),
        (before, &["cancelled", "pending", "succeeded"]),
        (parent, &["child"]),
    ];
    for (filter, expected) in cases {
        assert_eq!(ids(&*store, filter.clone()).await, expected, "{filter:?}");
    }
}

/// All that is set must match.
pub async fn filters_add_up(harness: &dyn Harness) {
    let store = harness.store();
    for (number, tenant) in (0..20_i64).zip(["acme", "other"].iter().cycle()) {
        let new = NewEnvelope {
            tenant: Some((*tenant).to_owned()),
            created_at: at(number),
            ..call(&format!("e{number:02}"))
        };
        create(&*store, new).await;
        if number % 3 == 0 {
            change(&*store, success(&format!("e{number:02}"), "1")).await;
        }
    }
    let filter = Filter {
        tenant: Some("acme".into()),
        statuses: [Status::Succeeded].into(),
        outcomes: vec![Outcome::Succeeded],
        actor: Some("one".into()),
        tool: Some("tool".into()),
        created_from: Some(at(6)),
        created_before: Some(at(18)),
        ..Filter::default()
    };
    assert_eq!(ids(&*store, filter.clone()).await, ["e06", "e12"]);
    let nothing = Filter {
        outcomes: vec![Outcome::Failed],
        ..filter
    };
    assert!(ids(&*store, nothing).await.is_empty());
}

/// How it ended is found by outcome, finer than by status.
pub async fn final_rows_match_by_outcome(harness: &dyn Harness) {
    let store = harness.store();
    let failed = ReportEvent::Final(Final::Failed(FinalFailure::default()));
    for (id, last) in [
        ("succeeded", success("succeeded", "1")),
        ("failed", report("failed", failed)),
        ("timed out", report("timed out", ReportEvent::TimedOut)),
        ("cancelled", cancelled("cancelled", "")),
    ] {
        create(&*store, call(id)).await;
        change(&*store, last).await;
    }
    for (outcome, id) in [
        (Outcome::Succeeded, "succeeded"),
        (Outcome::Failed, "failed"),
        (Outcome::TimedOut, "timed out"),
        (Outcome::Cancelled, "cancelled"),
    ] {
        let filter = Filter {
            outcomes: vec![outcome],
            ..Filter::default()
        };
        assert_eq!(ids(&*store, filter).await, [id]);
    }
    let failed = Filter {
        statuses: [Status::Failed].into(),
        ..Filter::default()
    };
    assert_eq!(ids(&*store, failed).await, ["cancelled", "failed", "timed out"]);
}

/// Children of children count, the envelope itself does not.
pub async fn children_are_counted_to_the_bottom(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    assert_eq!(store.children("e").await.unwrap(), ChildCounts::default());
    assert_eq!(store.children("nobody").await.unwrap().total(), 0);
    for number in 0..4 {
        create(&*store, child(&format!("e-{number}"), "e")).await;
    }
    create(&*store, child("e-1-1", "e-1")).await;
    create(&*store, child("e-1-1-1", "e-1-1")).await;
    let waiting = NewEnvelope {
        status: Status::Pending,
        ..child("e-1-1-2", "e-1-1")
    };
    create(&*store, waiting).await;
    create(&*store, child("f-1", "f")).await;
    change(&*store, success("e-0", "1")).await;
    change(&*store, cancelled("e-2", "")).await;
    change(&*store, success("e-1-1-1", "1")).await;
    let expected = ChildCounts {
        pending: 1,
        running: 3,
        succeeded: 2,
        failed: 1,
    };
    assert_eq!(store.children("e").await.unwrap(), expected);
    assert_eq!(store.children("e-1").await.unwrap().total(), 3);
    let direct = Filter {
        parent_id: Some("e".into()),
        ..Filter::default()
    };
    assert_eq!(ids(&*store, direct).await, ["e-0", "e-1", "e-2", "e-3"]);
}

/// Ids are said by others: parents may go round in a circle.
pub async fn circles_of_parents_end(harness: &dyn Harness) {
    let store = harness.store();
    for (id, parent) in [("a", "b"), ("b", "a"), ("self", "self")] {
        create(&*store, child(id, parent)).await;
    }
    assert_eq!(store.children("a").await.unwrap().total(), 1);
    assert_eq!(store.children("self").await.unwrap().total(), 0);
    let found = store.unfinished_below("a", 10).await.unwrap();
    assert_eq!(
        found,
        [Unfinished {
            id: "b".to_owned(),
            attempt: 1
        }]
    );
    assert!(store.unfinished_below("self", 10).await.unwrap().is_empty());
}

/// What is to be cancelled along with its parent.
pub async fn unfinished_ones_below_are_found(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    for (id, parent) in [("e-1", "e"), ("e-2", "e"), ("e-1-1", "e-1"), ("e-1-2", "e-1")] {
        create(&*store, child(id, parent)).await;
    }
    change(&*store, success("e-1", "1")).await;
    change(&*store, success("e-1-1", "1")).await;
    let found = store.unfinished_below("e", 10).await.unwrap();
    assert!(found.iter().all(|one| one.attempt == 1));
    let mut found: Vec<_> = found.into_iter().map(|one| one.id).collect();
    found.sort();
    assert_eq!(found, ["e-1-2", "e-2"]);
    assert_eq!(store.unfinished_below("e", 1).await.unwrap().len(), 1);
    for id in found {
        apply_one(&*store, cancelled(&id, "")).await;
    }
    assert!(store.unfinished_below("e", 10).await.unwrap().is_empty());
}

/// A list need not carry payloads.
pub async fn basic_views_leave_the_bulk(harness: &dyn Harness) {
    let store = harness.store();
    create(&*store, call("e")).await;
    change(&*store, success("e", "[1]")).await;
    let full = get(&*store, "e").await;
    assert_eq!(full.result, Some(raw("[1]")));
    let basic = store.get("e", View::Basic).await.unwrap().unwrap();
    assert_eq!(basic, crate::state::plan::basic(full.clone()));
    for (view, expected) in [(View::Basic, basic), (View::Full, full)] {
        let page = Page {
            size: 5,
            after: None,
            view,
        };
        let page = store.list(&Filter::default(), page).await.unwrap();
        assert_eq!(page.records, [expected]);
        assert_eq!(page.next, None);
    }
}
