//! Reports: a whole batch in one transaction. The rows are locked in the order of their ids, the
//! [plan](crate::state::plan) is made, and what it says is written where the version is still the one that was read.
//!
//! A commit whose answer was lost is looked up by the number of its transaction before anything runs again, so that a
//! change is neither lost nor told twice.

use std::sync::{Mutex, PoisonError};

use chrono::Utc;
use sqlx::{Connection as _, PgConnection};

use super::columns::{array_literal, can_exist, column, count, int32, json_text};
use super::database::Work;
use super::failure::{Kind, kind};
use super::history::{insert_notices, insert_updates};
use super::outbox::{clear, with_postponed};
use super::rows::{basic_columns, basic_record};
use crate::model::{Applied, OutboxEntry, Outcome, Phase, Record, Report};
use crate::state::plan::{self, Write, report_of};
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
        if self.settled.is_empty() {
            Self::NAME
        } else {
            "settle_outbox"
        }
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
        clear(&mut transaction, &plan, &self.settled).await?;
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

async fn lock(connection: &mut PgConnection, reports: &[Report]) -> sqlx::Result<Vec<Record>> {
    let ids: Vec<_> = plan::ids(reports)
        .into_iter()
        .filter(|id| can_exist(id))
        .collect();
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
    let written = sqlx::query(WRITE)
        .bind(column(writes, |write| write.record.id.as_str()))
        .bind(column(writes, |write| write.base))
        .bind(column(writes, |write| write.record.version))
        .bind(column(writes, |write| write.record.status.as_str()))
        .bind(column(writes, |write| write.record.outcome.map(Outcome::as_str)))
        .bind(column(writes, |write| array_literal(&write.record.actors)))
        .bind(column(writes, |write| write.record.error.as_deref()))
        .bind(column(writes, |write| write.record.progress_percent))
        .bind(column(writes, |write| int32(write.record.current_actor_idx)))
        .bind(column(writes, |write| write.record.current_actor_name.as_deref()))
        .bind(column(writes, |write| write.record.phase.map(Phase::as_str)))
        .bind(column(writes, |write| write.record.message.as_deref()))
        .bind(column(writes, |write| count(write.record.actors_completed)))
        .bind(column(writes, |write| write.record.stored_at.as_deref()))
        .bind(column(writes, |write| json_text(write.result.as_ref())))
        .bind(column(writes, |write| write.record.updated_at))
        .bind(column(writes, |write| count(write.record.attempt)))
        .bind(mirror)
        .execute(connection)
        .await?;
    if written.rows_affected() == writes.len() as u64 {
        return Ok(());
    }
    // The rows are locked, so that this is somebody who changed them under our own hand.
    Err(sqlx::Error::Io(std::io::Error::other(
        "an envelope changed while it was locked",
    )))
}
