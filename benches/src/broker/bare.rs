//! The bare loop: consume, publish mandatory with confirm, acknowledge, by the client library alone.
//!
//! In the best form that we know: deliveries and publishes on a connection each, as many publishes under way as the
//! prefetch allows, and one acknowledgement for all messages whose confirms have come together. It gives the same
//! guarantees as a sidecar, and does nothing besides: no parsing, no recovery, and no runtime, unless it is told to call
//! one, one call after the other.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use asya_runtime_protocol::{DEFAULT_MAX_FRAME, RuntimeClient};
use bytes::Bytes;
use futures::stream::{FuturesOrdered, FuturesUnordered, StreamExt as _};
use futures::{FutureExt as _, Stream};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::node::{EXCHANGE, NEXT, STEP, address_of, connect};

/// Longest time for one call of a runtime.
const CALL: Duration = Duration::from_secs(10);

/// A loop on a thread of its own, with a scheduler of its own; ends when dropped.
#[derive(Debug)]
pub struct Bare {
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Bare {
    /// Starts it on the broker at `url`; with a `socket` it calls the runtime there for each message.
    #[must_use]
    pub fn start(url: String, prefetch: u16, socket: Option<PathBuf>) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(run(&url, prefetch, socket, &stopped))
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Ends it once everything that it has in hand is acknowledged.
    pub fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result.context("the bare loop"),
            Some(Err(_)) => Err(anyhow!("the bare loop panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn run(url: &str, prefetch: u16, socket: Option<PathBuf>, stop: &CancellationToken) -> Result<()> {
    let (incoming, outgoing) = (connect(url).await?, connect(url).await?);
    let (consuming, publishing) = (incoming.create_channel().await?, outgoing.create_channel().await?);
    publishing.confirm_select(ConfirmSelectOptions::default()).await?;
    consuming.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = consuming
        .basic_consume(address_of(STEP).into(), "".into(), options, arguments)
        .await?;
    let way = Way {
        publishing,
        runtime: socket.map(|socket| RuntimeClient::new(socket, DEFAULT_MAX_FRAME)),
        turn: Semaphore::new(1),
    };
    move_until(stop, consumer, &consuming, &way).await?;
    // Answered after everything that was sent before: the acknowledgements have been taken in.
    consuming.basic_qos(prefetch, BasicQosOptions::default()).await?;
    incoming.close(200, "done".into()).await?;
    outgoing.close(200, "done".into()).await?;
    Ok(())
}

async fn move_until(
    stop: &CancellationToken,
    consumer: Consumer,
    consuming: &Channel,
    way: &Way,
) -> Result<()> {
    // All that is there at once; one look at the stream for each would be one more wake-up for each.
    let mut arriving = consumer.ready_chunks(usize::from(u16::MAX));
    // In the order of arrival, so that the last of those that are confirmed stands for all before it.
    let mut hops = FuturesOrdered::new();
    let mut acks = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(deliveries) = arriving.next() => {
                for delivery in deliveries {
                    hops.push_back(way.hop(delivery?));
                }
            }
            Some(tag) = hops.next() => {
                let tag = last_ready(&mut hops, tag?)?;
                acks.push(consuming.basic_ack(tag, BasicAckOptions { multiple: true }));
            }
            Some(written) = acks.next() => written?,
            () = stop.cancelled(), if hops.is_empty() && acks.is_empty() => return Ok(()),
        }
    }
}

/// The last of the hops that have ended, of which `tag` is the first.
fn last_ready(hops: &mut (impl Stream<Item = Result<u64>> + Unpin), tag: u64) -> Result<u64> {
    let mut last = tag;
    while let Some(Some(next)) = hops.next().now_or_never() {
        last = next?;
    }
    Ok(last)
}

/// What happens to a message between its delivery and its acknowledgement.
struct Way {
    publishing: Channel,
    runtime: Option<RuntimeClient>,
    turn: Semaphore,
}

impl Way {
    /// Sends a delivery on; returns its tag once the broker has confirmed.
    async fn hop(&self, delivery: Delivery) -> Result<u64> {
        let mut body = delivery.data;
        if let Some(runtime) = &self.runtime {
            let _turn = self.turn.acquire().await?;
            let request = Bytes::from(body);
            runtime.call(request.clone(), CALL).await?;
            body = request.into();
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let (exchange, key) = (EXCHANGE.into(), NEXT.into());
        let sending = self
            .publishing
            .basic_publish(exchange, key, options, &body, delivery.properties);
        let confirmation = sending.await?.await?;
        ensure!(
            confirmation.is_ack() && confirmation.take_message().is_none(),
            "the broker refused a message"
        );
        Ok(delivery.delivery_tag)
    }
}
