//! What is told when a database cannot be reached, and what is not.

use asya_gateway_store::StoreError;
use asya_gateway_store::postgres::{PostgresOptions, PostgresStore};
use asya_tests::postgres::Cluster;

use crate::words::{address, call, create, open};

const PASSWORD: &str = "s3cret/@#%";
const ESCAPED: &str = "s3cret%2F%40%23%25";

async fn refusal(url: &str) -> StoreError {
    PostgresStore::connect(PostgresOptions::new(address(url)))
        .await
        .unwrap_err()
}

#[tokio::test]
async fn a_password_with_odd_characters_opens_the_database_in_both_forms() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.user("odd", PASSWORD);
    let (port, name) = (cluster.port, url.rsplit('/').next().unwrap());
    let store = open(&format!(
        "postgres://odd:{ESCAPED}@127.0.0.1:{port}/{name}?sslmode=disable"
    ))
    .await;
    create(&store, call("e")).await;
    open(&format!(
        "host=127.0.0.1 port={port} user=odd password='{PASSWORD}' dbname={name}"
    ))
    .await;
}

#[tokio::test]
async fn errors_say_where_and_why_and_never_the_password() {
    let cluster = Cluster::shared();
    cluster.user("guarded_one", PASSWORD);
    let port = cluster.port;
    for (url, is_refused, expected) in [
        (
            format!("postgres://guarded_one:wrong-{ESCAPED}@127.0.0.1:{port}/postgres"),
            true,
            "password authentication",
        ),
        (
            format!("postgres://guarded_one:{ESCAPED}@127.0.0.1:{port}/nowhere"),
            true,
            "\"nowhere\" does not exist",
        ),
        (
            format!("postgres://nobody:{ESCAPED}@127.0.0.1:{port}/postgres"),
            true,
            "\"nobody\" does not exist",
        ),
        (
            format!("postgres://guarded_one:{ESCAPED}@127.0.0.1:1/postgres"),
            false,
            "127.0.0.1:1",
        ),
        (
            format!("postgres://guarded_one:{ESCAPED}@nowhere.invalid/postgres"),
            false,
            "nowhere.invalid",
        ),
    ] {
        let error = refusal(&url).await;
        let told = format!("{error} {error:?}");
        assert_eq!(matches!(error, StoreError::Broken(_)), is_refused, "{told}");
        assert_eq!(matches!(error, StoreError::Unavailable(_)), !is_refused, "{told}");
        assert!(told.contains(expected), "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    }
}
