//! What a message carries about its earlier runs at one hop: the header `asya_retry` (documented in docs/retries.md).
//!
//! The header belongs to the hop that wrote it: the sidecar takes it off at arrival, and neither outputs nor error
//! envelopes carry it on. Anybody may write headers, so what does not look like ours is left alone and means nothing.

use asya_runtime_protocol::{Envelope, RawJson, RawObject};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::failure::RunFailure;
use super::policy::Why;

/// The header's name.
pub(crate) const HEADER: &str = "asya_retry";

/// Past runs that are kept: so many of the first and so many of the last.
const KEPT: (usize, usize) = (5, 5);

/// Longest text of a member of the history, in characters.
const LONGEST_TEXT: usize = 300;

/// The runs of one message at one hop, up to the present one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Runs {
    /// Number of the present run, from 1.
    attempt: u32,
    /// When the first one began; `None` if this is the first.
    first_at: Option<DateTime<Utc>>,
    history: Vec<PastRun>,
}

/// One failed run, as it stands in the header and in the error envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct PastRun {
    attempt: u32,
    /// When it began.
    at: String,
    error: String,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    exception: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    /// How long the next run was to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    after_ms: Option<u64>,
    /// Why there was no next run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gave_up: Option<String>,
}

/// The header as JSON.
#[derive(Serialize, Deserialize)]
struct Header {
    actor: String,
    step: u64,
    attempt: u32,
    first_at: String,
    history: Vec<PastRun>,
}

/// What an error envelope tells about the runs (`payload.attempts`, `payload.history`).
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) attempts: RawJson,
    pub(crate) history: RawJson,
}

/// What followed a failed run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    Retry { after: std::time::Duration },
    GaveUp(Why),
}

impl Runs {
    /// A message that was not run here before.
    pub(crate) const fn first() -> Self {
        Self {
            attempt: 1,
            first_at: None,
            history: Vec::new(),
        }
    }

    /// Whether `envelope` has a header of ours.
    pub(crate) fn are_told_by(envelope: &Envelope) -> bool {
        headers(envelope).is_some_and(|raw| Header::read(&raw).is_some())
    }

    /// Takes the header off `envelope`. Runs of another hop, or another actor, say nothing here.
    pub(crate) fn take(envelope: &mut Envelope, actor: &str) -> Self {
        let Some(header) = headers(envelope).and_then(|raw| Header::read(&raw)) else {
            return Self::first();
        };
        remove(&mut envelope.headers);
        if header.actor != actor || header.step != envelope.route.step() {
            return Self::first();
        }
        header.into_runs().unwrap_or_else(Self::first)
    }

    /// Number of the present run.
    pub(crate) const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When the first run began, given when the present one did.
    pub(super) fn first_at(&self, started: DateTime<Utc>) -> DateTime<Utc> {
        self.first_at.unwrap_or(started)
    }

    /// Notes that the present run, begun at `started`, failed.
    pub(super) fn note(&mut self, failure: &RunFailure, started: DateTime<Utc>, next: Next) {
        let (after_ms, gave_up) = match next {
            Next::Retry { after } => (Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)), None),
            Next::GaveUp(why) => (None, Some(why.as_str().to_owned())),
        };
        self.first_at.get_or_insert(started);
        self.history.push(PastRun {
            attempt: self.attempt,
            at: written(started),
            error: bounded(&failure.code),
            exception: failure.exceptions.first().map(|name| bounded(name)),
            message: bounded(&failure.message),
            after_ms,
            gave_up,
        });
        shorten(&mut self.history);
    }

    /// Writes the header for the run after the present one.
    pub(super) fn write_next(&self, envelope: &mut Envelope, actor: &str, started: DateTime<Utc>) {
        let header = Header {
            actor: actor.to_owned(),
            step: envelope.route.step(),
            attempt: self.attempt.saturating_add(1),
            first_at: written(self.first_at(started)),
            history: self.history.clone(),
        };
        let headers = envelope.headers.get_or_insert_with(RawObject::new);
        headers.insert(HEADER, &json(&header));
    }

    /// What the error envelope says about the runs that failed; nothing when none is noted.
    pub(crate) fn record(&self) -> Option<Record> {
        let last = self.history.last()?;
        Some(Record {
            attempts: json(&last.attempt),
            history: json(&self.history),
        })
    }

    /// The `details` of the last failure, as far as they are noted.
    pub(crate) fn last_details(&self) -> Option<RawJson> {
        #[derive(Serialize)]
        struct Details<'a> {
            message: &'a str,
            #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
            exception: Option<&'a str>,
        }
        let last = self.history.last()?;
        let details = Details {
            message: &last.message,
            exception: last.exception.as_deref(),
        };
        Some(json(&details))
    }
}

impl Header {
    fn read(raw: &RawJson) -> Option<Self> {
        raw.to().ok()
    }

    fn into_runs(self) -> Option<Runs> {
        let first_at = DateTime::parse_from_rfc3339(&self.first_at).ok()?;
        let mut history = self.history;
        shorten(&mut history);
        for run in &mut history {
            run.shorten();
        }
        (self.attempt > 1).then(|| Runs {
            attempt: self.attempt,
            first_at: Some(first_at.with_timezone(&Utc)),
            history,
        })
    }
}

impl PastRun {
    fn shorten(&mut self) {
        let texts = [&mut self.at, &mut self.error, &mut self.message];
        let optional = [&mut self.exception, &mut self.gave_up];
        for text in texts.into_iter().chain(optional.into_iter().flatten()) {
            *text = bounded(text);
        }
    }
}

fn headers(envelope: &Envelope) -> Option<RawJson> {
    envelope.headers.as_ref()?.get(HEADER)
}

/// Removes the header; headers that hold nothing else were not there before.
pub(crate) fn remove(headers: &mut Option<RawObject>) {
    if let Some(others) = headers
        && others.remove(HEADER)
        && others.is_empty()
    {
        *headers = None;
    }
}

/// Leaves the first and the last runs; their numbers show that others were between.
fn shorten(history: &mut Vec<PastRun>) {
    let (first, last) = KEPT;
    if history.len() > first + last {
        history.drain(first..history.len() - last);
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// JSON of strings and integers.
#[expect(
    clippy::expect_used,
    reason = "strings and integers can always be written; state that is silently lost would mean retries without end"
)]
fn json(value: &impl Serialize) -> RawJson {
    RawJson::from_value(value).expect("strings and integers are JSON")
}

#[cfg(test)]
mod tests;
