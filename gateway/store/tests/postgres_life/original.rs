//! Databases that the original migrated, and its replicas beside ours during a rolling upgrade. The statements are
//! those that contract gateway §4.2, §4.3 and §7 describe.

use asya_gateway_store::postgres::{PostgresOptions, PostgresStore};
use asya_gateway_store::{Applied, Changed, Kind, Outcome, Phase, Report, ReportEvent, Status, Store};
use asya_tests::postgres::Cluster;

use crate::words::{PATIENCE, address, apply, call, create, get, open, progress, raw, report, success};

/// The schema after the original's four migrations, with the registry of its tool.
pub(crate) const SCHEMA: &str = "
    CREATE SCHEMA sqitch;
    CREATE TABLE sqitch.projects (project text PRIMARY KEY, uri text);
    CREATE TABLE sqitch.changes (
        change_id text PRIMARY KEY, script_hash text, change text NOT NULL, project text NOT NULL,
        note text NOT NULL DEFAULT '', committed_at timestamptz NOT NULL DEFAULT clock_timestamp());
    INSERT INTO sqitch.projects VALUES ('asya-gateway', null);
    INSERT INTO sqitch.changes (change_id, change, project) VALUES
        ('a', '001_initial_schema', 'asya-gateway'), ('b', '002_add_progress_tracking', 'asya-gateway'),
        ('c', '003_add_parent_id', 'asya-gateway'), ('d', '004_lowercase_status_values', 'asya-gateway');
    CREATE TABLE envelopes (
        id TEXT PRIMARY KEY, status TEXT NOT NULL, route_actors TEXT[] NOT NULL, route_current INTEGER NOT NULL DEFAULT 0,
        payload JSONB, result JSONB, error TEXT, timeout_sec INTEGER, deadline TIMESTAMPTZ,
        created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
        progress_percent NUMERIC(5,2) DEFAULT 0.0 CHECK (progress_percent >= 0 AND progress_percent <= 100),
        current_actor_idx INTEGER DEFAULT 0, current_actor_name TEXT, message TEXT,
        actors_completed INTEGER DEFAULT 0 CHECK (actors_completed >= 0),
        total_actors INTEGER DEFAULT 0 CHECK (total_actors >= 0), parent_id TEXT,
        CONSTRAINT envelopes_status_check CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'unknown')));
    CREATE TABLE envelope_updates (
        id BIGSERIAL PRIMARY KEY, envelope_id TEXT NOT NULL REFERENCES envelopes(id) ON DELETE CASCADE,
        status TEXT NOT NULL, message TEXT, result JSONB, error TEXT, timestamp TIMESTAMPTZ NOT NULL DEFAULT NOW(),
        progress_percent NUMERIC(5,2), actor TEXT,
        envelope_state TEXT CHECK (envelope_state IS NULL OR envelope_state IN ('received', 'processing', 'completed')));
    CREATE INDEX idx_envelopes_status ON envelopes(status);
    CREATE INDEX idx_envelopes_created_at ON envelopes(created_at DESC);
    CREATE INDEX idx_envelopes_updated_at ON envelopes(updated_at DESC);
    CREATE INDEX idx_envelopes_deadline ON envelopes(deadline) WHERE deadline IS NOT NULL;
    CREATE INDEX idx_envelopes_progress ON envelopes(progress_percent) WHERE progress_percent < 100;
    CREATE INDEX idx_envelopes_parent_id ON envelopes(parent_id) WHERE parent_id IS NOT NULL;
    CREATE INDEX idx_envelope_updates_envelope_id ON envelope_updates(envelope_id, timestamp DESC);
    CREATE INDEX idx_envelope_updates_timestamp ON envelope_updates(timestamp DESC);
    CREATE FUNCTION update_updated_at_column() RETURNS TRIGGER AS $$
        BEGIN NEW.updated_at = NOW(); RETURN NEW; END; $$ LANGUAGE plpgsql;
    CREATE TRIGGER update_envelopes_updated_at BEFORE UPDATE ON envelopes
        FOR EACH ROW EXECUTE FUNCTION update_updated_at_column();";

/// The same after three of them: title-case words, and a check that insists on them.
const BEFORE_LOWER_CASE: &str = "
    DELETE FROM sqitch.changes WHERE change_id = 'd';
    ALTER TABLE envelopes DROP CONSTRAINT envelopes_status_check, ADD CONSTRAINT envelopes_status_check
        CHECK (status IN ('Pending', 'Running', 'Succeeded', 'Failed', 'Unknown'));";

