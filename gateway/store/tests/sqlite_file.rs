//! What happens to the file: it is killed under, full, damaged, foreign, and shared.
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what tests share"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_gateway_store::{
    Applied, Created, Final, FinalSuccess, NewEnvelope, OutboxMessage, Phase, Progress, Report, ReportEvent,
    Status, Store, StoreError, View,
};
use asya_runtime_protocol::RawJson;
use chrono::Utc;
use futures::future::join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Row};
use tempfile::TempDir;

const LONG: Duration = Duration::from_hours(1);
/// The file that a child of these tests writes to until it is killed.
const CHILD: &str = "ASYA_TEST_SQLITE_CHILD";

fn raw(text: &str) -> RawJson {
    RawJson::parse(text.as_bytes().to_vec()).unwrap()
}

fn call(id: &str, payload: RawJson) -> NewEnvelope {
    NewEnvelope {
        id: id.to_owned(),
        parent_id: None,
        tenant: None,
        tool: None,
        status: Status::Pending,
        actors: vec!["one".into(), "two".into()],
        route_current: 0,
        route_metadata: None,
        headers: None,
        payload: Some(payload),
        timeout: None,
        deadline: None,
        created_at: Utc::now(),
        idempotency: None,
        outbox: Some(OutboxMessage {
            actor: "one".into(),
            message_id: format!("{id}/0/1/0"),
            body: id.to_owned().into(),
        }),
    }
}

fn report(id: &str, event: ReportEvent) -> Report {
    Report {
        envelope_id: id.to_owned(),
        attempt: 1,
        at: Utc::now(),
        event,
    }
}

fn progress(id: &str) -> Report {
    let said = Progress {
        phase: Some(Phase::Received),
        ..Progress::default()
    };
    report(id, ReportEvent::Progress(said))
}

fn success(id: &str) -> Report {
    let said = FinalSuccess {
        result: Some(RawJson::from_text(id)),
        ..FinalSuccess::default()
    };
    report(id, ReportEvent::Final(Final::Succeeded(said)))
}

async fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, SqliteOptions::default()).await.unwrap()
}

async fn refused(path: &Path) -> StoreError {
    SqliteStore::open(path, SqliteOptions::default())
        .await
        .unwrap_err()
}

/// A connection that knows nothing of our rules.
async fn shell(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(10))
        .create_if_missing(true)
        .connect()
        .await
        .unwrap()
}

async fn execute(connection: &mut SqliteConnection, sql: &'static str) -> Result<u64, String> {
    let done = sqlx::query(sql).execute(connection).await;
    done.map(|done| done.rows_affected())
        .map_err(|error| error.to_string())
}

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.db");
    (directory, path)
}

// ---- killed ----

/// The process that is killed. It says what was answered, line by line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "no test of its own: another one starts it and kills it"]
async fn a_child_writes_until_it_is_killed() {
    let path = std::env::var_os(CHILD).expect("it is started by a test that says where to write");
    let store = Arc::new(open(Path::new(&path)).await);
    let writers = (0..8).map(|_| tokio::spawn(write_for_ever(Arc::clone(&store))));
    for writer in join_all(writers).await {
        writer.unwrap();
    }
}

async fn write_for_ever(store: Arc<SqliteStore>) {
    for number in 0_u64.. {
        let id = format!("{}-{number}", uuid::Uuid::new_v4());
        let created = store.create(call(&id, raw("1.0")), LONG).await.unwrap();
        assert!(matches!(created, Created::New(_)), "{created:?}");
        say("created", &id);
        let answers = store.apply(vec![progress(&id)]).await.unwrap();
        assert!(matches!(answers[..], [Applied::Changed { .. }]), "{answers:?}");
        say("received", &id);
        if number % 2 == 0 {
            let answers = store.apply(vec![success(&id)]).await.unwrap();
            assert!(matches!(answers[..], [Applied::Changed { .. }]), "{answers:?}");
            say("succeeded", &id);
        }
    }
}

fn say(what: &str, id: &str) {
    let mut out = std::io::stdout().lock();
    // The line begins after what the test harness has written.
    out.write_all(format!("\nsaid {what} {id} .\n").as_bytes())
        .unwrap();
    out.flush().unwrap();
}

