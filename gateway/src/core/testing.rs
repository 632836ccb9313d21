//! What the tests of this module share.

use std::sync::Arc;

use asya_gateway_store::{Kind, Record, Status, Update};
use chrono::{DateTime, Utc};

/// A running record of this id.
pub(super) fn record(id: &str) -> Record {
    Record {
        id: id.to_owned(),
        parent_id: None,
        tenant: None,
        tool: None,
        status: Status::Running,
        outcome: None,
        attempt: 1,
        actors: vec!["a".to_owned()],
        route_current: 0,
        route_metadata: None,
        headers: None,
        payload: None,
        result: None,
        error: None,
        timeout: None,
        deadline: None,
        progress_percent: 0.0,
        current_actor_idx: 0,
        current_actor_name: None,
        phase: None,
        message: None,
        actors_completed: 0,
        stored_at: None,
        created_at: DateTime::<Utc>::UNIX_EPOCH,
        updated_at: DateTime::<Utc>::UNIX_EPOCH,
        version: 1,
    }
}

/// An update of this id; the final one if asked for.
pub(super) fn update(envelope: &str, id: i64, is_final: bool) -> Update {
    Update {
        id,
        envelope_id: Arc::from(envelope),
        kind: if is_final { Kind::Final } else { Kind::Progress },
        status: if is_final {
            Status::Succeeded
        } else {
            Status::Running
        },
        outcome: None,
        attempt: 1,
        message: None,
        result: None,
        error: None,
        failure: None,
        progress_percent: None,
        actor: None,
        actors: None,
        current_actor_idx: None,
        phase: None,
        partial: None,
        next_run_at: None,
        at: DateTime::<Utc>::UNIX_EPOCH,
    }
}
