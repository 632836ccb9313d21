//! What is only read: one envelope, lists, children, history, and what is due.

use std::ops::Range;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _};

use super::columns::instant;
use super::database::Work;
use super::rows::{basic_columns, basic_record, full_columns, full_record, update, update_columns};
use crate::model::{
    CancelNotice, ChildCounts, Filter, Key, ListPage, Outcome, Page, Record, Status, Unfinished, Update, View,
};

/// Most records of one page.
const LARGEST_PAGE: u32 = 1000;

/// Whether it answers.
pub(super) struct Ping;

impl Work for Ping {
    type Out = ();
    const NAME: &'static str = "ping";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        sqlx::query("SELECT 1").execute(connection).await.map(|_| ())
    }
}

/// One envelope.
pub(super) struct Get<'a> {
    pub(super) id: &'a str,
    pub(super) view: View,
}

impl Work for Get<'_> {
    type Out = Option<Record>;
    const NAME: &'static str = "get";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Option<Record>> {
        let statement = match self.view {
            View::Basic => concat!("SELECT ", basic_columns!(), " FROM envelopes e WHERE e.id = $1"),
            View::Full => concat!("SELECT ", full_columns!(), " FROM envelopes e WHERE e.id = $1"),
        };
        let row = sqlx::query(statement)
            .bind(self.id)
            .fetch_optional(connection)
            .await?;
        let record = match self.view {
            View::Basic => basic_record,
            View::Full => full_record,
        };
        row.as_ref().map(record).transpose()
    }
}

/// Whose turn it is: the actor that was reported last, else the one that the route began with.
macro_rules! turn {
    () => {
        "coalesce(e.current_actor_name, e.route_actors[least(e.route_current, 2147483646) + 1])"
    };
}

/// Envelopes that match, newest first.
pub(super) struct List<'a> {
    pub(super) filter: &'a Filter,
    pub(super) page: &'a Page,
}

impl List<'_> {
    fn query(&self, size: i64) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new(match self.page.view {
            View::Basic => concat!("SELECT ", basic_columns!(), " FROM envelopes e WHERE true"),
            View::Full => concat!("SELECT ", full_columns!(), " FROM envelopes e WHERE true"),
        });
        let filter = self.filter;
        let texts = [
            (" AND e.tenant = ", &filter.tenant),
            (" AND e.tool = ", &filter.tool),
            (" AND e.parent_id = ", &filter.parent_id),
            (concat!(" AND ", turn!(), " = "), &filter.actor),
        ];
        for (condition, value) in texts {
            if let Some(value) = value {
                query.push(condition).push_bind(value.clone());
            }
        }
        if let Some(actor) = &filter.actor {
            // What the index has of it.
            query.push(concat!(" AND left(", turn!(), ", 256) = left("));
            query.push_bind(actor.clone()).push(", 256)");
        }
        if !filter.statuses.is_empty() {
            let words: Vec<_> = filter.statuses.iter().map(|status| status.as_str()).collect();
            query.push(" AND e.status = ANY(").push_bind(words).push(")");
        }
        if !filter.outcomes.is_empty() {
            push_outcomes(&mut query, &filter.outcomes);
        }
        if let Some(from) = filter.created_from {
            query.push(" AND e.created_at >= ").push_bind(instant(from));
        }
        if let Some(before) = filter.created_before {
            query.push(" AND e.created_at < ").push_bind(instant(before));
        }
        if let Some(key) = &self.page.after {
            push_key(&mut query, key);
        }
        // Bytewise, whatever order the database has for texts.
        query.push(" ORDER BY e.created_at DESC, e.id COLLATE \"C\" DESC LIMIT ");
        query.push_bind(size + 1);
        query
    }
}

fn push_outcomes(query: &mut QueryBuilder<Postgres>, outcomes: &[Outcome]) {
    let words: Vec<_> = outcomes.iter().map(|outcome| outcome.as_str()).collect();
    // Rows of the original have none: there the status says it.
    query.push(" AND e.status IN ('succeeded', 'failed') AND coalesce(e.outcome, e.status) ");
    match words[..] {
        // The index has those of one outcome in the order of the list.
        [word] => query.push("= ").push_bind(word),
        _ => query.push("= ANY(").push_bind(words).push(")"),
    };
}

fn push_key(query: &mut QueryBuilder<Postgres>, key: &Key) {
    let created =
        instant(DateTime::from_timestamp_micros(key.created_us).unwrap_or(DateTime::<Utc>::MAX_UTC));
    // The first half is what the index on created_at can use.
    query.push(" AND e.created_at <= ").push_bind(created);
    query.push(" AND (e.created_at < ").push_bind(created);
    query
        .push(" OR e.id COLLATE \"C\" < ")
        .push_bind(key.id.clone())
        .push(")");
}

impl Work for List<'_> {
    type Out = ListPage;
    const NAME: &'static str = "list";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<ListPage> {
        let size = self.page.size.clamp(1, LARGEST_PAGE);
        let mut query = self.query(i64::from(size));
        let rows = query.build().fetch_all(connection).await?;
        let record = match self.page.view {
            View::Basic => basic_record,
            View::Full => full_record,
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let records = rows
            .iter()
            .take(size)
            .map(record)
            .collect::<sqlx::Result<Vec<_>>>()?;
        let last = records.last().filter(|_| rows.len() > size);
        let next = last.map(|record| Key {
            created_us: record.created_at.timestamp_micros(),
            id: record.id.clone(),
        });
        Ok(ListPage { records, next })
    }
}

