//! Which indexes the statements use.

use std::time::Duration;

use asya_gateway_store::{Filter, Outcome, Page, Retention, Store, View};
use asya_tests::postgres::Cluster;
use chrono::Utc;

use crate::words::{call, create, open, until};

#[tokio::test]
async fn lists_and_the_housekeeping_are_served_by_indexes() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    open(&url).await;
    // Small tables are read as a whole where they may.
    cluster.psql(
        &url,
        "DO $$ BEGIN
             EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database());
             EXECUTE format('ALTER DATABASE %I SET enable_sort = off', current_database());
         END $$",
    );
    let store = open(&url).await;
    create(&store, call("e")).await;
    let lists = [
        (
            "asya_envelopes_turn",
            Filter {
                actor: Some("nobody".to_owned()),
                ..Filter::default()
            },
        ),
        (
            "asya_envelopes_outcome",
            Filter {
                outcomes: [Outcome::TimedOut].into(),
                ..Filter::default()
            },
        ),
        (
            "asya_envelopes_tool",
            Filter {
                tool: Some("none".to_owned()),
                ..Filter::default()
            },
        ),
    ];
    let is_used = |index: &str| {
        let uses = format!("SELECT idx_scan > 0 FROM pg_stat_user_indexes WHERE indexrelname = '{index}'");
        cluster.psql(&url, &uses) == "t"
    };
    for (index, filter) in lists {
        assert!(!is_used(index), "{index}");
        until(index, async || {
            let page = Page {
                size: 10,
                after: None,
                view: View::Full,
            };
            assert!(store.list(&filter, page).await.unwrap().records.is_empty());
            is_used(index)
        })
        .await;
    }
    let retention = Retention {
        updates: None,
        envelopes: Some(Duration::from_hours(1)),
    };
    until("asya_envelopes_done", async || {
        store.clean(retention, Utc::now()).await.unwrap();
        is_used("asya_envelopes_done")
    })
    .await;
}
