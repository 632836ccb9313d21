//! A database that is there and refuses.

use std::sync::Arc;

use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_tests::postgres::Cluster;
use reqwest::StatusCode;

use crate::harness::Rig;

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn sql(url: &str, statements: &'static str) {
    let url = url.to_owned();
    blocking(move || Cluster::shared().psql(&url, statements)).await;
}

#[tokio::test]
async fn a_report_that_the_store_refuses_is_asked_for_again() {
    let url = blocking(|| Cluster::shared().database()).await;
    let options = PostgresOptions::new(Address::parse(&url).unwrap());
    let rig = Rig::over(Arc::new(PostgresStore::connect(options).await.unwrap())).await;
    rig.child("e").await;
    sql(
        &url,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$; \
         CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON envelopes FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .await;
    let refused = [
        rig.progress("e", 1, "received").await,
        rig.succeed("e", "1").await,
        rig.post("/envelopes", r#"{"id":"f","actors":["first"]}"#).await,
    ];
    for answer in refused {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(
            !answer.text.contains("not now"),
            "what the database says is not told: {}",
            answer.text
        );
    }
    sql(&url, "DROP TRIGGER refuse ON envelopes").await;
    assert_eq!(rig.succeed("e", "1").await.status, StatusCode::OK);
    let record = rig.get("/envelopes/e").await.json();
    assert_eq!(
        (&record["status"], &record["result"]),
        (&"succeeded".into(), &1.into())
    );
}
