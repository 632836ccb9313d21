//! Lines of the history, and cancellations for sidecars, as a plan says.

use std::collections::HashMap;

use asya_runtime_protocol::RawJson;
use sqlx::{PgConnection, Row as _};

use super::columns::{array_literal, column, count, json_text};
use crate::model::{CancelNotice, Outcome, Partial, Phase};
use crate::state::plan::{NewUpdate, Plan};

/// What has been added to the history.
#[derive(Default)]
pub(super) struct Inserted {
    /// In the order of the plan.
    pub(super) ids: Vec<i64>,
    /// The number of the transaction; `None` where nothing was added.
    pub(super) transaction: Option<String>,
}

// Replicas of the original cannot read a history with a NULL among its messages, hence ''.
const INSERT_UPDATES: &str = "\
    INSERT INTO envelope_updates (envelope_id, kind, status, outcome, attempt, message, error, progress_percent, \
        progress_exact, actor, actors, current_actor_idx, envelope_state, result, result_json, result_shared, \
        failure_json, partial_actor_idx, partial_index, partial_json, next_run_at, \"timestamp\") \
    SELECT n.id, n.kind, n.status, n.outcome, n.attempt, coalesce(n.message, ''), n.error, \
        n.progress::numeric(5, 2), n.progress, n.actor, n.actors::text[], n.actor_idx, n.phase, \
        CASE WHEN $20 THEN asya_jsonb(n.result) END, CASE WHEN NOT n.shared THEN n.result END, n.shared, n.failure, \
        n.partial_actor_idx, n.partial_index, n.partial, n.next_run_at, n.at \
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::int[], $6::text[], $7::text[], \
            $8::double precision[], $9::text[], $10::text[], $11::bigint[], $12::text[], $13::text[], $14::boolean[], \
            $15::text[], $16::bigint[], $17::bigint[], $18::text[], $19::timestamptz[], $21::timestamptz[]) \
        WITH ORDINALITY \
        AS n (id, kind, status, outcome, attempt, message, error, progress, actor, actors, actor_idx, phase, result, \
            shared, failure, partial_actor_idx, partial_index, partial, next_run_at, at, place) \
    ORDER BY n.place RETURNING id, tx::text";

/// Adds the updates of a plan.
pub(super) async fn insert_updates(
    connection: &mut PgConnection,
    plan: &Plan,
    mirror: bool,
) -> sqlx::Result<Inserted> {
    let updates = &plan.updates[..];
    if updates.is_empty() {
        return Ok(Inserted::default());
    }
    let results: HashMap<&str, &RawJson> = plan
        .writes
        .iter()
        .filter_map(|write| Some((write.record.id.as_str(), write.result.as_ref()?)))
        .collect();
    let is_shared = |update: &NewUpdate| {
        let result = update.draft.result.as_ref();
        result.is_some() && result == results.get(&*update.envelope_id).copied()
    };
    let rows = sqlx::query(INSERT_UPDATES)
        .bind(column(updates, |update| &*update.envelope_id))
        .bind(column(updates, |update| update.draft.kind.as_str()))
        .bind(column(updates, |update| update.draft.status.as_str()))
        .bind(column(updates, |update| {
            update.draft.outcome.map(Outcome::as_str)
        }))
        .bind(column(updates, |update| count(update.draft.attempt)))
        .bind(column(updates, |update| update.draft.message.as_deref()))
        .bind(column(updates, |update| update.draft.error.as_deref()))
        .bind(column(updates, |update| update.draft.progress_percent))
        .bind(column(updates, |update| update.draft.actor.as_deref()))
        .bind(column(updates, |update| {
            update.draft.actors.as_deref().map(array_literal)
        }))
        .bind(column(updates, |update| update.draft.current_actor_idx))
        .bind(column(updates, |update| update.draft.phase.map(Phase::as_str)))
        .bind(column(updates, |update| json_text(update.draft.result.as_ref())))
        .bind(column(updates, is_shared))
        .bind(column(updates, |update| json_text(update.draft.failure.as_ref())))
        .bind(column(updates, |update| {
            partial(update).map(|partial| partial.actor_index)
        }))
        .bind(column(updates, |update| {
            partial(update).map(|partial| i64::from(partial.index))
        }))
        .bind(column(updates, |update| {
            partial(update).map(|partial| partial.value.as_str())
        }))
        .bind(column(updates, |update| update.draft.next_run_at))
        .bind(mirror)
        .bind(column(updates, |update| update.draft.at))
        .fetch_all(connection)
        .await?;
    let mut inserted = Inserted::default();
    for row in &rows {
        inserted.ids.push(row.try_get(0)?);
        inserted.transaction = Some(row.try_get(1)?);
    }
    // They are numbered in the order of the plan, whatever order they come back in.
    inserted.ids.sort_unstable();
    Ok(inserted)
}

fn partial(update: &NewUpdate) -> Option<&Partial> {
    update.draft.partial.as_ref()
}

/// Keeps cancellations for sidecars.
pub(super) async fn insert_notices(
    connection: &mut PgConnection,
    notices: &[CancelNotice],
) -> sqlx::Result<()> {
    if notices.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO asya_cancellations (envelope_id, attempt, keep_until, reason) \
         SELECT * FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::text[]) \
         ON CONFLICT (envelope_id, attempt) DO NOTHING",
    )
    .bind(column(notices, |notice| notice.envelope_id.as_str()))
    .bind(column(notices, |notice| count(notice.attempt)))
    .bind(column(notices, |notice| notice.keep_until))
    .bind(column(notices, |notice| notice.reason.as_str()))
    .execute(connection)
    .await?;
    Ok(())
}
