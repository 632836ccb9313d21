//! One at a time, over all clusters: an exclusive queue that only one connection can have.

use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;

use super::{Connection, Instant, QueueName, Refusal, is, owners, queue_name, topology};

/// How long somebody else may take.
const WAIT: Duration = Duration::from_secs(8);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// Does `work` while nobody else makes or gives up this queue. A user who may not declare the lock works without it:
/// such a user can neither make nor delete queues.
pub(super) async fn locked<T>(
    connection: &Connection,
    queue: &QueueName,
    work: impl Future<Output = lapin::Result<T>>,
) -> lapin::Result<T> {
    let Some(name) = queue_name(&QueueName::from_full_name(&format!("{}.lock", owners(queue)))) else {
        return work.await;
    };
    let started = Instant::now();
    let held = loop {
        let channel = topology::channel(connection).await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        match channel
            .queue_declare(name.clone(), options, FieldTable::default())
            .await
        {
            Ok(_) => break true,
            Err(error) if is(&error, Refusal::Access) => break false,
            Err(error) if is(&error, Refusal::Locked) && started.elapsed() < WAIT => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    };
    let done = work.await;
    if held && connection.status().connected() {
        let channel = topology::channel(connection).await?;
        channel.queue_delete(name, QueueDeleteOptions::default()).await?;
    }
    done
}
