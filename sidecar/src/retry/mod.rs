//! Retries: a failed run of the handler is followed by another one, later, under the actor's [`RetryPolicy`].
//!
//! What it is: the pure decision ([`policy`]), the names that it goes by ([`failure`], [`names`]), the state that
//! rides in the message ([`state`]), and here the plan that puts a message back. What it is not: it does not wait. A
//! retry is a confirmed publish to the actor's own queue with a delay, then an ack, so that a waiting message holds
//! neither a worker nor a place in the prefetch window. End actors publish nothing and have their own way
//! (`routing::retry_end`). docs/retries.md tells users all of this.

mod failure;
mod names;
mod policy;
mod state;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use asya_runtime_protocol::message_id;
use asya_transport::{QueueName, Settlement};
use chrono::{DateTime, TimeDelta, Utc};

use crate::admission::{Work, deadline};
use crate::config::Config;
use crate::plan::{Content, Kind, Plan, Planned, Verdict};
use policy::{Decision, Run, Why};
use state::Next;

pub(crate) use failure::RunFailure;
pub use names::ErrorNames;
pub use policy::{BadRetryValue, Jitter, Multiplier, RetryPolicy};
pub(crate) use state::{Record, Runs, remove};

/// When a call was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallTime {
    pub(crate) started: DateTime<Utc>,
    pub(crate) ended: DateTime<Utc>,
}

impl CallTime {
    /// A call that has ended just now and took so long.
    pub(crate) fn ended_now(took: Duration) -> Self {
        let ended = Utc::now();
        let started = TimeDelta::from_std(took).ok();
        let started = started.and_then(|took| ended.checked_sub_signed(took));
        Self {
            started: started.unwrap_or(ended),
            ended,
        }
    }
}

/// What becomes of a message whose run failed.
#[derive(Debug)]
pub(crate) enum After {
    /// It is run again.
    Again(Plan),
    /// It has failed for good; the record goes into its error envelope.
    Over(Option<Record>),
}

/// Decides what follows a run that produced nothing but `failures`. One that may not be retried decides for all.
pub(crate) fn after(config: &Config, work: &Work, failures: &[RunFailure], time: CallTime) -> After {
    let policy = &config.retry;
    if policy.is_off() && work.runs.attempt() == 1 {
        return After::Over(None);
    }
    let run = Run {
        attempt: work.runs.attempt(),
        first_at: work.runs.first_at(time.started),
        deadline: deadline(&work.envelope),
        suspect: work.suspect,
    };
    let next_id = next_message_id(work);
    let decide = |failure: &RunFailure| policy.decide(failure, &run, time.ended, spread(&next_id));
    let gives_up = |failure: &&RunFailure| matches!(decide(failure), Decision::GiveUp(_));
    let Some(failure) = failures.iter().find(gives_up).or_else(|| failures.first()) else {
        return After::Over(None);
    };
    match decide(failure) {
        Decision::Retry { delay } => put_back(config, work, failure, time, delay),
        Decision::GiveUp(why) => give_up(work, failure, time, why),
    }
}

fn give_up(work: &Work, failure: &RunFailure, time: CallTime, why: Why) -> After {
    let mut runs = work.runs.clone();
    runs.note(failure, time.started, Next::GaveUp(why));
    After::Over(runs.record())
}

/// The message again, with one more run on its record.
fn put_back(config: &Config, work: &Work, failure: &RunFailure, time: CallTime, delay: Duration) -> After {
    let mut runs = work.runs.clone();
    runs.note(failure, time.started, Next::Retry { after: delay });
    let mut envelope = (*work.envelope).clone();
    runs.write_next(&mut envelope, &config.actor, time.started);
    let headers = envelope
        .headers
        .as_ref()
        .map_or(0, |headers| headers.as_raw().len());
    if work.body.len() + headers > config.max_message_size.min(config.publish_limit) {
        return give_up(work, failure, time, Why::TooLarge);
    }
    let message = Planned {
        kind: Kind::Retry,
        queue: QueueName::for_actor(&config.actor),
        message_id: next_message_id(work),
        content: Content::Envelope(Box::new(envelope)),
        child_of: None,
        delay,
    };
    After::Again(Plan {
        messages: vec![message],
        report: None,
        settlement: Settlement::Ack,
        verdict: Verdict::Retried {
            attempt: runs.attempt().saturating_add(1),
            after: delay,
            error: failure.to_string(),
        },
    })
}

/// The identity of the message that asks for the next run. Outputs are always of attempt 1, whichever run made them,
/// so the two never share an id and outputs have the same one however often a hop is repeated.
fn next_message_id(work: &Work) -> String {
    let next = work.runs.attempt().saturating_add(1);
    message_id(&work.envelope.id, work.envelope.route.step(), next, 0)
}

/// A number from 0 to 1 that differs from message to message and is the same when a plan is made again.
fn spread(message_id: &str) -> f64 {
    let mut hasher = DefaultHasher::new();
    message_id.hash(&mut hasher);
    let [a, b, c, d, ..] = hasher.finish().to_be_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
