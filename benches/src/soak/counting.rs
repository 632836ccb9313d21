//! Looks at every message that is left when the work is done.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use asya_runtime_protocol::Envelope;
use asya_transport::local::{LocalOptions, LocalTransport};
use asya_transport::{Delivery, QueueName, Settlement, Transport as _};
use bytes::Bytes;
use futures::future::try_join_all;

use super::{ACTORS, RESULTS, worker};

/// Messages looked at together.
const BATCH: usize = 512;
/// Longest wait for messages that are there.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is left in the queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Messages in the last queue.
    pub(super) results: u64,
    /// Envelopes that did not come there.
    pub(super) lost: u64,
    /// Messages that came there once more.
    pub(super) duplicates: u64,
    /// Messages there that are not what was sent.
    pub(super) damaged: u64,
    /// Messages in the queues of the three actors.
    pub(super) unfinished: u64,
    /// Messages in any other queue: error-end, dead letters.
    pub(super) given_up: u64,
}

/// Counts what is left in the queues of `state`, and takes the results out.
pub(super) async fn count(state: &Path, envelopes: u64, sent: fn(u64) -> Bytes) -> Result<Count> {
    let transport = LocalTransport::open(&worker::queue(state), &LocalOptions::default())?;
    let results = QueueName::for_actor(RESULTS);
    let actors = ACTORS.map(QueueName::for_actor);
    let mut count = Count::default();
    for (queue, depth) in transport.depths().await? {
        if queue == results {
            count.results = depth.total();
        } else if actors.contains(&queue) {
            count.unfinished += depth.total();
        } else {
            count.given_up += depth.total();
        }
    }
    let mut seen = Seen {
        sent,
        times: vec![0; usize::try_from(envelopes)?],
        damaged: 0,
    };
    let mut consumer = transport.consume(&results).await?;
    let mut left = count.results;
    while left > 0 {
        let received = tokio::time::timeout(PATIENCE, consumer.receive(BATCH)).await;
        let deliveries =
            received.with_context(|| format!("{left} results were counted and do not come"))??;
        left = left.saturating_sub(u64::try_from(deliveries.len())?);
        for delivery in &deliveries {
            seen.look_at(delivery);
        }
        try_join_all(
            deliveries
                .iter()
                .map(|delivery| delivery.receipt.settle(Settlement::Ack)),
        )
        .await?;
    }
    count.damaged = seen.damaged;
    for times in seen.times {
        count.lost += u64::from(times == 0);
        count.duplicates += u64::from(times.saturating_sub(1));
    }
    Ok(count)
}

/// How often each envelope has come.
struct Seen {
    sent: fn(u64) -> Bytes,
    times: Vec<u32>,
    damaged: u64,
}

impl Seen {
    fn look_at(&mut self, delivery: &Delivery) {
        match self.recognise(delivery) {
            Some(times) => *times += 1,
            None => self.damaged += 1,
        }
    }

    /// The counter of the envelope in `delivery`, if it is one that was sent and nothing about it has changed.
    fn recognise(&mut self, delivery: &Delivery) -> Option<&mut u32> {
        let result = Envelope::parse(&delivery.body).ok()?.envelope;
        let number: u64 = result.id.rsplit('-').next()?.parse().ok()?;
        let times = self.times.get_mut(usize::try_from(number).ok()?)?;
        let sent = Envelope::parse(&(self.sent)(number)).ok()?.envelope;
        let hops = ACTORS.len();
        let message_id = asya_runtime_protocol::message_id(&sent.id, u64::try_from(hops).ok()?, 1, 0);
        let intact = result.id == sent.id
            && same_json(
                result.payload.as_ref()?.as_bytes(),
                sent.payload.as_ref()?.as_bytes(),
            )
            && result.route.current_actor().is_none()
            && delivery.message_id.as_deref() == Some(&message_id);
        intact.then_some(times)
    }
}

/// The same value; a Python handler may write it differently.
fn same_json(left: &[u8], right: &[u8]) -> bool {
    let parse = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    left == right || matches!((parse(left), parse(right)), (Some(left), Some(right)) if left == right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::soak::{ERRORS, body};
    use crate::stage::fill;
    use asya_transport::Administration as _;

    const SENT: u64 = 6;

    /// What the third actor publishes for the n-th envelope.
    fn result(number: u64) -> (String, Bytes) {
        let mut envelope = Envelope::parse(&body(number)).unwrap().envelope;
        for _ in ACTORS {
            envelope.route = envelope.route.advanced();
        }
        (
            asya_runtime_protocol::message_id(&envelope.id, 3, 1, 0),
            envelope.to_bytes(),
        )
    }

    #[tokio::test]
    async fn every_kind_of_harm_is_counted_as_what_it_is() {
        let state = tempfile::tempdir().unwrap();
        let transport = LocalTransport::open(&worker::queue(state.path()), &LocalOptions::default()).unwrap();
        for actor in [ACTORS[1], RESULTS, ERRORS] {
            transport.declare(&QueueName::for_actor(actor)).await.unwrap();
        }
        // 0 to 3 come, 0 and 1 twice; 4 comes with another payload, then under another message id; 5 never comes.
        fill(&transport, RESULTS, 4, result).await.unwrap();
        fill(&transport, RESULTS, 2, result).await.unwrap();
        let other_payload = |_| {
            let (message_id, body) = result(4);
            (
                message_id,
                String::from_utf8_lossy(&body).replace("quick", "slow").into(),
            )
        };
        fill(&transport, RESULTS, 1, other_payload).await.unwrap();
        fill(&transport, RESULTS, 1, |_| (String::from("other"), result(4).1))
            .await
            .unwrap();
        fill(&transport, ACTORS[1], 3, result).await.unwrap();
        fill(&transport, ERRORS, 1, result).await.unwrap();
        drop(transport);

        let count = count(state.path(), SENT, body).await.unwrap();
        let expected = Count {
            results: 8,
            lost: 2,
            duplicates: 2,
            damaged: 2,
            unfinished: 3,
            given_up: 1,
        };
        assert_eq!(count, expected);
    }
}
