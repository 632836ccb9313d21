//! Watching all envelopes by a filter.

use asya_gateway::core::{Feed, Gateway, LookupError};
use asya_gateway_store::{FeedCursor, FeedEntry, Filter, Status};

use crate::world::{
    PATIENCE, World, anybody, call, child, item, of, postgres_pair, register, running, say, success,
};

async fn next(feed: &mut Feed) -> FeedEntry {
    tokio::time::timeout(PATIENCE, feed.next())
        .await
        .expect("nothing comes")
        .unwrap()
}

/// Entries up to the end of an envelope.
async fn up_to_the_end_of(feed: &mut Feed, id: &str) -> Vec<FeedEntry> {
    let mut entries = Vec::new();
    loop {
        entries.push(next(feed).await);
        let update = &entries[entries.len() - 1].update;
        if update.is_final() && *update.envelope_id == *id {
            return entries;
        }
    }
}

async fn all_is_seen_once_and_in_order(one: &Gateway, two: &Gateway) {
    let mut feeds = Vec::new();
    for gateway in [one, two, two] {
        feeds.push(gateway.feed(&anybody(), Filter::default(), None).await.unwrap());
    }
    let mut envelopes = Vec::new();
    for _ in 0..5 {
        envelopes.push(running(one).await);
    }
    for index in 0..50 {
        let gateway = if index % 2 == 0 { one } else { two };
        let reports = envelopes.iter().map(|id| item(id, index)).collect();
        say(gateway, reports).await;
    }
    for id in &envelopes {
        say(one, vec![success(id, "1")]).await;
    }
    let last = &envelopes[4];
    let mut seen = Vec::new();
    for feed in &mut feeds {
        seen.push(up_to_the_end_of(feed, last).await);
    }
    assert_eq!(seen[0].len(), 5 * 52);
    assert!(seen[0].windows(2).all(|pair| pair[0].cursor < pair[1].cursor));
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    for place in [0, 1, 100, 258] {
        let after = Some(seen[0][place].cursor);
        let mut resumed = two.feed(&anybody(), Filter::default(), after).await.unwrap();
        assert_eq!(up_to_the_end_of(&mut resumed, last).await, seen[0][place + 1..]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_feed_has_everything_that_happens_once_and_in_order() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    all_is_seen_once_and_in_order(&gateway, &gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_of_two_replicas_over_postgresql_are_the_same() {
    let world = World::new().await;
    let [one, two] = postgres_pair().await;
    let (one, two) = (world.gateway_over(&one).await, world.gateway_over(&two).await);
    all_is_seen_once_and_in_order(&one, &two).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filter_picks_by_what_the_envelope_is() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let feed = async |filter: Filter| gateway.feed(&anybody(), filter, None).await.unwrap();
    let mut by_tool = feed(Filter {
        tool: Some("echo".to_owned()),
        ..Filter::default()
    })
    .await;
    let mut by_status = feed(Filter {
        statuses: [Status::Succeeded].into(),
        ..Filter::default()
    })
    .await;
    let mut mine = gateway.feed(&of("acme"), Filter::default(), None).await.unwrap();

    let plain = running(&gateway).await;
    let mut by_parent = feed(Filter {
        parent_id: Some(plain.clone()),
        ..Filter::default()
    })
    .await;
    let below = format!("{plain}-1");
    register(&gateway, child(&below, &plain)).await;
    say(&gateway, vec![success(&below, "1"), success(&plain, "2")]).await;
    let echo = gateway
        .submit(&of("acme"), call("echo", r#"{"text":"x"}"#))
        .await
        .unwrap()
        .record
        .id;
    say(&gateway, vec![success(&echo, "3")]).await;

    assert_eq!(*next(&mut by_parent).await.update.envelope_id, *below);
    for id in [&below, &plain, &echo] {
        assert_eq!(*next(&mut by_status).await.update.envelope_id, **id);
    }
    for feed in [&mut by_tool, &mut mine] {
        let entries = up_to_the_end_of(feed, &echo).await;
        assert!(entries.iter().all(|entry| *entry.update.envelope_id == *echo));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_beyond_the_end_is_not_one_of_this_history() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let id = running(&gateway).await;
    let mut feed = gateway.feed(&anybody(), Filter::default(), None).await.unwrap();
    say(&gateway, vec![success(&id, "1")]).await;
    let last = up_to_the_end_of(&mut feed, &id).await.pop().unwrap().cursor;
    gateway
        .feed(&anybody(), Filter::default(), Some(last))
        .await
        .unwrap();
    let beyond = FeedCursor {
        update: last.update + 1,
        ..last
    };
    let answer = gateway.feed(&anybody(), Filter::default(), Some(beyond)).await;
    assert!(matches!(answer, Err(LookupError::HistoryGone)));
}
