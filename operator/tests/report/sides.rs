//! Operators that restart, and two at a time.

use asya_tests::Proxy;

use crate::stage::{Hub, Operator, all, options, until};

#[tokio::test]
async fn a_new_operator_process_forgets_what_is_gone_only_when_it_has_seen_all() {
    let hub = Hub::start().await;
    let first = Operator::start(hub.options());
    for name in ["a", "b"] {
        first.sees(name, "first");
    }
    first.synced();
    first.done().await;
    drop(first);
    let second = Operator::start(hub.options());
    second.sees("a", "second");
    until("the first report", async || hub.told().await[0].1 == "second").await;
    assert_eq!(hub.told().await.len(), 2, "not every actor was seen yet");
    second.synced();
    second.done().await;
    assert_eq!(hub.told().await, all(&["a"], "second"));
}

#[tokio::test]
async fn of_two_leaders_the_newest_sight_wins() {
    let hub = Hub::start().await;
    let proxy = Proxy::before(hub.address.port()).await;
    let old = Operator::start(options(proxy.port));
    old.sees("a", "old");
    old.synced();
    old.done().await;
    let new = Operator::start(hub.options());
    new.sees("a", "new");
    new.synced();
    new.done().await;
    assert_eq!(hub.told().await, all(&["a"], "new"));
    // The old one has not noticed yet, and tells again what it saw before.
    let streams = old.reporter.progress().streams;
    proxy.cut();
    until("another stream of the old one", async || {
        let progress = old.reporter.progress();
        progress.streams > streams && progress.is_complete
    })
    .await;
    assert_eq!(hub.told().await, all(&["a"], "new"));
}

#[tokio::test]
async fn clusters_leave_each_other_alone() {
    let hub = Hub::start().await;
    let here = Operator::start(hub.options());
    here.sees("a", "here");
    here.synced();
    here.done().await;
    let mut there = hub.options();
    there.cluster = "there".to_owned();
    let there = Operator::start(there);
    there.sees("a", "there");
    there.synced();
    there.done().await;
    let told = hub.told().await;
    assert_eq!(told, [all(&["a"], "here"), all(&["a"], "there")].concat());
}
