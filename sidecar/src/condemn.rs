//! What becomes of a message that made a part of the sidecar crash repeatedly: error-end, without looking closer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use asya_runtime_protocol::Envelope;
use bytes::Bytes;

use crate::admission::DeliveryFacts;
use crate::config::Config;
use crate::errors::{Failure, fail, fail_unreadable};
use crate::plan::{Plan, Reason};

/// The plan that takes the message out of the way. Reading it may be what crashed, so that is tried in a cage, only
/// to keep its id.
pub(crate) fn plan(config: &Config, body: &Bytes, delivery: &DeliveryFacts) -> Plan {
    let error = format!(
        "The sidecar crashed {} times while handling this message",
        delivery.crashes
    );
    let failure = Failure::new(Reason::Poison, error);
    let read = catch_unwind(AssertUnwindSafe(|| {
        let envelope = Envelope::parse(body).ok()?.envelope;
        Some(fail(config, &envelope, body, delivery, failure.clone()))
    }));
    match read {
        Ok(Some(plan)) => plan,
        Ok(None) | Err(_) => fail_unreadable(config, body, delivery, failure),
    }
}
