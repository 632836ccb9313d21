//! Migrations: once, by anybody, only forward.

use asya_gateway_store::postgres::{AtStart, PostgresOptions, PostgresStore};
use asya_gateway_store::{Status, Store, StoreError};
use asya_tests::postgres::Cluster;
use futures::future::join_all;

use crate::words::{address, call, create, open, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_that_migrate_at_once_do_it_once() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let stores = join_all((0..8).map(|_| open(&url))).await;
    for (number, store) in stores.iter().enumerate() {
        create(store, call(&format!("e{number}"))).await;
    }
    assert_eq!(
        cluster.psql(&url, "SELECT version, name FROM asya_schema ORDER BY 1"),
        "1|original\n2|gateway\n3|indexes\n4|upkeep"
    );
    let again = PostgresStore::migrate(&address(&url)).await.unwrap();
    assert_eq!(again, (4, 4));
}

#[tokio::test]
async fn who_only_checks_is_told_what_to_do() {
    let url = Cluster::shared().database();
    let mut options = PostgresOptions::new(address(&url));
    options.at_start = AtStart::Check;
    let error = PostgresStore::connect(options.clone()).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Schema(told) if told.contains("asya-gateway migrate")),
        "{error}"
    );
    let before = PostgresStore::status(&address(&url)).await.unwrap();
    assert!(
        before.iter().all(|migration| migration.applied_at.is_none()),
        "{before:?}"
    );
    assert_eq!(PostgresStore::migrate(&address(&url)).await.unwrap(), (0, 4));
    let after = PostgresStore::status(&address(&url)).await.unwrap();
    assert!(
        after.iter().all(|migration| migration.applied_at.is_some()),
        "{after:?}"
    );
    create(&PostgresStore::connect(options).await.unwrap(), call("e")).await;
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    open(&url).await;
    cluster.psql(
        &url,
        "INSERT INTO asya_schema (version, name) VALUES (5, 'from the future')",
    );
    for at_start in [AtStart::Migrate, AtStart::Check] {
        let mut options = PostgresOptions::new(address(&url));
        options.at_start = at_start;
        let error = PostgresStore::connect(options).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Schema(told) if told.contains("newer gateway")),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_in_use_only_delay_a_migration() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.psql(&url, crate::original::SCHEMA);
    let held = url.clone();
    let reader = tokio::task::spawn_blocking(move || {
        // Longer than a migration waits for a table at a time.
        cluster.psql(
            &held,
            "BEGIN; SELECT count(*) FROM envelopes; SELECT pg_sleep(6); COMMIT",
        )
    });
    let sleeping = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event = 'PgSleep' AND datname = current_database()";
    until("the table is held", async || cluster.psql(&url, sleeping) == "1").await;
    assert_eq!(PostgresStore::migrate(&address(&url)).await.unwrap(), (0, 4));
    reader.await.unwrap();
}

#[tokio::test]
async fn a_limit_for_statements_is_not_one_for_migrations() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    // Indexes that take longer than statements may.
    cluster.psql(
        &url,
        "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); END $$;
         CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION slow();
         DO $$ BEGIN
             EXECUTE format('ALTER DATABASE %I SET statement_timeout = 100', current_database());
         END $$",
    );
    assert_eq!(PostgresStore::migrate(&address(&url)).await.unwrap(), (0, 4));
}

#[tokio::test]
async fn a_history_that_is_in_order_is_not_read_again() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.psql(&url, crate::original::SCHEMA);
    // Nobody writes such a word any more, and whoever reads it knows it: it shows who has been here.
    cluster.psql(
        &url,
        "INSERT INTO envelopes (id, status, route_actors) VALUES ('e', 'running', '{a}');
         INSERT INTO envelope_updates (envelope_id, status) VALUES ('e', 'Running')",
    );
    let store = open(&url).await;
    assert_eq!(
        cluster.psql(&url, "SELECT status FROM envelope_updates"),
        "Running"
    );
    assert_eq!(
        store.updates("e", 0, 10).await.unwrap()[0].status,
        Status::Running
    );
}
