//! Times of the status: RFC 3339 in whole seconds, and the spans after which a judgement changes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// How long after its creation a workload without a ready pod is starting, not broken.
pub(super) const STARTUP: Duration = Duration::from_mins(5);
/// How long pods may be unready, or the number of ready pods unchanged, before the actor is degraded
/// (contract operator §11.4).
pub(super) const DEGRADED: Duration = Duration::from_mins(5);
/// How long a scheduled pod may take before its containers can start (contract operator §11.3), and a workload to make
/// its first pod.
pub(super) const STUCK: Duration = Duration::from_mins(1);
/// A container that did not crash for so long has recovered, whatever it did before, and a pod that failed so long ago
/// is history. After the same time kubelet forgets its own back-off.
pub(super) const STEADY: Duration = Duration::from_mins(10);

/// As the status shows it.
pub(super) fn text(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}

/// What a status shows; `None` if it is no time.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// The time `span` after `at`.
pub(super) fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span)
        .ok()
        .and_then(|span| at.checked_add(span).ok())
        .unwrap_or(Timestamp::MAX)
}

/// How long ago; zero for what is still to come, as clocks differ.
pub(super) fn age(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