/// How the original creates: one insert.
fn insert(id: &str) -> String {
    format!(
        "INSERT INTO envelopes (id, parent_id, status, route_actors, route_current, payload, timeout_sec, deadline,
            progress_percent, total_actors, created_at, updated_at)
         VALUES ('{id}', NULL, 'pending', '{{one,two,three}}', 0, '{{\"n\": 12345678901234567890}}', 300,
            NOW() + interval '5 min', 0, 3, NOW(), NOW())"
    )
}

/// How it takes progress: an update and an insert in one transaction, whatever the status was.
fn original_progress(id: &str, index: u32, percent: &str, state: &str) -> String {
    format!(
        "BEGIN;
         UPDATE envelopes SET status = 'running', progress_percent = {percent}, current_actor_idx = {index},
            current_actor_name = 'two', message = COALESCE(NULLIF('', ''), message),
            route_actors = '{{one,two,three}}', total_actors = 3, updated_at = NOW() WHERE id = '{id}';
         INSERT INTO envelope_updates (envelope_id, status, message, progress_percent, actor, envelope_state, timestamp)
            VALUES ('{id}', 'running', '', {percent}, 'two', '{state}', NOW());
         COMMIT"
    )
}

/// How it takes a final report.
fn original_final(id: &str, status: &str) -> String {
    format!(
        "BEGIN;
         UPDATE envelopes SET status = '{status}', result = '{{\"ok\": 1}}', error = '', message = 'done',
            progress_percent = 100, updated_at = NOW() WHERE id = '{id}';
         INSERT INTO envelope_updates (envelope_id, status, message, result, error, progress_percent, timestamp)
            VALUES ('{id}', '{status}', 'done', '{{\"ok\": 1}}', '', 100, NOW());
         COMMIT"
    )
}

