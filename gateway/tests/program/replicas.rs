//! Several gateways over one PostgreSQL.

use asya_tests::postgres::Cluster;
use asya_tests::rabbitmq::Broker;

use crate::setup::{Place, Queues, Stream, call, envelope, eventually, get, post, ready, run};

#[tokio::test(flavor = "multi_thread")]
async fn each_replica_streams_what_the_other_one_was_told() {
    let (database, queues) = (Cluster::shared().database(), Queues::new().await);
    let place = Place::new();
    let broker = queues.url(Broker::shared().port);
    let variables = [
        ("ASYA_RABBITMQ_URL", broker.as_str()),
        ("ASYA_DATABASE_URL", database.as_str()),
    ];
    // Both at once: both bring the tables up.
    let programs = [place.start(&variables), place.start(&variables)];
    let [one, other] = [programs[0].url().await, programs[1].url().await];
    ready(&one).await;
    ready(&other).await;
    for (told, streams) in [(&one, &other), (&other, &one)] {
        let id = call(told, "slow").await;
        let mut stream = Stream::open(streams, &id).await;
        stream.until("\"running\"").await;
        let progress = r#"{"envelope_state":"processing","actors":["first","second"],"current_actor_idx":0,"message":"at it"}"#;
        let (status, body) = post(told, &format!("/envelopes/{id}/progress"), progress).await;
        assert_eq!(status, 200, "{body}");
        stream.until("at it").await;
        let last = format!(r#"{{"id":"{id}","status":"succeeded","result":{{"n":12345678901234567890}}}}"#);
        let (status, body) = post(told, &format!("/envelopes/{id}/final"), &last).await;
        assert_eq!(status, 200, "{body}");
        let text = stream.rest().await;
        assert!(
            text.contains("succeeded") && text.contains("12345678901234567890"),
            "{text}"
        );
        assert_eq!(envelope(streams, &id).await["status"], "succeeded");
    }
    let leads = async |url: &str| {
        let (_, text) = get(url, "/metrics").await;
        text.lines().any(|line| line == "asya_gateway_leads 1")
    };
    eventually("one replica to do the housekeeping", || async {
        let both = [leads(&one).await, leads(&other).await];
        assert_ne!(both, [true, true], "one of them, never both");
        both.contains(&true).then_some(())
    })
    .await;
    // The other one takes over when it is lost.
    let [first, second] = programs;
    let (lost, left, left_url) = if leads(&one).await {
        (first, second, &other)
    } else {
        (second, first, &one)
    };
    lost.kill().await;
    eventually("the other replica to take over", || async {
        leads(left_url).await.then_some(())
    })
    .await;
    drop(left);
}

#[test]
fn migrations_are_shown_made_and_asked_for() {
    let database = Cluster::shared().database();
    let variables = [("ASYA_DATABASE_URL", database.as_str())];
    let before = run(&["migrate", "--status"], &variables);
    assert_eq!(before.code, Some(1), "{}", before.output);
    assert!(before.output.contains("not yet"), "{}", before.output);

    let place = Place::new();
    let state = place.text("state");
    let start = [
        ("ASYA_DATABASE_URL", database.as_str()),
        ("ASYA_DATABASE_MIGRATE", "false"),
        ("ASYA_TRANSPORT", "local"),
        ("ASYA_STATE_DIR", state.as_str()),
        ("ASYA_GATEWAY_PORT", "0"),
    ];
    let refused = run(&[], &start);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.lines("ERROR")[0].contains("asya-gateway migrate"),
        "{}",
        refused.output
    );

    for _ in 0..2 {
        assert_eq!(run(&["migrate"], &variables).code, Some(0));
    }
    let after = run(&["migrate", "--status"], &variables);
    assert_eq!(after.code, Some(0), "{}", after.output);
    assert!(!after.output.contains("not yet"), "{}", after.output);
}
