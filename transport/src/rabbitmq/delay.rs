//! Delay queues: a message waits in a queue without consumers until its time to live ends, and the broker then moves
//! it to the queue it is meant for (rulings 13).
//!
//! The queue for a delay of `D` milliseconds towards queue `Q` is called `Q.delay-D`. `D` is the next step at or above
//! the delay that was asked for: never early, and at most half as long again (a delay below the first step waits
//! that step). It is declared by whoever needs it first, with a dead-letter route to `Q` through the default
//! exchange. A classic one goes away by itself an hour after its last declaration plus `D`; every process declares it
//! anew at least every [`FRESH`], so it is never empty-handed while somebody uses it. Where quorum queues are
//! created, the delay queues are quorum queues with at-least-once dead-lettering, and stay.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::link::Line;
use super::settings::{Settings, long_string, queue_name};
use super::topology;
use crate::QueueName;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// The possible delays in milliseconds, each at most half as long again as the one before.
pub(super) const STEPS: [u64; 40] = [
    100,
    150,
    200,
    300,
    450,
    600,
    800,
    SECOND,
    3 * SECOND / 2,
    2 * SECOND,
    3 * SECOND,
    4 * SECOND,
    6 * SECOND,
    8 * SECOND,
    10 * SECOND,
    15 * SECOND,
    20 * SECOND,
    30 * SECOND,
    45 * SECOND,
    MINUTE,
    3 * MINUTE / 2,
    2 * MINUTE,
    3 * MINUTE,
    4 * MINUTE,
    6 * MINUTE,
    8 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    20 * MINUTE,
    30 * MINUTE,
    45 * MINUTE,
    HOUR,
    3 * HOUR / 2,
    2 * HOUR,
    3 * HOUR,
    4 * HOUR,
    6 * HOUR,
    9 * HOUR,
    13 * HOUR,
    24 * HOUR,
];

/// How long a classic delay queue outlives its last declaration and the longest wait in it.
const EXPIRY_MARGIN: u64 = HOUR;

/// How long a declaration is taken for granted.
const FRESH: Duration = Duration::from_mins(5);

/// How long the queue that a delayed message is meant for is taken to exist. Once a delay has passed nobody is told
/// that it does not.
const TARGET_FRESH: Duration = Duration::from_secs(2);

/// The step for a delay; `None` when it is longer than the longest one.
pub(super) fn step(delay: Duration) -> Option<u64> {
    let milliseconds = delay.as_nanos().div_ceil(1_000_000);
    STEPS.into_iter().find(|step| u128::from(*step) >= milliseconds)
}

/// The delay queue for `step` towards `queue`.
pub(super) fn delay_queue(queue: &QueueName, step: u64) -> QueueName {
    QueueName::from_full_name(&format!("{queue}.delay-{step}"))
}

/// Which delay queues were declared, and when.
#[derive(Debug, Default)]
pub(super) struct DelayQueues {
    declared: Mutex<HashMap<QueueName, Instant>>,
    targets: Mutex<HashMap<QueueName, Instant>>,
}

/// Why a message cannot be delayed.
#[derive(Debug)]
pub(super) enum DelayError {
    /// The queue that it is meant for does not exist.
    NoTarget,
    Broker(lapin::Error),
}

impl From<lapin::Error> for DelayError {
    fn from(error: lapin::Error) -> Self {
        Self::Broker(error)
    }
}

impl DelayQueues {
    /// Makes sure that both ends exist and returns the name of the delay queue.
    pub(super) async fn ensure(
        &self,
        line: &Line,
        settings: &Settings,
        queue: &QueueName,
        step: u64,
    ) -> Result<ShortString, DelayError> {
        let delaying = delay_queue(queue, step);
        let (Some(target), Some(name)) = (queue_name(queue), queue_name(&delaying)) else {
            return Err(DelayError::NoTarget);
        };
        if !is_fresh(&self.targets, queue, TARGET_FRESH) {
            let found = line.attempt(topology::look(&line.connection, &target)).await?;
            found.ok_or(DelayError::NoTarget)?;
            remember(&self.targets, queue);
        }
        if !is_fresh(&self.declared, &delaying, FRESH) {
            let arguments = arguments(settings, queue, step);
            line.attempt(topology::create(&line.connection, &name, &arguments))
                .await?;
            remember(&self.declared, &delaying);
        }
        Ok(name)
    }

    /// Declares the delay queue again next time: a message did not find it.
    pub(super) fn forget(&self, queue: &QueueName, step: u64) {
        let mut declared = self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared.remove(&delay_queue(queue, step));
    }
}

fn is_fresh(seen: &Mutex<HashMap<QueueName, Instant>>, queue: &QueueName, age: Duration) -> bool {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.get(queue).is_some_and(|at| at.elapsed() < age)
}

fn remember(seen: &Mutex<HashMap<QueueName, Instant>>, queue: &QueueName) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.retain(|_, at| at.elapsed() < FRESH);
    seen.insert(queue.clone(), Instant::now());
}

fn arguments(settings: &Settings, queue: &QueueName, step: u64) -> FieldTable {
    let number = |milliseconds: u64| AMQPValue::LongLongInt(i64::try_from(milliseconds).unwrap_or(i64::MAX));
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), number(step));
    arguments.insert("x-dead-letter-exchange".into(), long_string(""));
    arguments.insert("x-dead-letter-routing-key".into(), long_string(queue.as_str()));
    if settings.creates_quorum_queues() {
        arguments.insert("x-queue-type".into(), long_string("quorum"));
        arguments.insert("x-dead-letter-strategy".into(), long_string("at-least-once"));
        arguments.insert("x-overflow".into(), long_string("reject-publish"));
    } else {
        arguments.insert("x-expires".into(), number(step + EXPIRY_MARGIN));
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_never_shorter_than_the_delay_and_not_much_longer() {
        assert!(STEPS.is_sorted());
        assert!(
            STEPS
                .windows(2)
                .all(|pair| pair[1] <= pair[0] * 3 / 2 || pair[0] > 12 * HOUR)
        );
        assert_eq!(step(Duration::from_nanos(1)), Some(100));
        assert_eq!(step(Duration::from_millis(300)), Some(300));
        assert_eq!(step(Duration::from_micros(300_001)), Some(450));
        assert_eq!(step(Duration::from_hours(24)), Some(24 * HOUR));
        assert_eq!(step(Duration::from_millis(24 * HOUR + 1)), None);
    }

    #[test]
    fn a_delay_queue_is_named_after_its_queue_and_step() {
        let queue = QueueName::for_actor("ocr");
        assert_eq!(delay_queue(&queue, 1_500).as_str(), "asya-ocr.delay-1500");
    }
}
