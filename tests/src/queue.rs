//! The embedded queue, opened from outside: what no command would send, and what is left.

use std::path::Path;
use std::time::Duration;

use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Administration as _, Outgoing, QueueName, Transport as _};
use bytes::Bytes;
use tokio::runtime::Runtime;

/// The queues of one state directory.
pub struct Queue {
    transport: LocalTransport,
    runtime: Runtime,
}

impl Queue {
    /// Opens it; it may be in use by others.
    pub(crate) fn open(state: &Path) -> Self {
        let options = LocalOptions {
            max_message_size: 192 * 1024 * 1024,
            ..LocalOptions::default()
        };
        Self {
            transport: LocalTransport::open(&state.join("queue"), &options).expect("the queue opens"),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime starts"),
        }
    }

    /// Puts any bytes at all into the queue of `actor`.
    pub fn put(&self, actor: &str, message_id: &str, body: impl Into<Bytes>) {
        let queue = QueueName::for_actor(actor);
        let message = Outgoing {
            queue: queue.clone(),
            message_id: message_id.into(),
            body: body.into(),
            delay: Duration::ZERO,
        };
        self.runtime.block_on(async {
            self.transport.declare(&queue).await.expect("a queue is declared");
            self.transport
                .publish(message)
                .await
                .expect("a message is published");
        });
    }

    /// Messages in all queues, dead letters included.
    pub fn messages(&self) -> u64 {
        self.runtime.block_on(async {
            let queues = self.transport.list().await.expect("queues are listed");
            let mut sum = 0;
            for queue in &queues {
                sum += self
                    .transport
                    .depth(queue)
                    .await
                    .expect("messages are counted")
                    .total();
            }
            sum
        })
    }
}
