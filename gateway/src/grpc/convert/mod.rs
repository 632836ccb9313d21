//! Between the messages of `asya.status.v1` and the words of the core: pure functions, no I/O.
//!
//! JSON that belongs to users passes as text, byte for byte; what is not JSON is told apart here, before anything is
//! stored.

mod envelope;
mod failure;
mod filter;
mod report;
mod update;

pub(super) use envelope::envelope;
pub(super) use filter::filter;
pub(super) use report::{Refused, Told, read_report};
pub(super) use update::update;

use asya_gateway_store::{Outcome, Phase, Status};
use asya_proto::status::v1::{EnvelopeOutcome, EnvelopeState, EnvelopeView, HopPhase};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;

/// An instant on the wire.
pub(super) fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp {
        seconds: at.timestamp(),
        // A leap second counts as more than 999 999 999 in chrono, which a Timestamp may not hold.
        nanos: i32::try_from(at.timestamp_subsec_nanos().min(999_999_999)).unwrap_or_default(),
    }
}

/// An instant from the wire; `None` if it is none.
pub(super) fn instant(at: &Timestamp) -> Option<DateTime<Utc>> {
    let nanos = u32::try_from(at.nanos)
        .ok()
        .filter(|nanos| *nanos < 1_000_000_000)?;
    // What a Timestamp may hold: the years 1 to 9999. A database could not keep more either.
    let range = -62_135_596_800..=253_402_300_799;
    range
        .contains(&at.seconds)
        .then(|| DateTime::from_timestamp(at.seconds, nanos))?
}

/// A whole number of the store that the wire wants small and without sign.
fn index(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// `None` for an empty text.
fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A text without NUL, which PostgreSQL cannot keep: U+FFFD stands for it. (JSON spells it `\u0000` and keeps it.)
fn clean(text: String) -> String {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}")
    } else {
        text
    }
}

/// How an envelope ended. Rows of an original gateway have no outcome; their status says it.
fn outcome_of(status: Status, outcome: Option<Outcome>) -> EnvelopeOutcome {
    match (outcome, status) {
        (Some(Outcome::Succeeded), _) | (None, Status::Succeeded) => EnvelopeOutcome::Succeeded,
        (Some(Outcome::Failed), _) | (None, Status::Failed) => EnvelopeOutcome::Failed,
        (Some(Outcome::TimedOut), _) => EnvelopeOutcome::TimedOut,
        (Some(Outcome::Cancelled), _) => EnvelopeOutcome::Cancelled,
        (None, _) => EnvelopeOutcome::Unspecified,
    }
}

fn state_of(status: Status) -> EnvelopeState {
    match status {
        Status::Pending => EnvelopeState::Pending,
        Status::Running => EnvelopeState::Running,
        Status::Succeeded => EnvelopeState::Succeeded,
        Status::Failed => EnvelopeState::Failed,
        Status::Unknown => EnvelopeState::Unspecified,
    }
}

fn phase_of(phase: HopPhase) -> Option<Phase> {
    match phase {
        HopPhase::Unspecified => None,
        HopPhase::Received => Some(Phase::Received),
        HopPhase::Processing => Some(Phase::Processing),
        HopPhase::Completed => Some(Phase::Completed),
    }
}

fn phase_to(phase: Option<Phase>) -> HopPhase {
    match phase {
        None => HopPhase::Unspecified,
        Some(Phase::Received) => HopPhase::Received,
        Some(Phase::Processing) => HopPhase::Processing,
        Some(Phase::Completed) => HopPhase::Completed,
    }
}

/// Whether the caller wants payloads, headers and results.
pub(super) fn is_full(view: EnvelopeView) -> bool {
    view == EnvelopeView::Full
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_survive_and_nonsense_is_no_instant() {
        let now = Utc::now();
        assert_eq!(instant(&timestamp(now)), Some(now));
        for (seconds, nanos) in [
            (0, -1),
            (0, 1_000_000_000),
            (i64::MAX, 0),
            (i64::MIN, 0),
            (253_402_300_800, 0),
        ] {
            assert_eq!(instant(&Timestamp { seconds, nanos }), None, "{seconds} {nanos}");
        }
        let old = Timestamp {
            seconds: -1,
            nanos: 999_999_999,
        };
        assert_eq!(timestamp(instant(&old).unwrap()), old);
    }

    #[test]
    fn an_old_row_without_outcome_ended_as_its_status_says() {
        assert_eq!(outcome_of(Status::Failed, None), EnvelopeOutcome::Failed);
        assert_eq!(
            outcome_of(Status::Failed, Some(Outcome::Cancelled)),
            EnvelopeOutcome::Cancelled
        );
        assert_eq!(outcome_of(Status::Running, None), EnvelopeOutcome::Unspecified);
    }
}
