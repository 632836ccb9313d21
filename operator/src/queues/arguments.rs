//! What queues look like that are made on RabbitMQ.

use serde_json::{Map, Value, json};

use crate::registry::{Broker, Queues, Transport};

/// Deliveries above `dlq.maxRetryCount` after which the broker itself gives up on a message (rulings 1): sidecars have
/// acted long before, so this is for messages that nobody can handle at all.
const BACKSTOP: u32 = 10;

/// Without dead letters the broker would drop the message, so that it never gives up.
const NEVER: u32 = 1_000_000;

/// The arguments with which an actor's queue is created on RabbitMQ, as the sidecar is told (rulings 29); `None` where
/// queues have none.
///
/// A quorum queue has a delivery limit in any case: RabbitMQ 4 would set one of its own. Its dead letters are handed
/// over at least once, which needs `x-overflow: reject-publish`. What `queues.arguments` says wins.
pub fn arguments(transport: &Transport, queue: &str) -> Option<Value> {
    match &transport.broker {
        Broker::RabbitMq(broker) => {
            let arguments = of_queue(&broker.queues, queue);
            (!arguments.is_empty()).then_some(Value::Object(arguments))
        }
        Broker::Sqs(_) => None,
    }
}

/// The arguments of one queue on RabbitMQ.
pub(super) fn of_queue(queues: &Queues, queue: &str) -> Map<String, Value> {
    let mut arguments = queues.arguments.clone();
    let mut default = |name: &str, value: Value| {
        arguments.entry(name).or_insert(value);
    };
    if queues.quorum {
        default("x-queue-type", json!("quorum"));
    }
    let is_dead_lettered = queues.dead_letter.enabled;
    if is_dead_lettered {
        default("x-dead-letter-exchange", json!(""));
        default("x-dead-letter-routing-key", json!(format!("{queue}-dlq")));
    }
    if arguments.get("x-queue-type") == Some(&json!("quorum")) {
        let limit = if is_dead_lettered {
            arguments
                .entry("x-dead-letter-strategy")
                .or_insert(json!("at-least-once"));
            arguments.entry("x-overflow").or_insert(json!("reject-publish"));
            queues.dead_letter.max_retry_count.saturating_add(BACKSTOP)
        } else {
            NEVER
        };
        arguments.entry("x-delivery-limit").or_insert(json!(limit));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::DeadLetter;

    fn queues(quorum: bool, dead_letters: bool, arguments: &str) -> Queues {
        Queues {
            auto_create: true,
            force_recreate: false,
            dead_letter: DeadLetter {
                enabled: dead_letters,
                max_retry_count: 3,
                retention_days: 14,
                per_actor: false,
            },
            arguments: serde_json::from_str(arguments).unwrap(),
            quorum,
        }
    }

    #[test]
    fn a_quorum_queue_gives_up_far_above_the_limit_and_only_into_dead_letters() {
        let arguments = Value::Object(of_queue(&queues(true, true, "{}"), "asya-x"));
        let expected = json!({
            "x-queue-type": "quorum", "x-delivery-limit": 13, "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": "asya-x-dlq", "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        });
        assert_eq!(arguments, expected);
        let arguments = Value::Object(of_queue(&queues(true, false, "{}"), "asya-x"));
        assert_eq!(
            arguments,
            json!({"x-queue-type": "quorum", "x-delivery-limit": 1_000_000})
        );
    }

    #[test]
    fn a_classic_queue_has_what_the_original_gives_it() {
        let arguments = Value::Object(of_queue(&queues(false, true, "{}"), "asya-x"));
        let expected = json!({"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "asya-x-dlq"});
        assert_eq!(arguments, expected);
        assert!(of_queue(&queues(false, false, "{}"), "asya-x").is_empty());
    }

    #[test]
    fn what_is_configured_wins() {
        let given = r#"{"x-queue-type": "classic", "x-max-length": 5, "x-dead-letter-exchange": "other"}"#;
        let arguments = of_queue(&queues(true, true, given), "asya-x");
        assert_eq!(arguments["x-queue-type"], "classic");
        assert_eq!(arguments["x-dead-letter-exchange"], "other");
        assert!(!arguments.contains_key("x-delivery-limit"), "{arguments:?}");
    }
}
