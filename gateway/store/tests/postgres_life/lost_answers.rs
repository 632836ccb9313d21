//! A commit whose answer never came: it happened or it did not, and either way it is told once, as it is.
//!
//! A trigger at the very end of each transaction holds the commit up, so that the connection can be ended at that
//! moment: from our side, where the server goes on and commits; or from the server's side, where it gives up.

use std::sync::Arc;

use asya_gateway_store::postgres::PostgresStore;
use asya_gateway_store::{Applied, Created, Phase, Store};
use asya_tests::Proxy;
use asya_tests::postgres::Cluster;

use crate::words::{call, create, get, open, progress, success, until};

const SLOW_COMMIT: &str = "
    CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- The first transaction alone.
        IF NOT EXISTS (SELECT FROM lingered) AND pg_try_advisory_xact_lock(77) THEN
            PERFORM pg_sleep(1.5);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TABLE lingered (at timestamptz);";

/// A store behind a proxy, on a database in which the first commit that touches `table` takes a while.
struct Slow {
    store: Arc<PostgresStore>,
    proxy: Proxy,
    url: String,
}

impl Slow {
    async fn new(table: &str) -> Self {
        let cluster = Cluster::shared();
        let url = cluster.database();
        let proxy = Proxy::before(cluster.port).await;
        let through = url.replace(&format!(":{}/", cluster.port), &format!(":{}/", proxy.port));
        let store = Arc::new(open(&through).await);
        create(&*store, call("before")).await;
        cluster.psql(&url, SLOW_COMMIT);
        let trigger = format!(
            "CREATE CONSTRAINT TRIGGER lingers AFTER INSERT ON {table} DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION linger()"
        );
        cluster.psql(&url, &trigger);
        Self { store, proxy, url }
    }

    /// Until a transaction stands in its commit; later ones pass.
    async fn lingering(&self) {
        let sleeping = "SELECT count(*) FROM pg_stat_activity
            WHERE wait_event = 'PgSleep' AND datname = current_database()";
        until("a commit lingers", async || {
            Cluster::shared().psql(&self.url, sleeping) == "1"
        })
        .await;
        Cluster::shared().psql(&self.url, "INSERT INTO lingered VALUES (now())");
    }

    /// The server ends the sessions of the store.
    fn disconnect(&self) {
        let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        Cluster::shared().psql(&self.url, ended);
    }

    async fn history(&self, id: &str) -> usize {
        self.store.updates(id, 0, 100).await.unwrap().len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_was_committed_without_an_answer_is_told_as_a_change() {
    let slow = Slow::new("envelope_updates").await;
    let store = Arc::clone(&slow.store);
    let apply = tokio::spawn(async move {
        let reports = vec![progress("before", 1, Phase::Received), success("before", "[1]")];
        store.apply(reports).await
    });
    slow.lingering().await;
    slow.proxy.cut();
    let answers = apply.await.unwrap().unwrap();
    assert!(
        answers
            .iter()
            .all(|answer| matches!(answer, Applied::Changed { .. })),
        "{answers:?}"
    );
    assert_eq!(slow.history("before").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_was_undone_in_its_commit_is_applied_again() {
    let slow = Slow::new("envelope_updates").await;
    let store = Arc::clone(&slow.store);
    let apply = tokio::spawn(async move { store.apply(vec![success("before", "[1]")]).await });
    slow.lingering().await;
    slow.disconnect();
    let answers = apply.await.unwrap().unwrap();
    assert!(matches!(answers[..], [Applied::Changed { .. }]), "{answers:?}");
    assert_eq!(slow.history("before").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envelope_that_was_stored_without_an_answer_is_new() {
    for cut_by_us in [true, false] {
        let slow = Slow::new("envelopes").await;
        let store = Arc::clone(&slow.store);
        let new = call("e");
        let asked = new.clone();
        let created = tokio::spawn(async move { store.create(asked, std::time::Duration::ZERO).await });
        slow.lingering().await;
        if cut_by_us {
            slow.proxy.cut();
        } else {
            slow.disconnect();
        }
        let created = created.await.unwrap().unwrap();
        assert!(matches!(created, Created::New(_)), "{created:?}");
        assert_eq!(get(&*slow.store, "e").await.payload, new.payload);
        assert_eq!(slow.store.outbox_depth().await.unwrap().waiting, 2);
        // Whoever asks once more gets the same.
        let again = slow.store.create(new, std::time::Duration::ZERO).await.unwrap();
        assert!(matches!(again, Created::Existing(_)), "{again:?}");
    }
}
