//! Reports: a whole batch in one transaction. The rows are locked in the order of their ids, the
//! [plan](crate::state::plan) is made, and what it says is written where the version is still the one that was read.
//!
//! A commit whose answer was lost is looked up by the number of its transaction before anything runs again, so that a
//! change is neither lost nor told twice.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use asya_runtime_protocol::RawJson;
use chrono::Utc;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::columns::{array_literal, can_exist, count, int32, json_text, microseconds};
use super::database::Work;
use super::failure::{Kind, kind};
use super::rows::{basic_columns, basic_record};
use crate::model::{Applied, CancelNotice, OutboxEntry, Phase, Report};
use crate::state::plan::{self, NewUpdate, Plan, Write, report_of};
use crate::store::OutboxOutcome;

/// Applies reports.
pub(super) struct Apply {
    reports: Vec<Report>,
    /// What became of messages, in the same transaction.
    settled: Vec<(OutboxEntry, OutboxOutcome)>,
    mirror: bool,
    in_doubt: Mutex<Option<InDoubt>>,
}

/// A transaction whose commit was sent.
struct InDoubt {
    transaction: String,
    answers: Vec<Applied>,
}

impl Apply {
    /// Reports alone.
    pub(super) fn reports(reports: Vec<Report>, mirror: bool) -> Self {
        Self {
            reports,
            settled: Vec::new(),
            mirror,
            in_doubt: Mutex::new(None),
        }
    }

    /// What became of messages, and what that says about their envelopes.
    pub(super) fn settled(settled: Vec<(OutboxEntry, OutboxOutcome)>, mirror: bool) -> Self {
        let now = Utc::now();
        let reports = settled
            .iter()
            .filter_map(|(entry, outcome)| report_of(entry, outcome, now))
            .collect();
        Self {
            settled,
            ..Self::reports(reports, mirror)
        }
    }

    fn set_in_doubt(&self, in_doubt: Option<InDoubt>) -> Option<InDoubt> {
        let mut guard = self.in_doubt.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *guard, in_doubt)
    }

    /// The answers of the run before, if its commit has reached the database after all.
    async fn settle_doubt(&self, connection: &mut PgConnection) -> sqlx::Result<Option<Vec<Applied>>> {
        let Some(in_doubt) = self.set_in_doubt(None) else {
            return Ok(None);
        };
        let asked = sqlx::query_scalar("SELECT pg_xact_status($1::text::xid8)")
            .bind(&in_doubt.transaction)
            .fetch_one(connection)
            .await;
        match asked.as_ref().map(Option::as_deref) {
            Ok(Some("committed")) => Ok(Some(in_doubt.answers)),
            Ok(Some("in progress")) => {
                self.set_in_doubt(Some(in_doubt));
                let told = "the server is still about to commit";
                Err(sqlx::Error::Io(std::io::Error::other(told)))
            }
            Ok(_) => Ok(None),
            Err(_) => {
                self.set_in_doubt(Some(in_doubt));
                asked.map(|_: Option<String>| None)
            }
        }
    }
}

impl Work for Apply {
    type Out = Vec<Applied>;
    const NAME: &'static str = "apply";

    fn name(&self) -> &'static str {
        if self.settled.is_empty() { Self::NAME } else { "settle_outbox" }
    }

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<Applied>> {
        if let Some(answers) = self.settle_doubt(connection).await? {
            return Ok(answers);
        }
        let mut transaction = connection.begin().await?;
        let standing = lock(&mut transaction, &self.reports).await?;
        let plan = plan::plan(standing, &self.reports, Utc::now());
        write(&mut transaction, &plan.writes, self.mirror).await?;
        let inserted = insert_updates(&mut transaction, &plan, self.mirror).await?;
        insert_notices(&mut transaction, &plan.notices).await?;
        clear_outbox(&mut transaction, &plan, &self.settled).await?;
        let answers = plan.answers(&inserted.ids);
        let answers = with_postponed(&mut transaction, &self.settled, answers).await?;
        let Some(number) = inserted.transaction else {
            transaction.commit().await?;
            return Ok(answers);
        };
        self.set_in_doubt(Some(InDoubt {
            transaction: number,
            answers,
        }));
        match transaction.commit().await {
            Err(error) if kind(&error) == Kind::Lost => Err(error),
            Err(error) => {
                self.set_in_doubt(None);
                Err(error)
            }
            Ok(()) => Ok(self
                .set_in_doubt(None)
                .map(|in_doubt| in_doubt.answers)
                .unwrap_or_default()),
        }
    }
}

