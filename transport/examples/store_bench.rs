//! Measures the embedded queue: bare SQLite transactions, then [`LocalTransport`] on top of them.
//!
//! `cargo run --release -p asya-transport --example store_bench -- [directory]`
//!
//! The directory should be on the disk that matters (default: the system's temporary directory). A hop is claim,
//! publish to the next queue, ack of the first. Figures are messages per second of one process.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use asya_transport::local::{Durability, LocalOptions, LocalTransport};
use asya_transport::{Administration, Outgoing, QueueName, Settlement, Transport};
use bytes::Bytes;
use futures::future::try_join_all;
use rusqlite::{Connection, TransactionBehavior, params};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BODY: usize = 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let parent = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let body = vec![b'x'; BODY];
    println!("bodies of {BODY} bytes, files in {}", parent.display());

    println!("\nbare SQLite, one table         batch   enqueue/s       hop/s");
    for synchronous in ["FULL", "NORMAL"] {
        for (batch, count) in [(1, 3_000), (100, 60_000)] {
            let directory = tempfile::tempdir_in(&parent)?;
            let (enqueue, hop) = bare(directory.path(), synchronous, batch, count, &body)?;
            println!("  synchronous={synchronous:<18} {batch:>5} {enqueue:>11.0} {hop:>11.0}");
        }
    }

    println!("\nLocalTransport             in flight   publish/s       hop/s   processor per hop");
    for durability in [Durability::Power, Durability::Process] {
        for (in_flight, count) in [(1, 3_000), (100, 120_000)] {
            let directory = tempfile::tempdir_in(&parent)?;
            let options = LocalOptions {
                durability,
                ..LocalOptions::default()
            };
            let transport = LocalTransport::open(directory.path(), &options)?;
            let publish = publish(&transport, in_flight, count, &body).await?;
            let before = processor_time()?;
            let hop = hops(&transport, in_flight, count).await?;
            let used = processor_time()?.saturating_sub(before) / count;
            let durability = format!("{durability:?}");
            println!("  {durability:<22} {in_flight:>11} {publish:>11.0} {hop:>11.0} {used:>19.1?}");
        }
    }

    println!(
        "\npublish, claim and ack of {} messages, 100 in flight at most",
        200_000
    );
    let directory = tempfile::tempdir_in(&parent)?;
    let transport = LocalTransport::open(directory.path(), &LocalOptions::default())?;
    let before = processor_time()?;
    let rate = through(&transport, 100, 200_000, &body).await?;
    let used = processor_time()?.saturating_sub(before) / 200_000;
    println!("  {rate:.0} messages/s, {used:.1?} of processor time each");

    wake_up(&parent).await?;
    large(&parent).await?;
    idle(&parent).await
}

