//! When the number of ready pods changed last, and the text that says how long ago that was.

use std::time::Duration;

use jiff::Timestamp;

use super::{Status, time};

/// Minutes that the text names; between them it stays as it is, so that a status is not written every minute
/// (contract operator §11.5). After the first hour come whole hours, after the first day whole days.
const MINUTES: [u64; 16] = [0, 1, 2, 3, 4, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55];

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// The last change of the number of ready pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scale {
    /// `None` if it never changed.
    pub(super) last: Option<Timestamp>,
    /// `up`, `down`, or empty if nobody knows.
    pub(super) direction: String,
}

impl Scale {
    /// After `ready` pods were seen.
    pub(super) fn follow(previous: &Status, ready: i32, now: Timestamp) -> Self {
        let before = previous.replicas.unwrap_or_default();
        match ready.cmp(&before) {
            std::cmp::Ordering::Equal => Self {
                last: previous.last_scale_time.as_deref().and_then(time::parse),
                direction: previous.last_scale_direction.clone().unwrap_or_default(),
            },
            changed => Self {
                // As the status keeps it, so that the next look sees the same time.
                last: Some(Timestamp::from_second(now.as_second()).unwrap_or(now)),
                direction: if changed.is_gt() { "up" } else { "down" }.to_owned(),
            },
        }
    }

    /// `5m ago (up)`, or `-`.
    pub(super) fn text(&self, now: Timestamp) -> String {
        let Some(last) = self.last else {
            return "-".to_owned();
        };
        let (number, unit) = match step(time::age(last, now).as_secs()) {
            0 => (0, 's'),
            seconds if seconds < HOUR => (seconds / 60, 'm'),
            seconds if seconds < DAY => (seconds / HOUR, 'h'),
            seconds => (seconds / DAY, 'd'),
        };
        match self.direction.as_str() {
            "" => format!("{number}{unit} ago"),
            direction => format!("{number}{unit} ago ({direction})"),
        }
    }

    /// When the text changes next by itself.
    pub(super) fn next_text(&self, now: Timestamp) -> Option<Timestamp> {
        let last = self.last?;
        let age = time::age(last, now).as_secs();
        let next = match age {
            _ if age < 55 * 60 => MINUTES
                .map(|minutes| minutes * 60)
                .into_iter()
                .find(|step| *step > age)?,
            _ if age < DAY => (age / HOUR + 1) * HOUR,
            _ => (age / DAY + 1) * DAY,
        };
        Some(time::after(last, Duration::from_secs(next)))
    }
}

/// The age that is shown for an age, in seconds.
fn step(age: u64) -> u64 {
    match age {
        _ if age >= DAY => age / DAY * DAY,
        _ if age >= HOUR => age / HOUR * HOUR,
        _ => {
            let shown = MINUTES.iter().rev().find(|minutes| **minutes * 60 <= age);
            shown.copied().unwrap_or_default() * 60
        }
    }
}