async fn lock(connection: &mut PgConnection, reports: &[Report]) -> sqlx::Result<Vec<crate::model::Record>> {
    let ids: Vec<_> = plan::ids(reports).into_iter().filter(|id| can_exist(id)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = concat!(
        "SELECT ",
        basic_columns!(),
        " FROM envelopes e WHERE e.id = ANY($1) ORDER BY e.id COLLATE \"C\" FOR UPDATE"
    );
    let rows = sqlx::query(statement).bind(ids).fetch_all(connection).await?;
    rows.iter().map(basic_record).collect()
}

const WRITE: &str = "\
    UPDATE envelopes e SET status = w.status, outcome = w.outcome, route_actors = w.actors::text[], \
        total_actors = cardinality(w.actors::text[]), error = w.error, progress_percent = w.progress::numeric(5, 2), \
        progress_exact = w.progress, current_actor_idx = w.actor_idx, current_actor_name = w.actor_name, \
        phase = w.phase, message = w.message, actors_completed = w.completed, stored_at = w.stored_at, \
        result_json = coalesce(w.result, e.result_json), \
        result = CASE WHEN w.result IS NULL THEN e.result WHEN $18 THEN asya_jsonb(w.result) END, \
        updated_at = w.updated_at, version = w.version \
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], \
            $8::double precision[], $9::int[], $10::text[], $11::text[], $12::text[], $13::int[], $14::text[], \
            $15::text[], $16::timestamptz[], $17::int[]) \
        AS w (id, base, version, status, outcome, actors, error, progress, actor_idx, actor_name, phase, message, \
            completed, stored_at, result, updated_at, attempt) \
    WHERE e.id = w.id AND e.version = w.base AND e.attempt = w.attempt";

async fn write(connection: &mut PgConnection, writes: &[Write], mirror: bool) -> sqlx::Result<()> {
    if writes.is_empty() {
        return Ok(());
    }
    let records = || writes.iter().map(|write| &write.record);
    let written = sqlx::query(WRITE)
        .bind(records().map(|record| record.id.as_str()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.base).collect::<Vec<_>>())
        .bind(records().map(|record| record.version).collect::<Vec<_>>())
        .bind(records().map(|record| record.status.as_str()).collect::<Vec<_>>())
        .bind(records().map(|record| record.outcome.map(|outcome| outcome.as_str())).collect::<Vec<_>>())
        .bind(records().map(|record| array_literal(&record.actors)).collect::<Vec<_>>())
        .bind(records().map(|record| record.error.as_deref()).collect::<Vec<_>>())
        .bind(records().map(|record| record.progress_percent).collect::<Vec<_>>())
        .bind(records().map(|record| int32(record.current_actor_idx)).collect::<Vec<_>>())
        .bind(records().map(|record| record.current_actor_name.as_deref()).collect::<Vec<_>>())
        .bind(records().map(|record| record.phase.map(Phase::as_str)).collect::<Vec<_>>())
        .bind(records().map(|record| record.message.as_deref()).collect::<Vec<_>>())
        .bind(records().map(|record| count(record.actors_completed)).collect::<Vec<_>>())
        .bind(records().map(|record| record.stored_at.as_deref()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| json_text(write.result.as_ref())).collect::<Vec<_>>())
        .bind(records().map(|record| record.updated_at).collect::<Vec<_>>())
        .bind(records().map(|record| count(record.attempt)).collect::<Vec<_>>())
        .bind(mirror)
        .execute(connection)
        .await?;
    if written.rows_affected() == writes.len() as u64 {
        return Ok(());
    }
    // The rows are locked, so that this is somebody who changed them under our own hand.
    Err(sqlx::Error::Io(std::io::Error::other("an envelope changed while it was locked")))
}

#[derive(Default)]
struct Inserted {
    /// In the order of the plan.
    ids: Vec<i64>,
    /// The number of the transaction.
    transaction: Option<String>,
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

async fn insert_updates(connection: &mut PgConnection, plan: &Plan, mirror: bool) -> sqlx::Result<Inserted> {
    let updates = &plan.updates;
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
    let drafts = || updates.iter().map(|update| &update.draft);
    let partials = || drafts().map(|draft| draft.partial.as_ref());
    let rows = sqlx::query(INSERT_UPDATES)
        .bind(updates.iter().map(|update| &*update.envelope_id).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.kind.as_str()).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.status.as_str()).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.outcome.map(|outcome| outcome.as_str())).collect::<Vec<_>>())
        .bind(drafts().map(|draft| count(draft.attempt)).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.message.as_deref()).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.error.as_deref()).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.progress_percent).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.actor.as_deref()).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.actors.as_deref().map(array_literal)).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.current_actor_idx).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.phase.map(Phase::as_str)).collect::<Vec<_>>())
        .bind(drafts().map(|draft| json_text(draft.result.as_ref())).collect::<Vec<_>>())
        .bind(updates.iter().map(is_shared).collect::<Vec<_>>())
        .bind(drafts().map(|draft| json_text(draft.failure.as_ref())).collect::<Vec<_>>())
        .bind(partials().map(|partial| partial.map(|partial| partial.actor_index)).collect::<Vec<_>>())
        .bind(partials().map(|partial| partial.map(|partial| i64::from(partial.index))).collect::<Vec<_>>())
        .bind(partials().map(|partial| partial.map(|partial| partial.value.as_str())).collect::<Vec<_>>())
        .bind(drafts().map(|draft| draft.next_run_at).collect::<Vec<_>>())
        .bind(mirror)
        .bind(drafts().map(|draft| draft.at).collect::<Vec<_>>())
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

