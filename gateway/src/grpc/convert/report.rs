//! What a sidecar tells, read: checked once, then in the words of the store.

use asya_gateway_store::{
    Final, FinalFailure, FinalSuccess, NewEnvelope, Partial, Progress, Report, ReportEvent, Retry, Status,
};
use asya_proto::status::v1::{
    EnvelopeReport, FailedResult, FinalReport, HopPhase, HopProgress, HopRetry, PartialResult,
    ReportRefusalReason, Route, SucceededResult, envelope_report, final_report,
};
use asya_runtime_protocol::RawJson;
use chrono::{DateTime, Utc};

use super::{clean, failure, instant, non_empty, phase_of};

/// Longest id of an envelope that anything can have, in bytes.
const LONGEST_ID: usize = 1024;

/// What a report says, in the words of the store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// Something about an envelope.
    Event(Report),
    /// There is a further envelope.
    Child(NewEnvelope),
}

/// Why a report changes nothing, and would not if it came again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The reason on the wire.
    pub(crate) reason: ReportRefusalReason,
    /// For logs; never quotes what belongs to the user.
    pub(crate) message: String,
}

impl Refused {
    fn invalid(message: impl Into<String>) -> Self {
        Self {
            reason: ReportRefusalReason::Invalid,
            message: message.into(),
        }
    }

    /// No envelope has this id.
    pub(crate) fn unknown() -> Self {
        Self {
            reason: ReportRefusalReason::UnknownEnvelope,
            message: "no such envelope".to_owned(),
        }
    }

    /// The report has more bytes than the gateway takes.
    pub(crate) fn too_large(bytes: u64, most: u64) -> Self {
        Self {
            reason: ReportRefusalReason::TooLarge,
            message: format!("{bytes} bytes, but a report may have {most}"),
        }
    }
}

/// Most actors of a route.
const MOST_ACTORS: usize = 10_000;

/// Reads one report. `now` stands in where it does not say when it happened.
pub(crate) fn read_report(report: EnvelopeReport, now: DateTime<Utc>) -> Result<Told, Refused> {
    let id = report.envelope_id;
    if id.is_empty() {
        return Err(Refused::invalid("envelope_id: empty"));
    }
    if id.len() > LONGEST_ID || id.contains('\0') {
        return Err(Refused::unknown());
    }
    let at = report.occurred_at.as_ref().and_then(instant).unwrap_or(now);
    let event = match report.event {
        None => {
            return Err(Refused::invalid(
                "event: missing, or of a kind that this gateway does not know",
            ));
        }
        Some(envelope_report::Event::Child(child)) => {
            let route = child.route.unwrap_or_default();
            let told = (id, child.parent_id, route);
            return read_child(told, at).map(Told::Child);
        }
        Some(envelope_report::Event::Progress(progress)) => ReportEvent::Progress(read_progress(progress)?),
        Some(envelope_report::Event::Retry(retry)) => ReportEvent::Retry(read_retry(retry)?),
        Some(envelope_report::Event::Partial(partial)) => ReportEvent::Partial(read_partial(&partial)?),
        Some(envelope_report::Event::Final(last)) => ReportEvent::Final(read_final(last)?),
    };
    Ok(Told::Event(Report {
        envelope_id: id,
        attempt: report.attempt.max(1),
        at,
        event,
    }))
}

fn read_child(
    (id, parent_id, route): (String, String, Route),
    at: DateTime<Utc>,
) -> Result<NewEnvelope, Refused> {
    if parent_id.contains('\0') {
        return Err(Refused::invalid("child.parent_id: holds a NUL"));
    }
    if parent_id == id {
        return Err(Refused::invalid(
            "child.parent_id: an envelope is not its own child",
        ));
    }
    if id.contains('/') {
        return Err(Refused::invalid("envelope_id: an id holds no slash"));
    }
    Ok(NewEnvelope {
        id,
        parent_id: non_empty(parent_id),
        tenant: None,
        tool: None,
        status: Status::Running,
        route_current: i64::from(route.current),
        actors: actors(route.actors)?,
        route_metadata: None,
        headers: None,
        payload: None,
        timeout: None,
        deadline: None,
        created_at: at,
        idempotency: None,
        outbox: None,
    })
}

