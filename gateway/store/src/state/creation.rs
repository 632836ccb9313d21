//! New envelopes: what can be stored, the record that is made of one, and whether a repeat is the same.

use crate::model::{NewEnvelope, Record};

use super::{length, microseconds};

/// Most bytes of an id.
pub const MAX_ID: usize = 1024;

/// Why a new envelope cannot be stored by any backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStorable {
    /// An id must be non-empty text.
    #[error("the id of the envelope is empty")]
    EmptyId,
    /// An id is at most [`MAX_ID`] bytes long.
    #[error("the id of the envelope has {0} bytes; at most {MAX_ID} are allowed")]
    LongId(usize),
    /// What is looked for by its text is at most [`MAX_ID`] bytes long too: an index holds no more.
    #[error("{0} has {1} bytes; at most {MAX_ID} are allowed")]
    Long(&'static str, usize),
    /// U+0000 cannot be stored in a text column.
    #[error("{0} contains the character U+0000, which cannot be stored")]
    Nul(&'static str),
}

/// Says whether a new envelope can be stored. Callers that answer to people ask before they store it.
pub fn check(new: &NewEnvelope) -> Result<(), NotStorable> {
    if new.id.is_empty() {
        return Err(NotStorable::EmptyId);
    }
    if new.id.len() > MAX_ID {
        return Err(NotStorable::LongId(new.id.len()));
    }
    let key = new.idempotency.as_ref().map(|idempotency| &idempotency.key);
    let outbox = new.outbox.as_ref();
    let indexed = [
        ("the id", Some(&new.id)),
        ("the id of the parent", new.parent_id.as_ref()),
        ("the tenant", new.tenant.as_ref()),
        ("the name of the tool", new.tool.as_ref()),
        ("the idempotency key", key),
    ];
    let long = indexed
        .iter()
        .find_map(|(what, text)| Some((*what, text.filter(|text| text.len() > MAX_ID)?.len())));
    if let Some((what, length)) = long {
        return Err(NotStorable::Long(what, length));
    }
    let others = [
        ("the name of the actor", outbox.map(|message| &message.actor)),
        ("the message id", outbox.map(|message| &message.message_id)),
    ];
    let actors = new.actors.iter().map(|actor| ("the route", Some(actor)));
    let nul = indexed
        .into_iter()
        .chain(others)
        .chain(actors)
        .find(|(_, text)| text.is_some_and(|text| text.contains('\0')));
    nul.map_or(Ok(()), |(what, _)| Err(NotStorable::Nul(what)))
}

/// The record that a new envelope begins as. Of its parent, if that is known, it takes tenant and deadline
/// (contract gateway §4.4).
pub fn record_of(new: &NewEnvelope, parent: Option<&Record>) -> Record {
    let at = microseconds(new.created_at);
    let deadline = new.deadline.or_else(|| parent.and_then(|parent| parent.deadline));
    Record {
        id: new.id.clone(),
        parent_id: new.parent_id.clone().filter(|id| !id.is_empty()),
        tenant: parent.map_or_else(|| new.tenant.clone(), |parent| parent.tenant.clone()),
        tool: new.tool.clone(),
        status: new.status,
        outcome: None,
        attempt: 1,
        actors: new.actors.clone(),
        route_current: new.route_current,
        route_metadata: new.route_metadata.clone(),
        headers: new.headers.clone(),
        payload: new.payload.clone(),
        result: None,
        error: None,
        timeout: new.timeout,
        deadline: deadline.map(microseconds),
        progress_percent: 0.0,
        current_actor_idx: 0,
        current_actor_name: None,
        phase: None,
        message: None,
        actors_completed: 0,
        stored_at: None,
        created_at: at,
        updated_at: at,
        version: 1,
    }
}

/// Whether a stored record was made by a request like `new`: the same parent, and the same route as far as it was set
/// when it was made. What comes after the current actor may have been rewritten since.
pub fn is_same(stored: &Record, new: &NewEnvelope) -> bool {
    let parent = new.parent_id.as_deref().filter(|id| !id.is_empty());
    if stored.parent_id.as_deref() != parent || stored.route_current != new.route_current {
        return false;
    }
    if stored.version == 1 {
        return stored.actors == new.actors;
    }
    let fixed = new.route_current.saturating_add(1).clamp(0, length(&new.actors));
    let fixed = usize::try_from(fixed).unwrap_or(0);
    stored.actors.get(..fixed) == new.actors.get(..fixed)
}