fn child(path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "a_child_writes_until_it_is_killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Stores an envelope while another process writes without a pause. SQLite hands its lock to nobody in turn, so the wait
/// for it may pass; whoever is told so asks again.
async fn create_beside(store: &SqliteStore, id: &str) {
    for _ in 0..5 {
        match store.create(call(id, raw("null")), LONG).await {
            Err(StoreError::Unavailable(_)) => {}
            created => return assert!(matches!(created.unwrap(), Created::New(_))),
        }
    }
    panic!("the other process keeps the file to itself");
}

/// Everything that was answered before the kill is there; nothing is there by half. A second process has the file open
/// all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kill_9() {
    let (_directory, path) = place();
    let other = open(&path).await;
    for round in 0..4 {
        let mut child = child(&path);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = Vec::new();
        let enough = 40 + 137 * round;
        while said.len() < enough {
            let line = lines.next().expect("the child writes").unwrap();
            said.extend(word(&line));
        }
        create_beside(&other, &format!("other {round}")).await;
        child.kill().unwrap();
        child.wait().unwrap();
        // What was in the pipe had been answered, too; the last line may be torn.
        said.extend(lines.map_while(Result::ok).filter_map(|line| word(&line)));
        let store = open(&path).await;
        for (what, id) in &said {
            check(&store, what, id).await;
        }
        assert!(
            store
                .get(&format!("other {round}"), View::Full)
                .await
                .unwrap()
                .is_some()
        );
    }
    let sound = sqlx::query("PRAGMA integrity_check")
        .fetch_one(&mut shell(&path).await)
        .await;
    assert_eq!(sound.unwrap().get::<String, _>(0), "ok");
    nothing_is_there_by_half(&path).await;
}

fn word(line: &str) -> Option<(String, String)> {
    // Without its dot it was torn by the kill.
    let said = line.strip_prefix("said ")?.strip_suffix(" .")?;
    let (what, id) = said.split_once(' ')?;
    Some((what.to_owned(), id.to_owned()))
}

async fn check(store: &SqliteStore, what: &str, id: &str) {
    let record = store.get(id, View::Full).await.unwrap();
    let record = record.unwrap_or_else(|| panic!("{id} was {what} and is lost"));
    assert_eq!(record.payload, Some(raw("1.0")));
    match what {
        "created" => {}
        "received" => assert_ne!(record.status, Status::Pending, "{id}"),
        _ => {
            assert_eq!(record.status, Status::Succeeded, "{id}");
            assert_eq!(record.result, Some(RawJson::from_text(id)));
            assert!(store.updates(id, 0, 10).await.unwrap()[1].is_final());
        }
    }
}

/// Each envelope has its payload; what is not final has its message, what is final has none.
async fn nothing_is_there_by_half(path: &Path) {
    let sql =
        "SELECT count(*) FROM envelopes AS e WHERE NOT EXISTS (SELECT 1 FROM contents WHERE envelope = e.n)
        OR EXISTS (SELECT 1 FROM outbox WHERE envelope = e.n) <> (e.status NOT IN ('succeeded', 'failed'))
        OR e.version <> 1 + (SELECT count(*) FROM updates WHERE envelope = e.n)";
    let row = sqlx::query(sql).fetch_one(&mut shell(path).await).await.unwrap();
    assert_eq!(row.get::<i64, _>(0), 0);
}

// ---- full, unwritable, damaged, foreign ----

