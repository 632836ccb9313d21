//! An envelope as clients see it.

use asya_gateway_store::{ChildCounts, Record, Status};
use asya_proto::status::v1::{self, Envelope, Route};
use asya_runtime_protocol::RawJson;

use super::{failure, index, outcome_of, state_of, timestamp};

/// An envelope on the wire. Payload, headers and result come along as far as the record has them and `full` asks for
/// them.
pub(crate) fn envelope(record: Record, children: Option<ChildCounts>, full: bool) -> Envelope {
    let failure = (record.status == Status::Failed)
        .then(|| failure::read(record.error.as_deref(), record.result.as_ref()));
    let state = state_of(record.status);
    let outcome = outcome_of(record.status, record.outcome);
    let text = |raw: Option<RawJson>| raw.filter(|_| full).map(|raw| raw.as_str().to_owned());
    Envelope {
        state: state.into(),
        outcome: outcome.into(),
        route: Some(Route {
            current: whose_turn(&record),
            actors: record.actors,
        }),
        failure,
        id: record.id,
        parent_id: record.parent_id.unwrap_or_default(),
        tool: record.tool.unwrap_or_default(),
        progress_percent: record.progress_percent,
        message: record.message.unwrap_or_default(),
        actors_completed: record.actors_completed,
        attempt: record.attempt,
        created_at: Some(timestamp(record.created_at)),
        updated_at: Some(timestamp(record.updated_at)),
        deadline: record.deadline.map(timestamp),
        stored_at: record.stored_at.unwrap_or_default(),
        children: children.filter(|counts| counts.total() > 0).map(counts),
        payload_json: text(record.payload),
        headers_json: text(record.headers),
        result_json: text(record.result),
    }
}

fn counts(of: ChildCounts) -> v1::ChildCounts {
    v1::ChildCounts {
        pending: of.pending,
        running: of.running,
        succeeded: of.succeeded,
        failed: of.failed,
    }
}

/// Index of the actor whose turn it is: after the last completed one, never beyond the route.
fn whose_turn(record: &Record) -> u32 {
    let end = u32::try_from(record.actors.len()).unwrap_or(u32::MAX);
    if record.status == Status::Succeeded {
        return end;
    }
    let reached = record.current_actor_idx.max(record.route_current);
    index(reached).max(record.actors_completed).min(end)
}

#[cfg(test)]
pub(super) mod tests {
    use asya_gateway_store::Outcome;
    use asya_proto::status::v1::{EnvelopeOutcome, EnvelopeState};
    use chrono::{DateTime, Utc};

    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned()).unwrap()
    }

    pub(crate) fn record() -> Record {
        Record {
            id: "x".to_owned(),
            parent_id: None,
            tenant: Some("secret tenant".to_owned()),
            tool: Some("t".to_owned()),
            status: Status::Running,
            outcome: None,
            attempt: 2,
            actors: vec!["a".to_owned(), "b".to_owned(), "c".to_owned()],
            route_current: 0,
            route_metadata: None,
            headers: Some(raw(r#"{"traceparent":"x"}"#)),
            payload: Some(raw(r#"{"n":12345678901234567890,"f":1.0}"#)),
            result: None,
            error: None,
            timeout: None,
            deadline: None,
            progress_percent: 33.25,
            current_actor_idx: 1,
            current_actor_name: Some("b".to_owned()),
            phase: None,
            message: Some("Processing in b".to_owned()),
            actors_completed: 1,
            stored_at: None,
            created_at: DateTime::UNIX_EPOCH,
            updated_at: Utc::now(),
            version: 3,
        }
    }

    #[test]
    fn a_running_envelope_says_where_it_is() {
        let shown = envelope(record(), Some(ChildCounts::default()), false);
        assert_eq!(shown.state(), EnvelopeState::Running);
        assert_eq!(shown.outcome(), EnvelopeOutcome::Unspecified);
        assert_eq!(shown.route.as_ref().unwrap().current, 1);
        assert_eq!(
            (shown.failure, shown.children, shown.payload_json),
            (None, None, None)
        );
        assert_eq!(shown.attempt, 2);
    }

    #[test]
    fn payloads_come_byte_for_byte_with_the_full_view() {
        let shown = envelope(record(), None, true);
        assert_eq!(
            shown.payload_json.as_deref(),
            Some(r#"{"n":12345678901234567890,"f":1.0}"#)
        );
        assert_eq!(shown.headers_json.as_deref(), Some(r#"{"traceparent":"x"}"#));
    }

    #[test]
    fn whoever_failed_says_of_what_even_without_details() {
        let shown = envelope(
            Record {
                status: Status::Failed,
                outcome: Some(Outcome::TimedOut),
                error: Some("envelope timed out".to_owned()),
                ..record()
            },
            None,
            false,
        );
        assert_eq!(shown.outcome(), EnvelopeOutcome::TimedOut);
        assert_eq!(shown.failure.unwrap().error, "envelope timed out");
    }

    #[test]
    fn the_turn_never_leaves_the_route() {
        for (idx, completed, status, expected) in [
            (-7, 0, Status::Running, 0),
            (i64::MAX, 0, Status::Running, 3),
            (1, 2, Status::Running, 2),
            (0, 0, Status::Succeeded, 3),
        ] {
            let shown = envelope(
                Record {
                    current_actor_idx: idx,
                    actors_completed: completed,
                    status,
                    ..record()
                },
                None,
                false,
            );
            assert_eq!(shown.route.unwrap().current, expected, "{idx} {completed}");
        }
    }
}
