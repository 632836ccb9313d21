//! One line of the history of an envelope, as clients see it.

use asya_gateway_store::{Kind, Status, Update};
use asya_proto::status::v1::{EnvelopeUpdate, Failure, PartialResult, Route};

use super::{failure, index, outcome_of, phase_to, state_of, timestamp};

/// An update on the wire; the result comes along if `full` asks for it.
pub(crate) fn update(update: &Update, full: bool) -> EnvelopeUpdate {
    let result = update
        .result
        .as_ref()
        .filter(|_| full && update.status == Status::Succeeded);
    EnvelopeUpdate {
        envelope_id: update.envelope_id.to_string(),
        state: state_of(update.status).into(),
        outcome: outcome_of(update.status, update.outcome).into(),
        at: Some(timestamp(update.at)),
        attempt: update.attempt,
        progress_percent: update.progress_percent,
        message: update.message.clone().unwrap_or_default(),
        route: update.actors.as_ref().map(|actors| Route {
            actors: actors.to_vec(),
            current: index(update.current_actor_idx.unwrap_or_default()),
        }),
        actor: update.actor.clone().unwrap_or_default(),
        phase: phase_to(update.phase).into(),
        partial: update.partial.as_ref().map(|item| PartialResult {
            actor_index: index(item.actor_index),
            index: item.index,
            value_json: item.value.as_str().to_owned(),
        }),
        failure: failure_of(update),
        result_json: result.map(|raw| raw.as_str().to_owned()),
    }
}

fn failure_of(update: &Update) -> Option<Failure> {
    match update.kind {
        Kind::Retry => Some(failure::read_retried(
            update.error.as_deref(),
            update.failure.as_ref(),
        )),
        Kind::Final if update.status == Status::Failed => {
            let mut failure = failure::read(update.error.as_deref(), update.result.as_ref());
            if failure.actor.is_empty() {
                failure.actor = update.actor.clone().unwrap_or_default();
            }
            Some(failure)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use asya_gateway_store::{Outcome, Partial, Phase};
    use asya_proto::status::v1::{EnvelopeOutcome, EnvelopeState, HopPhase};
    use asya_runtime_protocol::RawJson;
    use chrono::Utc;

    use super::*;

    fn of(kind: Kind) -> Update {
        Update {
            id: 7,
            envelope_id: "x".into(),
            kind,
            status: Status::Running,
            outcome: None,
            attempt: 1,
            message: Some("m".to_owned()),
            result: None,
            error: None,
            failure: None,
            progress_percent: Some(50.0),
            actor: Some("b".to_owned()),
            actors: Some(Arc::from(vec!["a".to_owned(), "b".to_owned()])),
            current_actor_idx: Some(1),
            phase: Some(Phase::Processing),
            partial: None,
            next_run_at: None,
            at: Utc::now(),
        }
    }

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned()).unwrap()
    }

    #[test]
    fn progress_says_which_actor_and_how_far() {
        let shown = update(&of(Kind::Progress), false);
        assert_eq!(
            (shown.state(), shown.phase()),
            (EnvelopeState::Running, HopPhase::Processing)
        );
        assert_eq!((shown.actor.as_str(), shown.route.unwrap().current), ("b", 1));
        assert_eq!(shown.failure, None);
    }

    #[test]
    fn items_travel_byte_for_byte() {
        let value = r#"{"n":18446744073709551616,"s":"\u0000\ud800"}"#;
        let partial = Partial {
            actor_index: 1,
            index: 3,
            value: raw(value),
        };
        let shown = update(
            &Update {
                partial: Some(partial),
                ..of(Kind::Partial)
            },
            false,
        )
        .partial
        .unwrap();
        assert_eq!((shown.value_json.as_str(), shown.index), (value, 3));
    }

    #[test]
    fn only_the_full_view_of_a_success_has_the_result() {
        let good = Update {
            status: Status::Succeeded,
            outcome: Some(Outcome::Succeeded),
            result: Some(raw("[1.0]")),
            ..of(Kind::Final)
        };
        assert_eq!(update(&good, true).result_json.as_deref(), Some("[1.0]"));
        assert_eq!(update(&good, false).result_json, None);
        let bad = Update {
            status: Status::Failed,
            outcome: Some(Outcome::Cancelled),
            error: Some("cancelled".to_owned()),
            ..good
        };
        let shown = update(&bad, true);
        assert_eq!(
            (shown.result_json.as_deref(), shown.outcome()),
            (None, EnvelopeOutcome::Cancelled)
        );
        assert_eq!(shown.failure.unwrap().error, "cancelled");
    }
}