#[tokio::test]
async fn a_database_of_the_original_is_taken_over() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.psql(&url, SCHEMA);
    for statement in [
        insert("done"),
        original_final("done", "succeeded"),
        insert("working"),
        "INSERT INTO envelope_updates (envelope_id, status, message) \
         VALUES ('working', 'running', 'Sending envelope to first actor')"
            .to_owned(),
        original_progress("working", 1, "36.67", "received"),
        "INSERT INTO envelope_updates (envelope_id, status) VALUES ('working', 'running')".to_owned(),
    ] {
        cluster.psql(&url, &statement);
    }
    let changed = cluster.psql(&url, "SELECT updated_at FROM envelopes ORDER BY id");
    let store = open(&url).await;
    assert_eq!(
        cluster.psql(&url, "SELECT updated_at FROM envelopes ORDER BY id"),
        changed
    );

    let done = get(&store, "done").await;
    assert_eq!(
        (done.status, done.outcome, done.attempt),
        (Status::Succeeded, None, 1)
    );
    assert_eq!(done.payload, Some(raw(r#"{"n": 12345678901234567890}"#)));
    assert_eq!(done.result, Some(raw(r#"{"ok": 1}"#)));
    assert_eq!((done.error, done.timeout.unwrap().as_secs()), (None, 300));
    let history = store.updates("done", 0, 10).await.unwrap();
    assert_eq!(history.len(), 1);
    assert!(history[0].is_final());
    assert_eq!(history[0].result, Some(raw(r#"{"ok": 1}"#)));

    let kinds: Vec<_> = store.updates("working", 0, 10).await.unwrap();
    let kinds: Vec<_> = kinds.iter().map(|update| (update.kind, update.phase)).collect();
    assert_eq!(
        kinds,
        [
            (Kind::Sent, None),
            (Kind::Progress, Some(Phase::Received)),
            (Kind::Sent, None)
        ]
    );
    assert!(matches!(
        apply(&store, progress("working", 1, Phase::Completed)).await,
        Applied::Changed { .. }
    ));
    assert!(matches!(
        apply(&store, success("working", "1.0")).await,
        Applied::Changed { .. }
    ));
    assert_eq!(get(&store, "working").await.result, Some(raw("1.0")));
    assert!(matches!(
        apply(&store, success("done", "2")).await,
        Applied::Nothing { .. }
    ));
    // The registry is the original's: it was read, and left as it was.
    assert_eq!(cluster.psql(&url, "SELECT count(*) FROM sqitch.changes"), "4");
}

#[tokio::test]
async fn title_case_rows_and_their_check_are_brought_up_to_date() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.psql(&url, SCHEMA);
    cluster.psql(&url, BEFORE_LOWER_CASE);
    for status in ["Pending", "Running", "Succeeded", "Failed", "Unknown"] {
        let row = format!(
            "INSERT INTO envelopes (id, status, route_actors) VALUES ('{status}', '{status}', '{{one}}');
             INSERT INTO envelope_updates (envelope_id, status) VALUES ('{status}', '{status}')"
        );
        cluster.psql(&url, &row);
    }
    let changed = cluster.psql(&url, "SELECT id, updated_at FROM envelopes ORDER BY id");
    let store = open(&url).await;
    assert_eq!(
        cluster.psql(&url, "SELECT id, updated_at FROM envelopes ORDER BY id"),
        changed
    );
    let wrong = "SELECT (SELECT count(*) FROM envelopes WHERE status <> lower(id)),
                        (SELECT count(*) FROM envelope_updates WHERE status <> lower(envelope_id))";
    assert_eq!(cluster.psql(&url, wrong), "0|0");
    assert_eq!(get(&store, "Running").await.status, Status::Running);
    let check =
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'envelopes_status_check'";
    assert!(!cluster.psql(&url, check).contains("Pending"));
    assert!(cluster.psql(&url, check).contains("pending"));
}

#[tokio::test]
async fn a_new_database_has_all_that_the_original_had() {
    let cluster = Cluster::shared();
    let (old, new) = (cluster.database(), cluster.database());
    cluster.psql(&old, SCHEMA);
    open(&new).await;
    let columns = "SELECT table_name, column_name, data_type, numeric_precision, numeric_scale, is_nullable, column_default
        FROM information_schema.columns WHERE table_schema = 'public' AND table_name LIKE 'envelope%' ORDER BY 1, 2";
    let indexes = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1";
    let checks = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE conrelid IN ('envelopes'::regclass, 'envelope_updates'::regclass) ORDER BY 1";
    let triggers = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1";
    for what in [columns, indexes, checks, triggers] {
        let there = cluster.psql(&new, what);
        for line in cluster.psql(&old, what).lines() {
            assert!(
                there.lines().any(|found| found == line),
                "missing: {line}\nin: {there}"
            );
        }
    }
}

#[tokio::test]
async fn the_insert_of_the_charts_check_succeeds() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url).await;
    cluster.psql(
        &url,
        "INSERT INTO envelopes (id, status, route_actors, route_current) VALUES ('test', 'pending', '{a,b}', 0)",
    );
    let record = get(&store, "test").await;
    assert_eq!(
        (record.status, record.actors.len(), record.version),
        (Status::Pending, 2, 1)
    );
}

#[tokio::test]
async fn replicas_of_the_original_work_beside_ours() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    cluster.psql(&url, SCHEMA);
    let store = open(&url).await;
    let mut changes = store.subscribe();

    // Theirs, carried on by ours, and the other way round.
    cluster.psql(&url, &insert("theirs"));
    assert!(matches!(
        apply(&store, progress("theirs", 0, Phase::Completed)).await,
        Applied::Changed { .. }
    ));
    cluster.psql(&url, &original_progress("theirs", 1, "50.00", "processing"));
    let record = get(&store, "theirs").await;
    assert_eq!((record.current_actor_idx, record.progress_percent), (1, 50.0));
    assert_eq!((record.phase, record.version), (None, 3));
    // Their race: a lower percentage that was computed earlier and written later.
    cluster.psql(&url, &original_progress("theirs", 1, "36.67", "received"));
    assert!((get(&store, "theirs").await.progress_percent - 50.0).abs() < f64::EPSILON);

    create(&store, call("ours")).await;
    let seen = cluster.psql(
        &url,
        "SELECT status, payload, route_actors, total_actors FROM envelopes WHERE id = 'ours'",
    );
    assert_eq!(seen, r#"pending|{"n": 1}|{one,two,three}|3"#);
    cluster.psql(&url, &original_progress("ours", 1, "36.67", "received"));
    cluster.psql(&url, &original_final("ours", "succeeded"));
    let record = get(&store, "ours").await;
    assert_eq!(
        (record.status, record.outcome, record.progress_percent),
        (Status::Succeeded, None, 100.0)
    );
    assert_eq!(record.result, Some(raw(r#"{"ok": 1}"#)));
    assert!(
        store
            .updates("ours", 0, 10)
            .await
            .unwrap()
            .last()
            .unwrap()
            .is_final()
    );

    // What they write is told to our watchers.
    let told = async {
        while !matches!(changes.recv().await, Ok(Changed::Envelope { id, .. }) if &*id == "ours") {}
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
}

#[tokio::test]
async fn replicas_of_the_original_cannot_bring_back_what_is_final() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url).await;
    create(&store, call("e")).await;
    apply(
        &store,
        success("e", r#"{"big": 12345678901234567890, "one": 1.0}"#),
    )
    .await;
    let (record, history) = (get(&store, "e").await, store.updates("e", 0, 10).await.unwrap());
    assert_eq!(history.len(), 1);
    // Each of their statements finds the row, so that they answer their sidecars with a success.
    let update =
        "UPDATE envelopes SET status = 'running', progress_percent = 10 WHERE id = 'e' RETURNING id, status";
    assert_eq!(cluster.psql(&url, update), "e|succeeded");
    cluster.psql(&url, &original_progress("e", 2, "70.00", "received"));
    cluster.psql(&url, &original_final("e", "failed"));
    assert_eq!(get(&store, "e").await, record);
    assert_eq!(store.updates("e", 0, 10).await.unwrap(), history);
    // What they show of it: jsonb, and a message in every line, without which they cannot read the history.
    let shown = "SELECT e.result, u.result, u.message IS NULL FROM envelopes e JOIN envelope_updates u ON u.envelope_id = e.id";
    let result = r#"{"big": 12345678901234567890, "one": 1.0}"#;
    assert_eq!(cluster.psql(&url, shown), format!("{result}|{result}|f"));
}

#[tokio::test]
async fn what_jsonb_cannot_hold_is_kept_as_text_and_not_mirrored() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url).await;
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    for (id, json) in [
        ("nul", r#"{"a":"\u0000"}"#),
        ("surrogate", r#"["\ud800"]"#),
        ("huge", "1e999999"),
        ("deep", deep.as_str()),
    ] {
        let mut new = call(id);
        new.payload = Some(raw(json));
        create(&store, new).await;
        assert!(
            matches!(apply(&store, success(id, json)).await, Applied::Changed { .. }),
            "{id}"
        );
        let record = get(&store, id).await;
        assert_eq!(
            (record.payload, record.result),
            (Some(raw(json)), Some(raw(json))),
            "{id}"
        );
        let update = store.updates(id, 0, 10).await.unwrap().pop().unwrap();
        assert_eq!(update.result, Some(raw(json)), "{id}");
        let mirrored = format!("SELECT payload IS NULL, result IS NULL FROM envelopes WHERE id = '{id}'");
        assert_eq!(cluster.psql(&url, &mirrored), "t|t", "{id}");
    }
}

#[tokio::test]
async fn without_the_mirror_json_stands_once() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let options = PostgresOptions {
        mirror: false,
        ..PostgresOptions::new(address(&url))
    };
    let store = PostgresStore::connect(options).await.unwrap();
    create(&store, call("e")).await;
    apply(&store, success("e", "[1]")).await;
    let stands = "SELECT e.payload, e.payload_json, e.result, e.result_json, u.result, u.result_json
        FROM envelopes e JOIN envelope_updates u ON u.envelope_id = e.id";
    assert_eq!(cluster.psql(&url, stands), r#"|{"n": 1}||[1]||"#);
    assert_eq!(
        store.updates("e", 0, 10).await.unwrap()[0].result,
        Some(raw("[1]"))
    );
}

#[tokio::test]
async fn the_next_attempt_opens_a_final_row_and_keeps_its_history() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url).await;
    create(&store, call("e")).await;
    apply(&store, success("e", "[1]")).await;
    cluster.psql(
        &url,
        "UPDATE envelopes SET attempt = 2, status = 'running', outcome = NULL, result = NULL, result_json = NULL
         WHERE id = 'e'",
    );
    assert_eq!(get(&store, "e").await.status, Status::Running);
    let cancelled = Report {
        attempt: 2,
        ..report(
            "e",
            ReportEvent::Cancelled {
                reason: String::new(),
            },
        )
    };
    assert!(matches!(apply(&store, cancelled).await, Applied::Changed { .. }));
    let record = get(&store, "e").await;
    assert_eq!((record.outcome, record.result), (Some(Outcome::Cancelled), None));
    let history = store.updates("e", 0, 10).await.unwrap();
    assert_eq!(history[0].result, Some(raw("[1]")));
    assert_eq!((history[0].attempt, history[1].attempt), (1, 2));
}

#[tokio::test]
async fn the_hourly_cleaning_of_the_original_moves_the_beginning_of_the_feed() {
    let cluster = Cluster::shared();
    let url = cluster.database();
    let store = open(&url).await;
    create(&store, call("e")).await;
    apply(&store, success("e", "[1]")).await;
    let (_, before) = store.feed_bounds().await.unwrap();
    // Updates older than a day of envelopes that have been final for a day; here: all that is final.
    cluster.psql(
        &url,
        "DELETE FROM envelope_updates WHERE timestamp < NOW() AND envelope_id IN (
             SELECT id FROM envelopes WHERE status IN ('succeeded', 'failed') AND updated_at < NOW())",
    );
    assert!(store.updates("e", 0, 10).await.unwrap().is_empty());
    let (end, oldest) = store.feed_bounds().await.unwrap();
    assert!(oldest > before && end >= oldest, "{before:?} {oldest:?} {end:?}");
    assert_eq!(get(&store, "e").await.result, Some(raw("[1]")));
}
