//! Envelopes and updates as JSON text, their keys in the contract's order (contract gateway §4.1, §5): pure functions.
//!
//! Payloads, results and details are copied byte for byte.

use asya_gateway_store::{ChildCounts, Kind, Outcome, Partial, Record, Update};
use asya_runtime_protocol::RawJson;
use chrono::{DateTime, SecondsFormat, Utc};

/// How much is said of an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Detail {
    /// With payload and result. What is without them has no key for them.
    pub(super) content: bool,
    /// With what the original does not know: outcome, attempt, tool and where it is stored.
    pub(super) outcome: bool,
}

impl Detail {
    /// As the original.
    pub(super) const ORIGINAL: Self = Self {
        content: true,
        outcome: false,
    };
}

/// Writes one JSON object, member by member.
pub(super) struct Object {
    out: Vec<u8>,
}

impl Object {
    pub(super) fn new() -> Self {
        Self::after(Vec::new())
    }

    /// Opens an object at the end of `out`.
    pub(super) fn after(mut out: Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    pub(super) fn text(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        push_text(&mut self.out, value);
        self
    }

    /// Only when there is some.
    pub(super) fn some_text(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) if !value.is_empty() => self.text(key, value),
            _ => self,
        }
    }

    pub(super) fn raw(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.key(key);
        self.out.extend_from_slice(value);
        self
    }

    pub(super) fn some_raw(&mut self, key: &str, value: Option<&RawJson>) -> &mut Self {
        match value {
            Some(value) => self.raw(key, value.as_bytes()),
            None => self,
        }
    }

    pub(super) fn number(&mut self, key: &str, value: impl std::fmt::Display) -> &mut Self {
        self.raw(key, value.to_string().as_bytes())
    }

    pub(super) fn texts(&mut self, key: &str, values: &[String]) -> &mut Self {
        self.key(key);
        self.out.push(b'[');
        for (at, value) in values.iter().enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            push_text(&mut self.out, value);
        }
        self.out.push(b']');
        self
    }

    pub(super) fn time(&mut self, key: &str, at: DateTime<Utc>) -> &mut Self {
        self.text(key, &at.to_rfc3339_opts(SecondsFormat::Micros, true))
    }

    pub(super) fn nested(&mut self, key: &str, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.key(key);
        let mut inner = Self::after(std::mem::take(&mut self.out));
        write(&mut inner);
        self.out = inner.finish();
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let mut out = self.out;
        out.push(b'}');
        out
    }

    fn key(&mut self, key: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        push_text(&mut self.out, key);
        self.out.push(b':');
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    // Writing a string into a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// A percentage with the two decimals that PostgreSQL keeps, without a fraction that says nothing.
pub(super) fn percent(value: f64) -> String {
    number((value * 100.0).round() / 100.0)
}

/// The shortest number that reads back as the same, as the original's encoder writes it.
pub(super) fn number(value: f64) -> String {
    if value.is_finite() {
        value.to_string()
    } else {
        "0".to_owned()
    }
}

/// One envelope.
pub(super) fn envelope(record: &Record, detail: Detail) -> Vec<u8> {
    let mut object = Object::new();
    members(&mut object, record, detail);
    object.finish()
}

/// Its members, into an object that gets others, too.
pub(super) fn members(object: &mut Object, record: &Record, detail: Detail) {
    object
        .text("id", &record.id)
        .some_text("parent_id", record.parent_id.as_deref())
        .text("status", record.status.as_str())
        .nested("route", |route| {
            route
                .texts("actors", &record.actors)
                .number("current", record.route_current)
                .some_raw("metadata", record.route_metadata.as_ref());
        })
        .some_raw("headers", record.headers.as_ref());
    if detail.content {
        object
            .raw(
                "payload",
                record.payload.as_ref().map_or(b"null", RawJson::as_bytes),
            )
            .some_raw("result", record.result.as_ref());
    }
    object.some_text("error", record.error.as_deref());
    if let Some(timeout) = record.timeout.filter(|timeout| !timeout.is_zero()) {
        // A part of a second would read as "no limit".
        object.number("timeout_seconds", timeout.as_secs().max(1));
    }
    if let Some(deadline) = record.deadline {
        object.text("deadline", &deadline.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    }
    object
        .raw("progress_percent", percent(record.progress_percent).as_bytes())
        .number("current_actor_idx", record.current_actor_idx)
        .some_text("current_actor_name", record.current_actor_name.as_deref())
        .some_text("message", record.message.as_deref())
        .number("actors_completed", record.actors_completed)
        .number("total_actors", record.actors.len())
        .time("created_at", record.created_at)
        .time("updated_at", record.updated_at);
    if detail.outcome {
        object
            .some_text("outcome", outcome(record).map(Outcome::as_str))
            .number("attempt", record.attempt)
            .some_text("tool", record.tool.as_deref())
            .some_text("stored_at", record.stored_at.as_deref());
    }
}

/// How it ended. Final rows of the original have no outcome of their own: it is their status.
pub(super) fn outcome(record: &Record) -> Option<Outcome> {
    use asya_gateway_store::Status;
    record.outcome.or(match record.status {
        Status::Succeeded => Some(Outcome::Succeeded),
        Status::Failed => Some(Outcome::Failed),
        Status::Pending | Status::Running | Status::Unknown => None,
    })
}

/// Counts of all envelopes below one.
pub(super) fn counts(object: &mut Object, counts: ChildCounts) {
    object
        .number("pending", counts.pending)
        .number("running", counts.running)
        .number("succeeded", counts.succeeded)
        .number("failed", counts.failed)
        .number("total", counts.total());
}

/// One event of a stream, whole: its id, its name, its data on one line.
pub(super) fn event(update: &Update, with_outcome: bool) -> Vec<u8> {
    let mut out = format!("id: {}\n", update.id).into_bytes();
    if let (Some(item), Kind::Partial) = (&update.partial, update.kind) {
        out.extend_from_slice(b"event: partial\ndata: ");
        return ended(partial(out, update, item));
    }
    out.extend_from_slice(b"event: update\ndata: ");
    ended(update_data(out, update, with_outcome))
}

/// Ends an event. A line break in its data can only be white space between tokens, where a space says the same.
fn ended(mut event: Vec<u8>) -> Vec<u8> {
    let mut breaks_before_data = 2;
    for byte in &mut event {
        if matches!(*byte, b'\n' | b'\r') {
            if breaks_before_data > 0 {
                breaks_before_data -= 1;
            } else {
                *byte = b' ';
            }
        }
    }
    event.extend_from_slice(b"\n\n");
    event
}

fn update_data(out: Vec<u8>, update: &Update, with_outcome: bool) -> Vec<u8> {
    let mut object = Object::after(out);
    object
        .text("id", &update.envelope_id)
        .text("status", update.status.as_str())
        .some_text("message", update.message.as_deref())
        .some_raw("result", update.result.as_ref())
        .some_text("error", update.error.as_deref());
    if let Some(progress) = update.progress_percent {
        object.raw("progress_percent", percent(progress).as_bytes());
    }
    object.some_text("actor", update.actor.as_deref());
    if let Some(actors) = update.actors.as_deref().filter(|actors| !actors.is_empty()) {
        object.texts("actors", actors);
    }
    if let Some(index) = update.current_actor_idx {
        object.number("current_actor_idx", index);
    }
    if let Some(phase) = update.phase {
        object.text("envelope_state", phase.as_str());
    }
    object.time("timestamp", update.at);
    if with_outcome {
        object
            .some_text("outcome", update.outcome.map(Outcome::as_str))
            .number("attempt", update.attempt);
    }
    object.finish()
}

fn partial(out: Vec<u8>, update: &Update, item: &Partial) -> Vec<u8> {
    let mut object = Object::after(out);
    object
        .text("id", &update.envelope_id)
        .some_text("actor", update.actor.as_deref())
        .number("current_actor_idx", item.actor_index)
        .number("index", item.index)
        .raw("value", item.value.as_bytes())
        .number("attempt", update.attempt)
        .time("timestamp", update.at);
    object.finish()
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;
