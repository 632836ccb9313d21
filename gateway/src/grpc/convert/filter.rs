//! What a client looks for.

use std::collections::BTreeSet;

use asya_gateway_store::{Filter, Outcome, Status};
use asya_proto::status::v1::{EnvelopeFilter, EnvelopeOutcome, EnvelopeState};
use chrono::{DateTime, Utc};
use prost_types::Timestamp;

use super::{instant, non_empty};

/// Reads a filter. The error names the field and what is wrong with it.
pub(crate) fn filter(told: EnvelopeFilter) -> Result<Filter, String> {
    // The generated accessors leave out values that they do not know: "one of these" would become "any".
    let statuses = told.states.iter().copied().map(status);
    let statuses = statuses.collect::<Result<BTreeSet<_>, _>>()?;
    let mut outcomes = Vec::new();
    for told in &told.outcomes {
        let outcome = outcome(*told)?;
        if !outcomes.contains(&outcome) {
            outcomes.push(outcome);
        }
    }
    Ok(Filter {
        tenant: None,
        statuses,
        outcomes,
        created_from: bound("filter.created_from", told.created_from.as_ref())?,
        created_before: bound("filter.created_before", told.created_before.as_ref())?,
        actor: text("filter.current_actor", told.current_actor)?,
        tool: text("filter.tool", told.tool)?,
        parent_id: text("filter.parent_id", told.parent_id)?,
    })
}

fn status(told: i32) -> Result<Status, String> {
    match EnvelopeState::try_from(told).unwrap_or_default() {
        EnvelopeState::Pending => Ok(Status::Pending),
        EnvelopeState::Running => Ok(Status::Running),
        EnvelopeState::Succeeded => Ok(Status::Succeeded),
        EnvelopeState::Failed => Ok(Status::Failed),
        EnvelopeState::Unspecified => {
            Err("filter.states: unspecified, or a state that this gateway does not know".to_owned())
        }
    }
}

fn outcome(told: i32) -> Result<Outcome, String> {
    match EnvelopeOutcome::try_from(told).unwrap_or_default() {
        EnvelopeOutcome::Succeeded => Ok(Outcome::Succeeded),
        EnvelopeOutcome::Failed => Ok(Outcome::Failed),
        EnvelopeOutcome::TimedOut => Ok(Outcome::TimedOut),
        EnvelopeOutcome::Cancelled => Ok(Outcome::Cancelled),
        EnvelopeOutcome::Unspecified => {
            Err("filter.outcomes: unspecified, or an outcome that this gateway does not know".to_owned())
        }
    }
}

fn bound(field: &str, at: Option<&Timestamp>) -> Result<Option<DateTime<Utc>>, String> {
    at.map(|at| instant(at).ok_or_else(|| format!("{field}: not an instant between the years 1 and 9999")))
        .transpose()
}

fn text(field: &str, told: String) -> Result<Option<String>, String> {
    if told.contains('\0') {
        return Err(format!("{field}: holds a NUL"));
    }
    Ok(non_empty(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_matches_everything() {
        assert_eq!(filter(EnvelopeFilter::default()).unwrap(), Filter::default());
    }

    #[test]
    fn everything_that_is_set_is_taken_over() {
        let read = filter(EnvelopeFilter {
            states: vec![EnvelopeState::Failed.into(), EnvelopeState::Failed.into()],
            outcomes: vec![EnvelopeOutcome::TimedOut.into(), EnvelopeOutcome::TimedOut.into()],
            current_actor: "a".to_owned(),
            tool: "t".to_owned(),
            parent_id: "p".to_owned(),
            created_from: Some(Timestamp { seconds: 1, nanos: 0 }),
            created_before: Some(Timestamp { seconds: 2, nanos: 0 }),
        })
        .unwrap();
        assert_eq!(
            read,
            Filter {
                tenant: None,
                statuses: [Status::Failed].into(),
                outcomes: vec![Outcome::TimedOut],
                actor: Some("a".to_owned()),
                tool: Some("t".to_owned()),
                parent_id: Some("p".to_owned()),
                created_from: DateTime::from_timestamp(1, 0),
                created_before: DateTime::from_timestamp(2, 0),
            }
        );
    }

    #[test]
    fn what_can_never_match_is_told_with_its_field() {
        let cases = [
            EnvelopeFilter {
                states: vec![99],
                ..Default::default()
            },
            EnvelopeFilter {
                outcomes: vec![0],
                ..Default::default()
            },
            EnvelopeFilter {
                created_from: Some(Timestamp {
                    seconds: 0,
                    nanos: -1,
                }),
                ..Default::default()
            },
            EnvelopeFilter {
                tool: "a\0".to_owned(),
                ..Default::default()
            },
        ];
        let fields = [
            "filter.states",
            "filter.outcomes",
            "filter.created_from",
            "filter.tool",
        ];
        for (told, field) in cases.into_iter().zip(fields) {
            let error = filter(told).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
    }
}