/// A full file refuses what is new in words that help, and works on with what fits.
#[tokio::test]
async fn a_full_file_says_so_and_goes_on() {
    let (_directory, path) = place();
    let options = SqliteOptions {
        max_size: Some(1 << 20),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&path, options).await.unwrap();
    let big = RawJson::from_text(&"x".repeat(2 << 20));
    // All at once, so that they are one group: the big one must not take the others along.
    let calls = (0..9).map(|number| {
        let payload = if number == 4 { big.clone() } else { raw("1") };
        store.create(call(&format!("e{number}"), payload), LONG)
    });
    for (number, answer) in join_all(calls).await.into_iter().enumerate() {
        if number == 4 {
            let error = answer.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
            let words = error.to_string();
            assert!(
                words.contains("make room") && words.contains("gateway.db"),
                "{words}"
            );
        } else {
            assert!(matches!(answer.unwrap(), Created::New(_)));
        }
    }
    assert!(store.get("e4", View::Full).await.unwrap().is_none());
    let answers = store.apply(vec![success("e3")]).await.unwrap();
    assert!(matches!(answers[..], [Applied::Changed { .. }]));
    assert_eq!(store.outbox_depth().await.unwrap().waiting, 7);
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named() {
    let (directory, path) = place();
    fs::write(&path, "").unwrap();
    for bad in [
        Path::new("/proc/asya/gateway.db"),
        &path.join("gateway.db"),
        directory.path(),
    ] {
        let error = refused(bad).await;
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        let words = error.to_string();
        assert!(
            words.contains(&*bad.parent().unwrap().to_string_lossy()),
            "{words}"
        );
        assert!(words.contains("check the path and its permissions"), "{words}");
    }
}

#[tokio::test]
async fn another_file_is_not_touched() {
    let (_directory, path) = place();
    let text = "these are my notes, not a database. ".repeat(100);
    fs::write(&path, &text).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
    assert!(error.to_string().contains("it is no SQLite database"), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[tokio::test]
async fn the_database_of_another_program_is_not_touched() {
    let (_directory, path) = place();
    let mut other = shell(&path).await;
    execute(&mut other, "CREATE TABLE envelopes (id)").await.unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, StoreError::Schema(_)), "{error:?}");
    assert!(
        error.to_string().contains("a database of another program"),
        "{error}"
    );
    let tables = sqlx::query("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut other)
        .await;
    assert_eq!(tables.unwrap().get::<i64, _>(0), 1);
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let (_directory, path) = place();
    open(&path).await.close().await;
    execute(&mut shell(&path).await, "PRAGMA user_version = 1000")
        .await
        .unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, StoreError::Schema(_)), "{error:?}");
    assert!(error.to_string().contains("used by a newer gateway"), "{error}");
}

#[tokio::test]
async fn damage_is_told() {
    let (_directory, path) = place();
    let store = open(&path).await;
    for number in 0..300 {
        let payload = RawJson::from_text(&"x".repeat(2000));
        store
            .create(call(&format!("e{number}"), payload), LONG)
            .await
            .unwrap();
    }
    store.close().await;
    let mut file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    // All but the schema, which is in the first pages.
    file.seek(SeekFrom::Start(25 * 4096)).unwrap();
    file.write_all(&vec![0xA5; bytes.len() - 25 * 4096]).unwrap();
    drop(file);
    let store = open(&path).await;
    let mut errors = Vec::new();
    for number in 0..300 {
        let read = store.get(&format!("e{number}"), View::Full).await;
        errors.extend(read.err());
    }
    let error = errors.first().expect("nothing was damaged");
    assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
    assert!(error.to_string().contains("restore it from a backup"), "{error}");
}

// ---- shared ----

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    let (directory, _) = place();
    let path = directory.path().join("a/b/gateway.db");
    let store = open(&path).await;
    store.create(call("e", raw("1")), LONG).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        let mode = fs::metadata(&name).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name:?}");
    }
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let (_directory, path) = place();
    let store = open(&path).await;
    store
        .create(call("e", raw("[1.0]")), Duration::ZERO)
        .await
        .unwrap();
    store.apply(vec![progress("e")]).await.unwrap();
    store.close().await;
    for answer in [
        store.create(call("f", raw("1")), LONG).await.map(drop),
        store.get("e", View::Full).await.map(drop),
    ] {
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    }
    let store = open(&path).await;
    let record = store.get("e", View::Full).await.unwrap().unwrap();
    assert_eq!(
        (record.status, record.payload),
        (Status::Running, Some(raw("[1.0]")))
    );
    assert_eq!(store.claim_outbox(10, LONG).await.unwrap()[0].envelope_id, "e");
}

