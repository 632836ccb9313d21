//! Consumers that found nothing and wait, by queue.

use std::collections::HashMap;
use std::time::Duration;

use super::command::Claim;
use super::store::{self, Look};
use crate::QueueName;

/// Claims that wait for messages, in order of arrival within each queue.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queues: HashMap<QueueName, WaitingQueue>,
}

#[derive(Debug)]
struct WaitingQueue {
    /// When the earliest delayed message becomes visible (Unix milliseconds).
    due: Option<i64>,
    claims: Vec<Claim>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Lets `claim` wait, behind the others of its queue.
    pub(super) fn add(&mut self, claim: Claim, due: Option<i64>) {
        let waiting = self
            .queues
            .entry(claim.queue.clone())
            .or_insert_with(|| WaitingQueue {
                due,
                claims: Vec::with_capacity(1),
            });
        waiting.due = due;
        waiting.claims.push(claim);
    }

    /// Takes out everybody who waits for `queue`, first come first.
    pub(super) fn take(&mut self, queue: &QueueName) -> Vec<Claim> {
        self.queues
            .remove(queue)
            .map(|waiting| waiting.claims)
            .unwrap_or_default()
    }

    /// Forgets consumers that have stopped waiting.
    pub(super) fn forget_abandoned(&mut self) {
        self.queues.retain(|_, waiting| {
            waiting.claims.retain(|claim| !claim.is_abandoned());
            !waiting.claims.is_empty()
        });
    }

    /// The queues whose earliest delayed message is due.
    pub(super) fn due(&self) -> Vec<QueueName> {
        let now = store::now();
        let due = self
            .queues
            .iter()
            .filter(|(_, waiting)| waiting.due.is_some_and(|due| due <= now));
        due.map(|(queue, _)| queue.clone()).collect()
    }

    /// How long until the next queue is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let earliest = self.queues.values().filter_map(|waiting| waiting.due).min()?;
        let milliseconds = u64::try_from(earliest.saturating_sub(store::now())).unwrap_or(0);
        Some(Duration::from_millis(milliseconds))
    }

    /// Looks at every queue again after somebody else has written the file; returns those worth a claim.
    pub(super) fn look_again(&mut self, look: impl Fn(&QueueName) -> Look) -> Vec<QueueName> {
        let mut worthwhile = Vec::new();
        for (queue, waiting) in &mut self.queues {
            match look(queue) {
                Look::Worthwhile => worthwhile.push(queue.clone()),
                Look::Wait(due) => waiting.due = due,
            }
        }
        worthwhile
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = Claim> {
        std::mem::take(&mut self.queues)
            .into_values()
            .flat_map(|waiting| waiting.claims)
    }
}
