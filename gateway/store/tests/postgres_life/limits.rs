//! What is as long as it may be fits into every index.

use asya_gateway_store::{Filter, Idempotency, NewEnvelope, Page, Store, View};
use asya_tests::postgres::Cluster;

use crate::words::{apply, call, create, get, open, success};

/// Text that does not get shorter by compression, which indexes try first.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed;
    let letter = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
    };
    std::iter::repeat_with(letter)
        .filter(|letter| *letter != '/')
        .take(length)
        .collect()
}

#[tokio::test]
async fn the_longest_names_are_stored_and_found() {
    let store = open(&Cluster::shared().database()).await;
    let new = NewEnvelope {
        parent_id: Some(noise(2, 1024)),
        tenant: Some(noise(3, 1024)),
        tool: Some(noise(4, 1024)),
        idempotency: Some(Idempotency {
            key: noise(5, 1024),
            fingerprint: [7; 32],
        }),
        ..call(&noise(1, 1024))
    };
    let record = create(&store, new.clone()).await;
    assert_eq!(get(&store, &new.id).await, record);
    apply(&store, success(&new.id, "1")).await;
    let filter = Filter {
        tenant: new.tenant,
        tool: new.tool,
        parent_id: new.parent_id,
        ..Filter::default()
    };
    let page = Page {
        size: 10,
        after: None,
        view: View::Basic,
    };
    assert_eq!(store.list(&filter, page).await.unwrap().records.len(), 1);
    assert_eq!(store.updates(&new.id, 0, 10).await.unwrap().len(), 1);
}
