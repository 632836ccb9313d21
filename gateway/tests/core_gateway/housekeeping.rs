//! Deadlines after an outage, beside a long clean-up, and beside what cannot be read.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway::core::Gateway;
use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_gateway_store::{Outcome, Retention, Status, Store};
use asya_tests::postgres::Cluster;
use chrono::Utc;

use crate::world::{PATIENCE, World, call, running, say, submit, success, until};

/// An envelope whose time was over while there was no gateway.
async fn overdue(world: &World) -> String {
    let gateway = world.gateway().await;
    let id = submit(&gateway, call("short", "{}")).await.unwrap().record.id;
    let record = until(&gateway, &id, |record| record.status == Status::Running).await;
    gateway.close(PATIENCE).await;
    let left = record.deadline.unwrap() - Utc::now();
    tokio::time::sleep(left.to_std().unwrap_or_default() + Duration::from_millis(1)).await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_ended_in_time_may_say_so_after_an_outage() {
    let world = World::new().await;
    let id = overdue(&world).await;
    let mut options = world.options(&world.store().await);
    options.patience.late = PATIENCE;
    let gateway = Gateway::start(options).await;
    // Deadlines are looked at meanwhile.
    let other = submit(&gateway, call("short", "{}")).await.unwrap().record.id;
    let other = until(&gateway, &other, |record| record.status.is_final()).await;
    assert_eq!(other.outcome, Some(Outcome::TimedOut));
    say(&gateway, vec![success(&id, "1")]).await;
    let record = until(&gateway, &id, |record| record.status.is_final()).await;
    assert_eq!(record.outcome, Some(Outcome::Succeeded));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_reports_after_an_outage_has_timed_out() {
    let world = World::new().await;
    let id = overdue(&world).await;
    let gateway = world.gateway().await;
    let record = until(&gateway, &id, |record| record.status.is_final()).await;
    assert_eq!(record.outcome, Some(Outcome::TimedOut));
}

async fn psql(url: &str, statements: String) -> String {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || Cluster::shared().psql(&url, &statements))
        .await
        .unwrap()
}

/// A new database, and a store over it.
async fn postgres() -> (String, Arc<dyn Store>) {
    let url = tokio::task::spawn_blocking(|| Cluster::shared().database())
        .await
        .unwrap();
    let options = PostgresOptions::new(Address::parse(&url).unwrap());
    (url, Arc::new(PostgresStore::connect(options).await.unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_be_read_keeps_no_other_from_its_end() {
    let world = World::new().await;
    let (url, store) = postgres().await;
    let gateway = world.gateway_over(&store).await;
    let (broken, good) = (running(&gateway).await, running(&gateway).await);
    let statements = format!(
        "UPDATE envelopes SET route_actors = '{{NULL}}' WHERE id = '{broken}';
         UPDATE envelopes SET deadline = clock_timestamp()"
    );
    psql(&url, statements).await;
    let record = until(&gateway, &good, |record| record.status.is_final()).await;
    assert_eq!(record.outcome, Some(Outcome::TimedOut));
    let status = format!("SELECT status FROM envelopes WHERE id = '{broken}'");
    assert_eq!(psql(&url, status).await, "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_do_not_wait_for_a_long_clean_up() {
    let world = World::new().await;
    let (url, store) = postgres().await;
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep(25); RETURN OLD; END $$;
        CREATE TRIGGER slow BEFORE DELETE ON envelope_updates FOR EACH ROW EXECUTE FUNCTION slow()";
    psql(&url, slow.to_owned()).await;
    let mut options = world.options(&store);
    options.patience.clean = Duration::from_millis(50);
    options.retention = Retention {
        updates: Some(Duration::from_millis(1)),
        envelopes: None,
    };
    let gateway = Gateway::start(options).await;
    let (done, open) = (running(&gateway).await, running(&gateway).await);
    say(&gateway, vec![success(&done, "1")]).await;
    let cleans = "SELECT count(*) FROM pg_stat_activity
        WHERE wait_event = 'PgSleep' AND datname = current_database()";
    while psql(&url, cleans.to_owned()).await != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    psql(
        &url,
        format!("UPDATE envelopes SET deadline = clock_timestamp() WHERE id = '{open}'"),
    )
    .await;
    let record = until(&gateway, &open, |record| record.status.is_final()).await;
    assert_eq!(record.outcome, Some(Outcome::TimedOut));
    assert_eq!(psql(&url, cleans.to_owned()).await, "1", "it still cleans");
}