/// Enqueues and hops per second with transactions of `batch` messages.
fn bare(directory: &Path, synchronous: &str, batch: u32, count: u32, body: &[u8]) -> Result<(f64, f64)> {
    let mut connection = Connection::open(directory.join("bare.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.execute_batch(
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, queue INTEGER, leased INTEGER, body BLOB);
         CREATE INDEX ready ON messages (queue, id) WHERE leased IS NULL;",
    )?;
    let insert = "INSERT INTO messages (queue, body) VALUES (?1, ?2)";
    let enqueue = rate(count, || {
        for _ in 0..count / batch {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for _ in 0..batch {
                transaction.prepare_cached(insert)?.execute(params![1, body])?;
            }
            transaction.commit()?;
        }
        Ok(())
    })?;
    let claim = "UPDATE messages SET leased = 1 WHERE id IN (SELECT id FROM messages \
                 WHERE queue = 1 AND leased IS NULL ORDER BY id LIMIT ?1) RETURNING id, body";
    let hop = rate(count, || {
        for _ in 0..count / batch {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let claimed: Vec<(i64, Vec<u8>)> = transaction
                .prepare_cached(claim)?
                .query_map([batch], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<_>>()?;
            transaction.commit()?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (id, body) in claimed {
                transaction.prepare_cached(insert)?.execute(params![2, body])?;
                transaction
                    .prepare_cached("DELETE FROM messages WHERE id = ?1")?
                    .execute([id])?;
            }
            transaction.commit()?;
        }
        Ok(())
    })?;
    Ok((enqueue, hop))
}

fn rate(count: u32, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

fn message(queue: &QueueName, body: Bytes) -> Outgoing {
    // As long as the identifiers of real messages.
    let message_id = "2f1c8b9e-6f0e-5b7a-9d55-0a3c4f7e1b22".to_owned();
    Outgoing {
        queue: queue.clone(),
        message_id,
        body,
        delay: Duration::ZERO,
    }
}

/// `in_flight` tasks that each await every confirmation.
async fn publish(transport: &LocalTransport, in_flight: u32, count: u32, body: &[u8]) -> Result<f64> {
    let queue = QueueName::for_actor("first");
    transport.declare(&queue).await?;
    transport.declare(&QueueName::for_actor("second")).await?;
    let body = Bytes::copy_from_slice(body);
    let started = Instant::now();
    let tasks = (0..in_flight).map(|_| {
        let (transport, message) = (transport.clone(), message(&queue, body.clone()));
        tokio::spawn(async move {
            for _ in 0..count / in_flight {
                transport.publish(message.clone()).await?;
            }
            Ok::<_, asya_transport::PublishError>(())
        })
    });
    for done in try_join_all(tasks).await? {
        done?;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Moves `count` messages to the next queue, each in a task of its own, at most `in_flight` at once.
async fn hops(transport: &LocalTransport, in_flight: u32, count: u32) -> Result<f64> {
    let (first, second) = (QueueName::for_actor("first"), QueueName::for_actor("second"));
    let mut consumer = transport.consume(&first).await?;
    let mut running = tokio::task::JoinSet::new();
    let started = Instant::now();
    let mut taken = 0;
    while taken < count {
        let credit = in_flight as usize - running.len();
        let deliveries = consumer.receive(credit).await?;
        for delivery in deliveries {
            taken += 1;
            let (transport, second) = (transport.clone(), second.clone());
            running.spawn(async move {
                transport.publish(message(&second, delivery.body)).await?;
                delivery.receipt.settle(Settlement::Ack).await?;
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            });
        }
        if running.len() >= in_flight as usize
            && let Some(done) = running.join_next().await
        {
            done?.map_err(|error| error.to_string())?;
        }
        while let Some(done) = running.try_join_next() {
            done?.map_err(|error| error.to_string())?;
        }
    }
    while let Some(done) = running.join_next().await {
        done?.map_err(|error| error.to_string())?;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}

/// Publish, claim and ack on one queue, publisher and consumer side by side.
async fn through(transport: &LocalTransport, in_flight: usize, count: usize, body: &[u8]) -> Result<f64> {
    let queue = QueueName::for_actor("through");
    transport.declare(&queue).await?;
    let body = Bytes::copy_from_slice(body);
    let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(in_flight));
    let mut consumer = transport.consume(&queue).await?;
    let started = Instant::now();
    let consuming = {
        let permits = permits.clone();
        tokio::spawn(async move {
            let mut left = count;
            while left > 0 {
                let deliveries = consumer.receive(in_flight).await?;
                left -= deliveries.len();
                for delivery in deliveries {
                    let permits = permits.clone();
                    let settled = delivery.receipt.settle(Settlement::Ack);
                    tokio::spawn(async move {
                        let settled = settled.await;
                        permits.add_permits(1);
                        settled
                    });
                }
            }
            Ok::<_, asya_transport::ConsumeError>(())
        })
    };
    for _ in 0..count {
        permits.acquire().await?.forget();
        // Confirmations are awaited by the consumer, who gets no message before them.
        drop(transport.publish(message(&queue, body.clone())));
    }
    consuming.await??;
    Ok(f64::from(u32::try_from(count)?) / started.elapsed().as_secs_f64())
}

/// Time from publish to receive of a waiting consumer, in the same process but through another opened transport.
async fn wake_up(parent: &Path) -> Result<()> {
    let directory = tempfile::tempdir_in(parent)?;
    let here = LocalTransport::open(directory.path(), &LocalOptions::default())?;
    let there = LocalTransport::open(directory.path(), &LocalOptions::default())?;
    let queue = QueueName::for_actor("wake");
    here.declare(&queue).await?;
    for (name, consuming) in [
        ("same transport", &here),
        ("another transport on the file", &there),
    ] {
        let mut times = Vec::new();
        for _ in 0..50 {
            let mut consumer = consuming.consume(&queue).await?;
            let waiting = tokio::spawn(async move {
                let deliveries = consumer.receive(1).await;
                (deliveries, Instant::now())
            });
            tokio::time::sleep(Duration::from_millis(37)).await;
            let started = Instant::now();
            here.publish(message(&queue, Bytes::from_static(b"wake"))).await?;
            let (deliveries, woken) = waiting.await?;
            times.push(woken.duration_since(started));
            for delivery in deliveries? {
                delivery.receipt.settle(Settlement::Ack).await?;
            }
        }
        times.sort_unstable();
        println!(
            "\nwake-up, {name}: median {:.1?}, slowest {:.1?}",
            times[25], times[49]
        );
    }
    Ok(())
}

/// Bodies of 64 MiB.
async fn large(parent: &Path) -> Result<()> {
    let directory = tempfile::tempdir_in(parent)?;
    let transport = LocalTransport::open(directory.path(), &LocalOptions::default())?;
    let queue = QueueName::for_actor("large");
    transport.declare(&queue).await?;
    let body = Bytes::from(vec![b'x'; 64 * 1024 * 1024]);
    let started = Instant::now();
    transport.publish(message(&queue, body)).await?;
    let published = started.elapsed();
    let started = Instant::now();
    let deliveries = transport.consume(&queue).await?.receive(1).await?;
    let received = started.elapsed();
    let started = Instant::now();
    deliveries[0].receipt.settle(Settlement::Ack).await?;
    let acked = started.elapsed();
    println!("\n64 MiB body: publish {published:.0?}, receive {received:.0?}, ack {acked:.0?}");
    Ok(())
}

/// Processor time of a transport with one waiting consumer, and with none.
async fn idle(parent: &Path) -> Result<()> {
    let directory = tempfile::tempdir_in(parent)?;
    let transport = LocalTransport::open(directory.path(), &LocalOptions::default())?;
    let queue = QueueName::for_actor("idle");
    transport.declare(&queue).await?;
    for (name, waiting) in [("no consumer", false), ("one waiting consumer", true)] {
        let mut consumer = transport.consume(&queue).await?;
        let receiving = async {
            if waiting {
                let _nothing_comes = consumer.receive(1).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let (before, span) = (processor_time()?, Duration::from_secs(10));
        let _elapsed = tokio::time::timeout(span, receiving).await;
        let used = processor_time()?.saturating_sub(before);
        println!(
            "\nidle, {name}: {:.3} % of one core",
            used.as_secs_f64() / span.as_secs_f64() * 100.0
        );
    }
    Ok(())
}

/// Processor time of all threads of this process so far (Linux).
fn processor_time() -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in std::fs::read_dir("/proc/self/task")? {
        let statistics = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let nanoseconds = statistics.split(' ').next().ok_or("schedstat is empty")?;
        total += Duration::from_nanos(nanoseconds.parse()?);
    }
    Ok(total)
}
