//! The name of a queue, and the naming rules of contract data-plane §3.

use std::fmt;
use std::sync::Arc;

/// Prefix of every queue that belongs to an actor.
const PREFIX: &str = "asya-";

/// Name of a queue on any broker. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueName(Arc<str>);

impl QueueName {
    /// The queue of actor `actor`: `asya-<actor>`.
    ///
    /// Any actor name is accepted here: a route may name whatever its sender wrote, and a queue that does not
    /// exist is found out when publishing (rulings 31).
    #[must_use]
    pub fn for_actor(actor: &str) -> Self {
        Self(format!("{PREFIX}{actor}").into())
    }

    /// A queue by its full name, as an administrator lists it.
    #[must_use]
    pub fn from_full_name(name: &str) -> Self {
        Self(name.into())
    }

    /// The dead-letter queue of this queue: `<name>-dlq` (rulings 2, 31).
    #[must_use]
    pub fn dead_letter(&self) -> Self {
        Self(format!("{}-dlq", self.0).into())
    }

    /// The full name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without one leading `asya-`, if something remains after it: the routing key on RabbitMQ.
    #[must_use]
    pub fn actor(&self) -> &str {
        match self.0.strip_prefix(PREFIX) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &self.0,
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "QueueName({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::QueueName;

    #[test]
    fn an_actor_queue_has_the_prefix_and_gives_the_actor_back() {
        let queue = QueueName::for_actor("ocr");
        assert_eq!(queue.as_str(), "asya-ocr");
        assert_eq!(queue.actor(), "ocr");
        assert_eq!(queue.dead_letter().as_str(), "asya-ocr-dlq");
    }

    #[test]
    fn only_one_prefix_is_removed_and_only_if_something_remains() {
        assert_eq!(QueueName::for_actor("asya-x").actor(), "asya-x");
        assert_eq!(QueueName::from_full_name("asya-").actor(), "asya-");
        assert_eq!(QueueName::from_full_name("other").actor(), "other");
    }
}
