//! Calls a second that are durable when they are answered, beside a bare loop of inserts into the same store.
//!
//! *Ours*: 64 callers at the core, each with the next call as soon as the last one was answered; envelope and outbox
//! row in one transaction, then the message into the embedded queue, then the status. *Beside*: one row of the same
//! size in one transaction, as often as it goes: in one loop on SQLite, which writes one transaction at a time, and in
//! as many loops as our pool has connections on PostgreSQL. Both with the same promise: on the disk when it is
//! answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use asya_gateway::auth::Caller;
use asya_gateway::core::{Gateway, GatewayOptions, ToolBook, ToolCall};
use asya_gateway_store::Store;
use asya_gateway_store::postgres::{Address, PostgresOptions, PostgresStore};
use asya_gateway_store::sqlite::{SqliteOptions, SqliteStore};
use asya_runtime_protocol::RawJson;
use asya_tests::postgres::{Cluster, Durability};
use asya_transport::local::LocalOptions;
use futures::future::try_join_all;
use sqlx::{Connection as _, Executor as _};

use super::{ACTORS, Outcome, tools};
use crate::figures::Row;
use crate::measure::Options;
use crate::meter::as_f64;
use crate::stage::Stage;

/// The name of this section.
pub const SECTION: &str = "gateway-submits";

/// Callers at once.
const CALLERS: usize = 64;

/// Bytes of the arguments, and of a row of the bare loop.
const SIZE: usize = 1024;

/// The rows of this section.
pub(super) async fn measure(options: &Options, say: &dyn Fn(&str)) -> Result<Outcome> {
    let mut rows = vec![sqlite(options, say).await?];
    if Cluster::is_installed() {
        rows.push(postgres(options, say).await?);
    } else {
        say("gateway-submits: PostgreSQL is not installed, measured on SQLite alone");
    }
    Ok(Outcome::Measured(rows))
}

async fn sqlite(options: &Options, say: &dyn Fn(&str)) -> Result<Row> {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        say(&format!("{SECTION}: SQLite, round {round} of {}", options.rounds));
        let stage = Stage::new(&options.directory, &LocalOptions::default())?;
        let store = SqliteStore::open(stage.path("gateway.db"), SqliteOptions::default()).await?;
        ours.push(submits(&stage, Arc::new(store), options.stretch).await?);
        bare.push(bare_sqlite(&stage, options.stretch)?);
    }
    Ok(Row::rates(SECTION, "SQLite, 64 callers", &ours, ("bare insert loop", &bare)).aim(0.5))
}

async fn postgres(options: &Options, say: &dyn Fn(&str)) -> Result<Row> {
    let cluster = tokio::task::spawn_blocking(|| Cluster::start(Durability::Crash)).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        say(&format!(
            "{SECTION}: PostgreSQL, round {round} of {}",
            options.rounds
        ));
        let stage = Stage::new(&options.directory, &LocalOptions::default())?;
        let url = cluster.database();
        let settings = PostgresOptions::new(Address::parse(&url)?);
        let connections = settings.pool.max_connections;
        let store = PostgresStore::connect(settings).await?;
        ours.push(submits(&stage, Arc::new(store), options.stretch).await?);
        bare.push(bare_postgres(&url, connections, options.stretch).await?);
    }
    Ok(Row::rates(
        SECTION,
        "PostgreSQL, 64 callers",
        &ours,
        ("bare inserts, 10 loops", &bare),
    )
    .aim(0.5))
}

/// Calls a second.
async fn submits(stage: &Stage, store: Arc<dyn Store>, stretch: Duration) -> Result<f64> {
    stage.declare(&ACTORS).await?;
    let transport = Arc::new(stage.transport.clone());
    let tools = ToolBook::fixed(tools(stage.path("").as_path())?);
    let gateway = Gateway::start(GatewayOptions::new(store, transport, tools)).await;
    let arguments = RawJson::from_value(&serde_json::json!({"text": "x".repeat(SIZE)}))?;
    let count = AtomicU64::new(0);
    let started = Instant::now();
    let callers = (0..CALLERS).map(|_| async {
        let caller = Caller::anonymous();
        while started.elapsed() < stretch {
            let call = ToolCall {
                tool: "work".into(),
                arguments: Some(arguments.clone()),
                idempotency_key: None,
                headers: None,
            };
            gateway.submit(&caller, call).await?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        anyhow::Ok(())
    });
    try_join_all(callers).await?;
    let rate = as_f64(count.into_inner()) / started.elapsed().as_secs_f64();
    gateway.close(Duration::from_secs(10)).await;
    Ok(rate)
}

fn bare_sqlite(stage: &Stage, stretch: Duration) -> Result<f64> {
    let file = rusqlite::Connection::open(stage.path("bare.db"))?;
    file.pragma_update(None, "journal_mode", "WAL")?;
    file.pragma_update(None, "synchronous", "FULL")?;
    file.execute("CREATE TABLE rows (id TEXT PRIMARY KEY, body TEXT NOT NULL)", [])?;
    let body = "x".repeat(SIZE);
    let mut insert = file.prepare("INSERT INTO rows VALUES (?1, ?2)")?;
    let (started, mut count) = (Instant::now(), 0);
    while started.elapsed() < stretch {
        insert.execute((format!("row-{count}"), &body))?;
        count += 1;
    }
    Ok(as_f64(count) / started.elapsed().as_secs_f64())
}

async fn bare_postgres(url: &str, loops: u32, stretch: Duration) -> Result<f64> {
    let mut first = sqlx::PgConnection::connect(url).await?;
    first
        .execute("CREATE TABLE rows (id text PRIMARY KEY, body text NOT NULL)")
        .await?;
    let (body, count) = ("x".repeat(SIZE), AtomicU64::new(0));
    let started = Instant::now();
    let loops = (0..loops).map(|number| {
        let (body, count) = (&body, &count);
        async move {
            let mut connection = sqlx::PgConnection::connect(url).await?;
            let mut row = 0;
            while started.elapsed() < stretch {
                sqlx::query("INSERT INTO rows VALUES ($1, $2)")
                    .bind(format!("row-{number}-{row}"))
                    .bind(body)
                    .execute(&mut connection)
                    .await?;
                row += 1;
                count.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        }
    });
    try_join_all(loops).await?;
    Ok(as_f64(count.into_inner()) / started.elapsed().as_secs_f64())
}
