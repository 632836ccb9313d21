//! Metrics by destination, which routes decide: registered when a destination is first seen.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::Maker;

/// Destinations told apart. Routes come from outside, so without a bound anybody could fill the memory with names.
const MOST: usize = 500;

/// Where messages beyond [`MOST`] destinations are counted.
const OTHER: &str = "other";

/// Why a message was sent, as the original calls it.
#[derive(Debug, Clone, Copy)]
pub(super) enum MessageType {
    Routing,
    HappyEnd,
    ErrorEnd,
}

impl MessageType {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::HappyEnd => "happy_end",
            Self::ErrorEnd => "error_end",
        }
    }
}

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Destinations {
    maker: Maker,
    transport: String,
    bytes: Histogram,
    /// By message type, then by queue.
    known: [RwLock<HashMap<String, Arc<Destination>>>; 3],
}

#[derive(Debug)]
struct Destination {
    sent: Counter,
    sending: Histogram,
}

impl Destinations {
    pub(super) fn new(maker: Maker, transport: &str) -> Self {
        Self {
            transport: transport.to_owned(),
            bytes: maker.histogram("envelope_size_bytes", &[("direction", "sent")]),
            known: [(); 3].map(|()| RwLock::default()),
            maker,
        }
    }

    pub(super) fn sent(&self, message_type: MessageType, queue: &str, bytes: f64, took: Duration) {
        let destination = self.destination(message_type, queue);
        destination.sent.increment(1);
        destination.sending.record(took);
        self.bytes.record(bytes);
    }

    fn destination(&self, message_type: MessageType, queue: &str) -> Arc<Destination> {
        let of_type = &self.known[message_type as usize];
        if let Some(known) = of_type.read().unwrap_or_else(PoisonError::into_inner).get(queue) {
            return Arc::clone(known);
        }
        let mut known = of_type.write().unwrap_or_else(PoisonError::into_inner);
        let queue = if known.len() < MOST { queue } else { OTHER };
        let destination = known.entry(queue.to_owned()).or_insert_with(|| {
            let to = ("destination_queue", queue);
            let message_type = ("message_type", message_type.as_str());
            let transport = ("transport", self.transport.as_str());
            Arc::new(Destination {
                sent: self.maker.counter("messages_sent_total", &[to, message_type]),
                sending: self
                    .maker
                    .histogram("queue_send_duration_seconds", &[to, transport]),
            })
        });
        Arc::clone(destination)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_cannot_fill_the_memory() {
        let maker = Maker {
            namespace: "test".into(),
        };
        let destinations = Destinations::new(maker, "queue");
        for number in 0..2_000 {
            let queue = format!("asya-{number}");
            destinations.sent(MessageType::Routing, &queue, 1.0, Duration::ZERO);
        }
        let known = destinations.known[MessageType::Routing as usize]
            .read()
            .expect("nobody panicked");
        assert_eq!(known.len(), MOST + 1);
        assert!(known.contains_key(OTHER) && known.contains_key("asya-0"));
    }
}