async fn insert_notices(connection: &mut PgConnection, notices: &[CancelNotice]) -> sqlx::Result<()> {
    if notices.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO asya_cancellations (envelope_id, attempt, keep_until, reason) \
         SELECT * FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::text[]) \
         ON CONFLICT (envelope_id, attempt) DO NOTHING",
    )
    .bind(notices.iter().map(|notice| notice.envelope_id.as_str()).collect::<Vec<_>>())
    .bind(notices.iter().map(|notice| count(notice.attempt)).collect::<Vec<_>>())
    .bind(notices.iter().map(|notice| notice.keep_until).collect::<Vec<_>>())
    .bind(notices.iter().map(|notice| notice.reason.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes out what is settled, and what nobody is to publish any more.
async fn clear_outbox(
    connection: &mut PgConnection,
    plan: &Plan,
    settled: &[(OutboxEntry, OutboxOutcome)],
) -> sqlx::Result<()> {
    let finished: Vec<_> = plan.finished().collect();
    if !finished.is_empty() {
        sqlx::query("DELETE FROM asya_outbox WHERE envelope_id = ANY($1)")
            .bind(finished)
            .execute(&mut *connection)
            .await?;
    }
    let (later, done): (Vec<_>, Vec<_>) = settled
        .iter()
        .partition(|(_, outcome)| matches!(outcome, OutboxOutcome::Later { .. }));
    if !done.is_empty() {
        sqlx::query(
            "DELETE FROM asya_outbox o USING unnest($1::text[], $2::int[]) AS d (id, attempt) \
             WHERE o.envelope_id = d.id AND o.attempt = d.attempt",
        )
        .bind(done.iter().map(|(entry, _)| entry.envelope_id.as_str()).collect::<Vec<_>>())
        .bind(done.iter().map(|(entry, _)| count(entry.attempt)).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    put_off(connection, &later).await
}

/// Puts answers for what is to be tried again between those for what was reported.
async fn with_postponed(
    connection: &mut PgConnection,
    settled: &[(OutboxEntry, OutboxOutcome)],
    answers: Vec<Applied>,
) -> sqlx::Result<Vec<Applied>> {
    let is_postponed = |outcome: &OutboxOutcome| matches!(outcome, OutboxOutcome::Later { .. });
    let postponed: Vec<_> = settled
        .iter()
        .filter(|(_, outcome)| is_postponed(outcome))
        .map(|(entry, _)| entry.envelope_id.as_str())
        .collect();
    if postponed.is_empty() {
        return Ok(answers);
    }
    let statement = concat!("SELECT ", basic_columns!(), " FROM envelopes e WHERE e.id = ANY($1)");
    let rows = sqlx::query(statement).bind(postponed).fetch_all(connection).await?;
    let records = rows.iter().map(basic_record).collect::<sqlx::Result<Vec<_>>>()?;
    let mut answers = answers.into_iter();
    let answer = |(entry, outcome): &(OutboxEntry, OutboxOutcome)| {
        if !is_postponed(outcome) {
            return answers.next().unwrap_or(Applied::Unknown);
        }
        let record = records.iter().find(|record| record.id == entry.envelope_id);
        record.map_or(Applied::Unknown, |record| Applied::Nothing {
            record: Box::new(record.clone()),
        })
    };
    Ok(settled.iter().map(answer).collect())
}

async fn put_off(connection: &mut PgConnection, later: &[&(OutboxEntry, OutboxOutcome)]) -> sqlx::Result<()> {
    if later.is_empty() {
        return Ok(());
    }
    let said = || {
        later.iter().map(|(_, outcome)| match outcome {
            OutboxOutcome::Later { after, error } => (microseconds(*after), error.replace('\0', "\u{FFFD}")),
            OutboxOutcome::Published | OutboxOutcome::Failed { .. } => (0, String::new()),
        })
    };
    sqlx::query(
        "UPDATE asya_outbox o SET tries = o.tries + 1, error = l.error, \
             leased_until = clock_timestamp() + l.pause * interval '1 microsecond' \
         FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[]) AS l (id, attempt, pause, error) \
         WHERE o.envelope_id = l.id AND o.attempt = l.attempt",
    )
    .bind(later.iter().map(|(entry, _)| entry.envelope_id.as_str()).collect::<Vec<_>>())
    .bind(later.iter().map(|(entry, _)| count(entry.attempt)).collect::<Vec<_>>())
    .bind(said().map(|(pause, _)| pause).collect::<Vec<_>>())
    .bind(said().map(|(_, error)| error).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
