//! What the measurements share: a queue in a directory of its own, messages to move, and a native echo.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use asya_runtime_protocol::{Handler, HandlerItem, RequestEnvelope, ServeError, ServerOptions, serve};
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Administration as _, Outgoing, QueueName, Transport as _};
use bytes::Bytes;
use futures::future::try_join_all;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::meter::Meter;

/// Publishes awaited together when a queue is filled.
const FILL: usize = 512;

/// An embedded queue in a directory that goes away with it.
#[derive(Debug)]
pub struct Stage {
    /// The queue.
    pub transport: LocalTransport,
    directory: TempDir,
}

impl Stage {
    /// Opens a new one below `parent`.
    pub fn new(parent: &Path, options: &LocalOptions) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("asya-bench-")
            .tempdir_in(parent)?;
        let transport = LocalTransport::open(&directory.path().join("queue"), options)?;
        Ok(Self { transport, directory })
    }

    /// A path inside the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Declares the queues of these actors.
    pub async fn declare(&self, actors: &[&str]) -> Result<()> {
        for actor in actors {
            self.transport.declare(&QueueName::for_actor(actor)).await?;
        }
        Ok(())
    }

    /// Publishes `count` messages to `actor`, the n-th with the body that `body` gives for n.
    pub async fn fill(&self, actor: &str, count: u64, body: impl Fn(u64) -> Bytes) -> Result<()> {
        fill(&self.transport, actor, count, |number| {
            (number.to_string(), body(number))
        })
        .await
    }
}

/// Publishes `count` messages to the queue of `actor`; `message` gives message id and body of the n-th.
pub async fn fill(
    transport: &LocalTransport,
    actor: &str,
    count: u64,
    message: impl Fn(u64) -> (String, Bytes),
) -> Result<()> {
    let queue = QueueName::for_actor(actor);
    let mut numbers = 0..count;
    loop {
        let outgoing = numbers.by_ref().take(FILL).map(|number| {
            let (message_id, body) = message(number);
            transport.publish(Outgoing {
                queue: queue.clone(),
                message_id,
                body,
                delay: Duration::ZERO,
            })
        });
        if try_join_all(outgoing)
            .await
            .with_context(|| format!("cannot fill the queue {queue}"))?
            .is_empty()
        {
            return Ok(());
        }
    }
}

const TEXT: &str = "The quick brown fox jumps over the lazy dog. ";

/// An envelope of exactly `size` bytes (if its frame is not longer) for the route `actors`, with a payload of text.
#[must_use]
pub fn envelope(number: u64, actors: &str, size: usize) -> Bytes {
    let head = format!(
        r#"{{"id":"bench-{number:08}","route":{{"actors":[{actors}],"current":0}},"payload":{{"number":{number},"text":""#
    );
    let tail = r#""}}"#;
    let filling = size.saturating_sub(head.len() + tail.len());
    let text = TEXT.repeat(filling.div_ceil(TEXT.len()));
    Bytes::from([&head, &text[..filling], tail].concat())
}

/// A native echo behind a real socket, in this process.
#[derive(Debug)]
pub struct Echo {
    stop: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Echo {
    /// Serves in `socket_dir`, at most `concurrency` calls at a time; each call ticks `meter`.
    #[must_use]
    pub fn start(socket_dir: &Path, concurrency: usize, meter: Option<Arc<Meter>>) -> Self {
        let options = ServerOptions {
            concurrency: NonZeroUsize::new(concurrency).unwrap_or(NonZeroUsize::MIN),
            ..ServerOptions::new(socket_dir)
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(options, echo(meter), stop.clone().cancelled_owned()));
        Self { stop, task }
    }

    /// Ends it.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.task.await??)
    }
}

fn echo(meter: Option<Arc<Meter>>) -> impl Handler {
    move |request: RequestEnvelope| {
        if let Some(meter) = &meter {
            meter.tick();
        }
        std::future::ready(Ok(vec![HandlerItem::Payload(request.payload())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use asya_runtime_protocol::Envelope;

    #[test]
    fn an_envelope_has_the_size_that_was_asked_for() {
        for size in [1024, 64 * 1024] {
            let body = envelope(7, r#""work""#, size);
            assert_eq!(body.len(), size);
            let parsed = Envelope::parse(&body).unwrap().envelope;
            assert_eq!(
                (parsed.id.as_str(), parsed.route.current_actor()),
                ("bench-00000007", Some("work"))
            );
        }
    }
}