/// Whoever opens the file with a shell is held to the same rules.
#[tokio::test]
async fn the_tables_know_the_rules() {
    let (_directory, path) = place();
    let store = open(&path).await;
    for id in ["done", "working"] {
        store.create(call(id, raw("1")), LONG).await.unwrap();
        store.apply(vec![progress(id)]).await.unwrap();
    }
    store.apply(vec![success("done")]).await.unwrap();
    let mut shell = shell(&path).await;
    for (sql, rule) in [
        (
            "UPDATE envelopes SET status = 'running' WHERE id = 'done'",
            "a final status stands",
        ),
        (
            "UPDATE envelopes SET status = 'failed' WHERE id = 'done'",
            "a final status stands",
        ),
        (
            "UPDATE envelopes SET outcome = NULL WHERE id = 'done'",
            "a final status stands",
        ),
        (
            "UPDATE envelopes SET status = 'pending' WHERE id = 'working'",
            "does not go back",
        ),
        (
            "UPDATE envelopes SET progress_percent = 1 WHERE id = 'done'",
            "progress does not fall",
        ),
        (
            "UPDATE envelopes SET attempt = 0 WHERE id = 'done'",
            "attempts only rise",
        ),
        (
            "UPDATE envelopes SET status = 'weird' WHERE id = 'working'",
            "CHECK constraint failed",
        ),
        (
            "UPDATE envelopes SET progress_percent = 101 WHERE id = 'working'",
            "CHECK constraint failed",
        ),
    ] {
        let refused = execute(&mut shell, sql).await.unwrap_err();
        assert!(refused.contains(rule), "{sql}: {refused}");
    }
    let before = store.get("working", View::Basic).await.unwrap().unwrap().version;
    execute(
        &mut shell,
        "UPDATE envelopes SET message = 'by hand' WHERE id = 'working'",
    )
    .await
    .unwrap();
    let after = store.get("working", View::Basic).await.unwrap().unwrap();
    assert_eq!(
        (after.version, after.message.as_deref()),
        (before + 1, Some("by hand"))
    );
    // Another attempt may begin again.
    let redrive = "UPDATE envelopes SET status = 'running', outcome = NULL, progress_percent = 0, attempt = 2
        WHERE id = 'done'";
    assert_eq!(execute(&mut shell, redrive).await, Ok(1));
    let answers = store.apply(vec![success("done")]).await.unwrap();
    assert!(matches!(answers[..], [Applied::Nothing { .. }]), "{answers:?}");
}

/// Gateways that start together on a new file all find it ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_open_a_new_file_at_once() {
    for round in 0..5 {
        let (_directory, path) = place();
        let opened = (0..8).map(|_| {
            let path = path.clone();
            tokio::spawn(async move { open(&path).await })
        });
        let stores: Vec<_> = join_all(opened).await.into_iter().map(Result::unwrap).collect();
        let calls = stores
            .iter()
            .enumerate()
            .map(|(number, store)| store.create(call(&format!("{round} {number}"), raw("1")), LONG));
        for answer in join_all(calls).await {
            assert!(matches!(answer.unwrap(), Created::New(_)));
        }
        assert_eq!(stores[0].outbox_depth().await.unwrap().waiting, 8);
    }
}

/// Somebody who keeps the file locked is waited for, and then told about.
#[tokio::test]
async fn a_locked_file_is_waited_for() {
    let (_directory, path) = place();
    let options = SqliteOptions {
        busy_timeout: Duration::from_millis(300),
        ..SqliteOptions::default()
    };
    let store = SqliteStore::open(&path, options).await.unwrap();
    let mut shell = shell(&path).await;
    execute(&mut shell, "BEGIN IMMEDIATE").await.unwrap();
    let calls = (0..20).map(|number| store.create(call(&format!("e{number}"), raw("1")), LONG));
    for answer in join_all(calls).await {
        let error = answer.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
        assert!(error.to_string().contains("kept it locked"), "{error}");
    }
    // Reading goes on.
    assert!(store.get("e0", View::Full).await.unwrap().is_none());
    execute(&mut shell, "COMMIT").await.unwrap();
    store.create(call("e0", raw("1")), LONG).await.unwrap();
}
