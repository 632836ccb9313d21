//! Making sure of queues.

use asya_transport::QueueName;
use asya_transport::keeping::{Ensured, KeepError};

use super::{CLASSIC, Place, QUORUM, wanted};

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = expected
        .iter()
        .map(|(exchange, key)| ((*exchange).to_owned(), (*key).to_owned()))
        .collect();
    pairs.sort();
    pairs
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_queue_is_made_with_everything_around_it_however_often_it_goes() {
    let place = Place::new().await;
    let queue = QueueName::for_actor("x");
    let expected = pairs(&[
        ("asya", "x"),
        ("asya", "asya-x"),
        ("asya-owners.asya-x", "one/team"),
    ]);
    for _ in 0..2 {
        assert_eq!(
            place.ensure(&queue, &wanted("one", QUORUM)).await,
            Ensured::Created
        );
        assert_eq!(
            place.ensure(&queue, &wanted("one", QUORUM)).await,
            Ensured::Present
        );
        assert_eq!(place.bindings(&queue), expected);
        let shown = place.shown(&queue);
        assert_eq!(shown["durable"], true);
        assert_eq!(
            shown["arguments"],
            serde_json::from_str::<serde_json::Value>(QUORUM).unwrap()
        );
        let dead = place.shown(&queue.dead_letter());
        assert_eq!(dead["arguments"]["x-queue-type"], "quorum");
        assert_eq!(
            dead["arguments"]["x-delivery-limit"], 1_000_000,
            "it drops nothing"
        );
        // Somebody tidies up.
        place.manage("DELETE", "queues/asya-x", "");
        place.manage("DELETE", "queues/asya-x-dlq", "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_around_a_queue_is_put_back() {
    let place = Place::new().await;
    let queue = QueueName::for_actor("x");
    place.ensure(&queue, &wanted("one", CLASSIC)).await;
    place.manage("DELETE", "exchanges/asya", "");
    place.manage("DELETE", "exchanges/asya-owners.asya-x", "");
    place.manage("DELETE", "queues/asya-x-dlq", "");
    assert!(place.bindings(&queue).is_empty());
    assert_eq!(
        place.ensure(&queue, &wanted("one", CLASSIC)).await,
        Ensured::Present
    );
    assert_eq!(place.bindings(&queue).len(), 3);
    place.shown(&queue.dead_letter());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_arguments_is_left_alone_and_told_of() {
    let place = Place::new().await;
    let queue = QueueName::for_actor("x");
    let original = r#"{"x-dead-letter-exchange":"","x-dead-letter-routing-key":"asya-x-dlq"}"#;
    place.manage(
        "PUT",
        "queues/asya-x",
        &format!(r#"{{"durable": true, "arguments": {original}}}"#),
    );
    place.put(&queue, "kept");
    let found = place.ensure(&queue, &wanted("one", QUORUM)).await;
    let Ensured::Drifted(text) = found else {
        panic!("{found:?}")
    };
    assert!(
        text.contains("x-queue-type") || text.contains("x-delivery-limit"),
        "{text}"
    );
    assert!(!text.contains('\n'), "{text}");
    let original: serde_json::Value = serde_json::from_str(original).unwrap();
    assert_eq!(place.shown(&queue)["arguments"], original);
    assert_eq!(place.ready(&queue).await, Some(1));
    assert_eq!(
        place.bindings(&queue).len(),
        3,
        "it is bound and owned all the same"
    );

    // Making it anew waits for it to be empty, and for its other owner.
    let mut recreate = wanted("one", QUORUM);
    recreate.recreate = true;
    let found = place.ensure(&queue, &recreate).await;
    assert!(
        matches!(&found, Ensured::Drifted(text) if text.contains("asya-x holds 1 message")),
        "{found:?}"
    );
    place.manage("DELETE", "queues/asya-x/contents", "");
    place.ensure(&queue, &wanted("two", QUORUM)).await;
    let found = place.ensure(&queue, &recreate).await;
    assert!(
        matches!(&found, Ensured::Drifted(text) if text.contains("another cluster")),
        "{found:?}"
    );
    assert_eq!(place.bindings(&queue).len(), 4, "both still own it");
    place
        .keeper
        .release(
            &queue,
            &super::owner("two"),
            asya_transport::keeping::ReleaseMode::Never,
            &recreate.arguments,
            true,
        )
        .await
        .unwrap();
    place.put(&queue.dead_letter(), "dead letters stay");
    assert_eq!(place.ensure(&queue, &recreate).await, Ensured::Created);
    assert_eq!(place.shown(&queue)["arguments"]["x-queue-type"], "quorum");
    assert_eq!(place.ready(&queue.dead_letter()).await, Some(1));
    assert_eq!(place.bindings(&queue).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leave_to_create_a_missing_queue_is_an_error_and_another_one_is_used_as_it_is() {
    let place = Place::new().await;
    let queue = QueueName::for_actor("x");
    let mut wanted = wanted("one", QUORUM);
    wanted.create = false;
    let error = place.keeper.ensure(&queue, &wanted).await.unwrap_err();
    assert_eq!(error, KeepError::Missing("asya-x".into()));
    place.manage("PUT", "queues/asya-x", r#"{"durable": true}"#);
    assert_eq!(place.ensure(&queue, &wanted).await, Ensured::Present);
    assert_eq!(place.ready(&queue.dead_letter()).await, None);
    assert_eq!(place.bindings(&queue).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_looks_at_missing_queues_use_up_no_connection() {
    let place = Place::new().await;
    // Each closes a channel, and a connection has two thousand.
    for number in 0..2200 {
        assert_eq!(
            place
                .ready(&QueueName::for_actor(&format!("missing-{number}")))
                .await,
            None
        );
    }
    let queue = QueueName::for_actor("x");
    assert_eq!(
        place.ensure(&queue, &wanted("one", CLASSIC)).await,
        Ensured::Created
    );
}