/// All below one; `UNION` ends even where somebody has made a circle.
macro_rules! below {
    () => {
        "WITH RECURSIVE below AS ( \
             SELECT id, status, attempt FROM envelopes WHERE parent_id = $1 \
             UNION SELECT c.id, c.status, c.attempt FROM envelopes c JOIN below b ON c.parent_id = b.id \
         ) "
    };
}

/// Counts all envelopes below one.
pub(super) struct Children<'a>(pub(super) &'a str);

impl Work for Children<'_> {
    type Out = ChildCounts;
    const NAME: &'static str = "children";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<ChildCounts> {
        let statement = concat!(
            below!(),
            "SELECT status, count(*) FROM below WHERE id <> $1 GROUP BY status"
        );
        let rows = sqlx::query(statement).bind(self.0).fetch_all(connection).await?;
        let mut counts = ChildCounts::default();
        for row in rows {
            let number = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or_default();
            match Status::parse(row.try_get(0)?) {
                Some(Status::Pending) => counts.pending += number,
                Some(Status::Succeeded) => counts.succeeded += number,
                Some(Status::Failed) => counts.failed += number,
                Some(Status::Running | Status::Unknown) | None => counts.running += number,
            }
        }
        Ok(counts)
    }
}

/// All envelopes below one that are not final.
pub(super) struct UnfinishedBelow<'a> {
    pub(super) id: &'a str,
    pub(super) limit: u32,
}

impl Work for UnfinishedBelow<'_> {
    type Out = Vec<Unfinished>;
    const NAME: &'static str = "unfinished_below";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<Unfinished>> {
        let statement = concat!(
            below!(),
            "SELECT id, attempt FROM below WHERE id <> $1 AND status NOT IN ('succeeded', 'failed') \
             ORDER BY id LIMIT $2"
        );
        let rows = sqlx::query(statement)
            .bind(self.id)
            .bind(i64::from(self.limit))
            .fetch_all(connection)
            .await?;
        rows.iter().map(unfinished).collect()
    }
}

fn unfinished(row: &PgRow) -> sqlx::Result<Unfinished> {
    Ok(Unfinished {
        id: row.try_get(0)?,
        attempt: u32::try_from(row.try_get::<i32, _>(1)?).unwrap_or(1),
    })
}

/// The reason of a cancellation of an envelope or of one above it.
pub(super) struct CancelledAbove<'a>(pub(super) &'a str);

impl Work for CancelledAbove<'_> {
    type Out = Option<String>;
    const NAME: &'static str = "cancelled_above";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Option<String>> {
        sqlx::query_scalar(
            "WITH RECURSIVE above AS ( \
                 SELECT id, parent_id, attempt FROM envelopes WHERE id = $1 \
                 UNION SELECT p.id, p.parent_id, p.attempt FROM envelopes p JOIN above a ON p.id = a.parent_id \
             ) SELECT c.reason FROM above a \
             JOIN asya_cancellations c ON c.envelope_id = a.id AND c.attempt >= a.attempt LIMIT 1",
        )
        .bind(self.0)
        .fetch_optional(connection)
        .await
    }
}

/// Updates of one envelope.
pub(super) struct Updates<'a> {
    pub(super) id: &'a str,
    pub(super) after: i64,
    pub(super) limit: u32,
}

impl Work for Updates<'_> {
    type Out = Vec<Update>;
    const NAME: &'static str = "updates";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<Update>> {
        let statement = concat!(
            "SELECT ",
            update_columns!(),
            " FROM envelope_updates u JOIN envelopes e ON e.id = u.envelope_id \
             WHERE u.envelope_id = $1 AND u.id > $2 ORDER BY u.id LIMIT $3"
        );
        let rows = sqlx::query(statement)
            .bind(self.id)
            .bind(self.after)
            .bind(i64::from(self.limit))
            .fetch_all(connection)
            .await?;
        rows.iter().map(update).collect()
    }
}

/// Envelopes whose time is over.
pub(super) struct Expired {
    pub(super) passed: Range<DateTime<Utc>>,
    pub(super) limit: u32,
}

impl Work for Expired {
    type Out = Vec<Unfinished>;
    const NAME: &'static str = "expired";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<Unfinished>> {
        let rows = sqlx::query(
            "SELECT id, attempt FROM envelopes WHERE deadline >= $1 AND deadline < $2 \
             AND status IN ('pending', 'running', 'unknown') ORDER BY deadline LIMIT $3",
        )
        .bind(self.passed.start)
        .bind(self.passed.end)
        .bind(i64::from(self.limit))
        .fetch_all(connection)
        .await?;
        rows.iter().map(unfinished).collect()
    }
}

/// Cancellations that sidecars must still know.
pub(super) struct Cancellations(pub(super) DateTime<Utc>);

impl Work for Cancellations {
    type Out = Vec<CancelNotice>;
    const NAME: &'static str = "cancellations";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<CancelNotice>> {
        let rows = sqlx::query(
            "SELECT envelope_id, attempt, keep_until, reason FROM asya_cancellations WHERE keep_until > $1 \
             ORDER BY envelope_id, attempt",
        )
        .bind(self.0)
        .fetch_all(connection)
        .await?;
        let notice = |row: &PgRow| {
            Ok(CancelNotice {
                envelope_id: row.try_get(0)?,
                attempt: u32::try_from(row.try_get::<i32, _>(1)?).unwrap_or(1),
                keep_until: row.try_get(2)?,
                reason: row.try_get(3)?,
            })
        };
        rows.iter().map(notice).collect()
    }
}