fn read_progress(told: HopProgress) -> Result<Progress, Refused> {
    let phase = phase_of(told.phase());
    let message = match told.fraction.filter(|fraction| fraction.is_finite()) {
        Some(fraction) if told.phase() == HopPhase::Processing => noted(fraction, &told.message),
        _ => told.message,
    };
    Ok(Progress {
        phase,
        actors: actors(told.actors)?,
        actor_index: i64::from(told.actor_index),
        message: non_empty(clean(message)),
        exact: true,
    })
}

/// The words that sidecars use over HTTP for what a handler says of its progress.
fn noted(fraction: f64, message: &str) -> String {
    let percent = format!("{:.0} %", fraction.clamp(0.0, 1.0) * 100.0);
    if message.is_empty() {
        percent
    } else {
        format!("{percent}: {message}")
    }
}

fn read_retry(told: HopRetry) -> Result<Retry, Refused> {
    let failure = told.failure.unwrap_or_default();
    let kept = failure::retried(&failure).map_err(|error| not_json("retry.failure.details_json", &error))?;
    Ok(Retry {
        actor_index: i64::from(told.actor_index),
        runs: told.runs,
        error: failure::words(&failure),
        failure: Some(kept),
        next_run_at: told.next_run_at.as_ref().and_then(instant),
    })
}

fn read_partial(told: &PartialResult) -> Result<Partial, Refused> {
    Ok(Partial {
        actor_index: i64::from(told.actor_index),
        index: told.index,
        value: json("partial.value_json", &told.value_json)?,
    })
}

fn read_final(told: FinalReport) -> Result<Final, Refused> {
    let Route {
        actors: names,
        current,
    } = told.route.unwrap_or_default();
    let names = actors(names)?;
    match told.result {
        None => Err(Refused::invalid("final.result: neither succeeded nor failed")),
        Some(final_report::Result::Succeeded(good)) => read_success(good, names).map(Final::Succeeded),
        Some(final_report::Result::Failed(bad)) => read_failure(bad, names, current).map(Final::Failed),
    }
}

fn read_success(told: SucceededResult, actors: Vec<String>) -> Result<FinalSuccess, Refused> {
    let result = told
        .result_json
        .map(|text| json("final.succeeded.result_json", &text))
        .transpose()?;
    Ok(FinalSuccess {
        // `null` keeps what is stored, as over HTTP (contract gateway §4.3).
        result: result.filter(|raw| !raw.is_null()),
        stored_at: non_empty(clean(told.stored_at)),
        actor_index: actors
            .len()
            .checked_sub(1)
            .and_then(|last| i64::try_from(last).ok()),
        actor: actors.last().cloned(),
        actors,
    })
}

fn read_failure(told: FailedResult, actors: Vec<String>, current: u32) -> Result<FinalFailure, Refused> {
    let original = told
        .original_payload_json
        .map(|text| json("final.failed.original_payload_json", &text))
        .transpose()?;
    let failed = told.failure.unwrap_or_default();
    let details = failure::details(&failed, original.as_ref())
        .map_err(|error| not_json("final.failed.failure.details_json", &error))?;
    let (actor_index, actor) = failure::place(&failed, &actors, current);
    let error = non_empty(failed.error).or_else(|| non_empty(failed.message));
    Ok(FinalFailure {
        error: error.map(clean),
        details: details.filter(|raw| !raw.is_null()),
        result: None,
        stored_at: non_empty(clean(told.stored_at)),
        actors,
        actor_index,
        actor,
    })
}

/// A route, with as many actors as over HTTP.
fn actors(names: Vec<String>) -> Result<Vec<String>, Refused> {
    if names.len() > MOST_ACTORS {
        let count = names.len();
        return Err(Refused::invalid(format!(
            "actors: {count} of them; a route has at most {MOST_ACTORS}"
        )));
    }
    Ok(names.into_iter().map(clean).collect())
}

fn json(field: &str, text: &str) -> Result<RawJson, Refused> {
    RawJson::parse(text.to_owned()).map_err(|error| not_json(field, &error))
}

fn not_json(field: &str, error: &serde_json::Error) -> Refused {
    Refused::invalid(format!("{field}: not JSON: {error}"))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
