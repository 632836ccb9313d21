//! The properties that travel beside a body.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::settings::long_string;
use crate::{Outgoing, QueueName};

/// How often a message had been handed out before it was put into a delay queue. Brokers lose their own count there.
const DELIVERIES: &str = "x-asya-deliveries";
/// A message id that is too long for the property of that name.
const LONG_MESSAGE_ID: &str = "x-asya-message-id";
/// Kept by quorum queues: how often this message came back.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// What must not go into a delay queue: other keys that the broker would route a copy to, and the ways that the message
/// came by, among which the broker would take its own queue for a cycle and drop the message.
const ROUTES: [&str; 3] = ["CC", "BCC", "x-death"];

/// A message that is ready to be published, more than once if need be.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) queue: QueueName,
    pub(super) body: Bytes,
    pub(super) properties: BasicProperties,
}

impl From<Outgoing> for Message {
    /// Properties as contract data-plane §4.4 lists them, plus the message id.
    fn from(outgoing: Outgoing) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_app_id("asya".into())
            .with_timestamp(now.map_or(0, |now| now.as_secs()));
        match ShortString::try_new(outgoing.message_id.as_str()) {
            Ok(id) => properties = properties.with_message_id(id),
            Err(_) => set_header(
                &mut properties,
                LONG_MESSAGE_ID,
                long_string(&outgoing.message_id),
            ),
        }
        Self {
            queue: outgoing.queue,
            body: outgoing.body,
            properties,
        }
    }
}

/// What a delivery tells besides its body.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) message_id: Option<String>,
    /// Deliveries before the message last went through a delay queue.
    earlier: u32,
    /// How often it came back since, if the queue counts.
    returns: Option<u32>,
    redelivered: bool,
}

impl Received {
    pub(super) fn read(properties: &BasicProperties, redelivered: bool) -> Self {
        let long_id = match header(properties, LONG_MESSAGE_ID) {
            Some(AMQPValue::LongString(id)) => Some(id.to_string()),
            _ => None,
        };
        let short_id = properties.message_id().as_ref().map(ToString::to_string);
        Self {
            message_id: long_id.or(short_id),
            earlier: header(properties, DELIVERIES).and_then(count).unwrap_or(0),
            returns: header(properties, DELIVERY_COUNT).and_then(count),
            redelivered,
        }
    }

    /// The number of this delivery. `remembered` is asked only when the queue does not count: how often this process
    /// has handed the message out and given it back.
    pub(super) fn deliveries(&self, remembered: impl FnOnce() -> Option<u32>) -> u32 {
        let since = match (self.returns, self.redelivered) {
            (Some(returns), _) => returns.saturating_add(1),
            (None, false) => 1,
            (None, true) => {
                let total = remembered().unwrap_or(0).saturating_add(1);
                return total.max(self.earlier.saturating_add(2));
            }
        };
        self.earlier.saturating_add(since)
    }
}

/// The properties for putting a received message into a delay queue: as they were, with the count brought along.
pub(super) fn counted(mut properties: BasicProperties, deliveries: u32) -> BasicProperties {
    set_header(&mut properties, DELIVERIES, AMQPValue::LongUInt(deliveries));
    let mut ours = BasicProperties::default().with_delivery_mode(2);
    // Left out: the expiration, which would cut the delay short, and the user id, which must be our own.
    if let Some(headers) = properties.headers() {
        let mut headers: std::collections::BTreeMap<_, _> = headers.inner().clone();
        headers.remove(DELIVERY_COUNT);
        for name in ROUTES {
            headers.remove(name);
        }
        // The broker would send copies again.
        for copies in ["CC", "BCC"] {
            headers.remove(copies);
        }
        ours = ours.with_headers(FieldTable::from(headers));
    }
    macro_rules! keep {
        ($($get:ident $with:ident),+) => {
            $(if let Some(value) = properties.$get() { ours = ours.$with(value.clone()); })+
        };
    }
    keep!(
        content_type with_content_type, content_encoding with_content_encoding, priority with_priority,
        correlation_id with_correlation_id, reply_to with_reply_to, message_id with_message_id,
        timestamp with_timestamp, kind with_type, app_id with_app_id
    );
    ours
}

fn set_header(properties: &mut BasicProperties, name: &str, value: AMQPValue) {
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(name.into(), value);
    *properties = std::mem::take(properties).with_headers(headers);
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

fn count(value: &AMQPValue) -> Option<u32> {
    let count = match value {
        AMQPValue::ShortShortInt(count) => i64::from(*count),
        AMQPValue::ShortShortUInt(count) => i64::from(*count),
        AMQPValue::ShortInt(count) => i64::from(*count),
        AMQPValue::ShortUInt(count) => i64::from(*count),
        AMQPValue::LongInt(count) => i64::from(*count),
        AMQPValue::LongUInt(count) => i64::from(*count),
        AMQPValue::LongLongInt(count) => *count,
        _ => return None,
    };
    u32::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn published(message_id: &str) -> BasicProperties {
        let outgoing = Outgoing {
            queue: QueueName::for_actor("x"),
            message_id: message_id.into(),
            body: Bytes::new(),
            delay: Duration::ZERO,
        };
        Message::from(outgoing).properties
    }

    fn with_count(properties: &BasicProperties, returns: i64) -> BasicProperties {
        let mut properties = properties.clone();
        set_header(&mut properties, DELIVERY_COUNT, AMQPValue::LongLongInt(returns));
        properties
    }

    #[test]
    fn a_message_id_of_any_length_arrives() {
        for id in ["short/1", &"long".repeat(100)] {
            let received = Received::read(&published(id), false);
            assert_eq!(received.message_id.as_deref(), Some(id));
        }
        assert_eq!(
            Received::read(&BasicProperties::default(), false).message_id,
            None
        );
    }

    #[test]
    fn a_delayed_message_goes_nowhere_else_and_keeps_its_other_headers() {
        let mut properties = published("a");
        for name in ["CC", "BCC", "x-death", "mine"] {
            set_header(&mut properties, name, long_string("asya-other"));
        }
        let delayed = counted(properties, 1);
        let names = delayed.headers().as_ref().unwrap().inner().keys();
        assert!(names.map(ShortString::as_str).eq(["mine", DELIVERIES]));
    }

    #[test]
    fn deliveries_are_counted_by_the_queue_or_by_memory_and_survive_a_delay() {
        let fresh = published("a");
        let deliveries = |properties: &BasicProperties, redelivered, remembered| {
            Received::read(properties, redelivered).deliveries(|| remembered)
        };
        assert_eq!(
            deliveries(&fresh, false, Some(7)),
            1,
            "memory does not matter for a new message"
        );
        assert_eq!(deliveries(&fresh, true, None), 2, "at least once before");
        assert_eq!(deliveries(&fresh, true, Some(4)), 5);
        assert_eq!(deliveries(&with_count(&fresh, 0), false, None), 1);
        assert_eq!(
            deliveries(&with_count(&fresh, 3), true, Some(9)),
            4,
            "the queue knows best"
        );

        let delayed = counted(with_count(&fresh, 3), 4);
        assert_eq!(deliveries(&delayed, false, None), 5);
        assert_eq!(deliveries(&delayed, true, None), 6);
        assert_eq!(deliveries(&with_count(&delayed, 1), true, None), 6);
        assert_eq!(Received::read(&delayed, false).message_id.as_deref(), Some("a"));
    }
}
