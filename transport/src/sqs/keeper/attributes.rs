//! Attributes of a queue: what they say, and which of them are not as wanted.

use std::collections::HashMap;

use aws_sdk_sqs::types::QueueAttributeName;

use super::{Depth, Redrive, Wanted};

/// The attributes that count messages.
pub(super) const COUNTS: [QueueAttributeName; 3] = [
    QueueAttributeName::ApproximateNumberOfMessages,
    QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
    QueueAttributeName::ApproximateNumberOfMessagesDelayed,
];

/// Seconds for which a created queue keeps messages: four days (contract operator §8.4).
pub(super) const RETENTION: u32 = 345_600;

pub(super) fn depth(attributes: &HashMap<QueueAttributeName, String>) -> Depth {
    let number = |name| {
        attributes
            .get(name)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0)
    };
    Depth {
        ready: number(&COUNTS[0]),
        unsettled: number(&COUNTS[1]),
        delayed: number(&COUNTS[2]),
    }
}

/// Whether a queue of this name is a FIFO queue. SQS insists on the suffix.
pub(super) fn is_fifo(queue: &str) -> bool {
    queue.strip_suffix(".fifo").is_some()
}

/// What an existing queue has otherwise than wanted, with the value that it should have. Retention is left as it is, and
/// so is a redrive policy where none is wanted. For messages that another owner has in hand a shorter visibility timeout
/// than theirs would be too short, so with others it only grows.
pub(super) fn differences(
    wanted: &Wanted,
    redrive: Option<&Redrive>,
    has_others: bool,
    attributes: &HashMap<QueueAttributeName, String>,
) -> Vec<(QueueAttributeName, String)> {
    let mut found = Vec::new();
    let visibility = wanted.visibility_timeout;
    let present = attributes.get(&QueueAttributeName::VisibilityTimeout);
    let present = present.and_then(|text| text.parse::<u32>().ok());
    let will_do = present.is_some_and(|present| present == visibility || has_others && present > visibility);
    if !will_do {
        found.push((QueueAttributeName::VisibilityTimeout, visibility.to_string()));
    }
    if let Some(redrive) = redrive {
        let present = attributes.get(&QueueAttributeName::RedrivePolicy);
        if present.and_then(|text| Redrive::read(text)).as_ref() != Some(redrive) {
            found.push((QueueAttributeName::RedrivePolicy, redrive.to_attribute()));
        }
    }
    found
}

/// For a person.
pub(super) fn describe(
    differences: &[(QueueAttributeName, String)],
    attributes: &HashMap<QueueAttributeName, String>,
) -> String {
    let lines = differences.iter().map(|(name, wanted)| {
        let present = attributes.get(name).map_or("not set", String::as_str);
        format!("{name} is {present}, expected {wanted}")
    });
    lines.collect::<Vec<_>>().join("; ")
}
