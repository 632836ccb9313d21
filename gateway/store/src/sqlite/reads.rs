//! What is read, beside the writer: each on a connection of the pool, which sees what was committed.

use std::ops::Range;

use chrono::{DateTime, Utc};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite};

use super::error::Failure;
use super::rows::{BASIC, FULL, UPDATE, actor, micros, notice, record, update};
use crate::model::{
    ActorRow, CancelNotice, ChildCounts, FeedCursor, FeedEntry, Filter, Key, ListPage, OutboxDepth, Outcome,
    Page, Record, Status, Unfinished, Update, View,
};

type Result<T> = std::result::Result<T, Failure>;

/// All envelopes below one, itself not: parents may go round in a circle.
macro_rules! below {
    () => {
        "WITH RECURSIVE below (id) AS (
            SELECT id FROM envelopes WHERE parent_id = ?1
            UNION SELECT e.id FROM below AS b JOIN envelopes AS e ON e.parent_id = b.id
        ) "
    };
}

pub(super) async fn ping(pool: &SqlitePool) -> Result<()> {
    sqlx::query("SELECT count(*) FROM history")
        .fetch_one(pool)
        .await?;
    Ok(())
}

/// `SELECT` to `FROM` of a record.
fn select(view: View) -> String {
    match view {
        View::Basic => format!("SELECT {BASIC} FROM envelopes AS e"),
        View::Full => {
            format!("SELECT {BASIC}{FULL} FROM envelopes AS e LEFT JOIN contents AS c ON c.envelope = e.n")
        }
    }
}

pub(super) async fn get(pool: &SqlitePool, id: &str, view: View) -> Result<Option<Record>> {
    let sql = format!("{} WHERE e.id = ?1", select(view));
    let row = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .fetch_optional(pool)
        .await?;
    row.map(|row| record(&row, view == View::Full)).transpose()
}

pub(super) async fn list(pool: &SqlitePool, filter: &Filter, page: Page) -> Result<ListPage> {
    let size = page.size.clamp(1, 1000);
    let rows = list_query("", filter, &page, size)
        .build()
        .fetch_all(pool)
        .await?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let is_full = page.view == View::Full;
    let read = rows.iter().take(size).map(|row| record(row, is_full));
    let records = read.collect::<Result<Vec<_>>>()?;
    let last = records.last().filter(|_| rows.len() > size);
    let next = last.map(|last| Key {
        created_us: micros(last.created_at),
        id: last.id.clone(),
    });
    Ok(ListPage { records, next })
}

/// The question for a page, after `prefix`, which is empty or explains it.
fn list_query(prefix: &str, filter: &Filter, page: &Page, size: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(format!("{prefix}{} WHERE true", select(page.view)));
    push_filter(&mut query, filter);
    if let Some(Key { created_us, id }) = &page.after {
        query.push(" AND (e.created_at, e.id) < (");
        query
            .push_bind(*created_us)
            .push(", ")
            .push_bind(id.clone())
            .push(")");
    }
    query.push(" ORDER BY e.created_at DESC, e.id DESC LIMIT ");
    // One more, to see whether there is a next page.
    query.push_bind(i64::from(size) + 1);
    query
}

fn push_filter(query: &mut QueryBuilder<Sqlite>, filter: &Filter) {
    let equal = [
        ("tenant", &filter.tenant),
        ("turn", &filter.actor),
        ("tool", &filter.tool),
        ("parent_id", &filter.parent_id),
    ];
    for (column, wanted) in equal {
        if let Some(wanted) = wanted {
            query
                .push(format!(" AND e.{column} = "))
                .push_bind(wanted.clone());
        }
    }
    if !filter.statuses.is_empty() {
        query.push(" AND e.status IN (");
        let mut list = query.separated(", ");
        for status in &filter.statuses {
            list.push_bind(status.as_str());
        }
        query.push(")");
        // In the words of an index, which it is found by.
        if !filter.statuses.iter().any(|status| status.is_final()) {
            query.push(" AND e.status IN ('pending', 'running', 'unknown')");
        } else if filter.statuses.len() == 1 {
            query.push(" AND e.status IN ('succeeded', 'failed')");
        }
    }
    if !filter.outcomes.is_empty() {
        // The index has those of one outcome in the order of the list; of several it would have to be sorted.
        let plus = if filter.outcomes.len() == 1 { "" } else { "+" };
        query.push(format!(
            " AND e.status IN ('succeeded', 'failed') AND {plus}coalesce(e.outcome, e.status) IN ("
        ));
        let mut list = query.separated(", ");
        for outcome in &filter.outcomes {
            list.push_bind(Outcome::as_str(*outcome));
        }
        query.push(")");
    }
    if let Some(from) = filter.created_from {
        query.push(" AND e.created_at >= ").push_bind(micros(from));
    }
    if let Some(before) = filter.created_before {
        query.push(" AND e.created_at < ").push_bind(micros(before));
    }
}

pub(super) async fn children(pool: &SqlitePool, id: &str) -> Result<ChildCounts> {
    let sql = concat!(
        below!(),
        "SELECT e.status, count(*) FROM below AS b JOIN envelopes AS e ON e.id = b.id
        WHERE e.id <> ?1 GROUP BY e.status"
    );
    let mut counts = ChildCounts::default();
    for row in sqlx::query(sql).bind(id).fetch_all(pool).await? {
        let (word, count): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let count = u64::try_from(count).unwrap_or(0);
        match Status::parse(&word) {
            Some(Status::Pending) => counts.pending += count,
            Some(Status::Succeeded) => counts.succeeded += count,
            Some(Status::Failed) => counts.failed += count,
            Some(Status::Running | Status::Unknown) | None => counts.running += count,
        }
    }
    Ok(counts)
}

pub(super) async fn unfinished_below(pool: &SqlitePool, id: &str, limit: u32) -> Result<Vec<Unfinished>> {
    let sql = concat!(
        below!(),
        "SELECT e.id, e.attempt FROM below AS b JOIN envelopes AS e ON e.id = b.id
        WHERE e.id <> ?1 AND e.status NOT IN ('succeeded', 'failed') LIMIT ?2"
    );
    let query = sqlx::query(sql).bind(id).bind(i64::from(limit));
    query.fetch_all(pool).await?.iter().map(unfinished).collect()
}

fn unfinished(row: &SqliteRow) -> Result<Unfinished> {
    Ok(Unfinished {
        id: row.try_get(0)?,
        attempt: row.try_get(1)?,
    })
}

pub(super) async fn cancelled_above(pool: &SqlitePool, id: &str) -> Result<Option<String>> {
    let sql = "WITH RECURSIVE above (id, parent_id, attempt) AS (
            SELECT id, parent_id, attempt FROM envelopes WHERE id = ?1
            UNION SELECT p.id, p.parent_id, p.attempt FROM above AS a JOIN envelopes AS p ON p.id = a.parent_id
        )
        SELECT c.reason FROM above AS a
        JOIN cancellations AS c ON c.envelope_id = a.id AND c.attempt >= a.attempt LIMIT 1";
    let row = sqlx::query(sql).bind(id).fetch_optional(pool).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

pub(super) async fn updates(pool: &SqlitePool, id: &str, after: i64, limit: u32) -> Result<Vec<Update>> {
    let sql = format!(
        "SELECT {UPDATE} FROM envelopes AS e JOIN updates AS u ON u.envelope = e.n
        WHERE e.id = ?1 AND u.id > ?2 ORDER BY u.id LIMIT ?3"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?;
    rows.iter().map(update).collect()
}

/// Ids are in the order in which they became visible, since one transaction writes at a time.
pub(super) async fn feed(pool: &SqlitePool, after: FeedCursor, limit: u32) -> Result<Vec<FeedEntry>> {
    let sql = format!(
        "SELECT {UPDATE} FROM updates AS u JOIN envelopes AS e ON e.n = u.envelope
        WHERE u.id > ?1 ORDER BY u.id LIMIT ?2"
    );
    let rows = sqlx::query(AssertSqlSafe(sql))
        .bind(after.update)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?;
    let entry = |row| {
        let update = update(row)?;
        Ok(FeedEntry {
            cursor: cursor(update.id),
            update: update.into(),
        })
    };
    rows.iter().map(entry).collect()
}

const fn cursor(update: i64) -> FeedCursor {
    FeedCursor {
        transaction: 0,
        update,
    }
}

/// The end, and from where on it is complete.
pub(super) async fn feed_bounds(pool: &SqlitePool) -> Result<(FeedCursor, FeedCursor)> {
    let sql =
        "SELECT (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'updates'), complete_after
        FROM history";
    let row = sqlx::query(sql).fetch_one(pool).await?;
    Ok((cursor(row.try_get(0)?), cursor(row.try_get(1)?)))
}

pub(super) async fn outbox_depth(pool: &SqlitePool) -> Result<OutboxDepth> {
    // The oldest is the one with the lowest id.
    let row = sqlx::query("SELECT count(*), (SELECT created_at FROM outbox ORDER BY id LIMIT 1) FROM outbox")
        .fetch_one(pool)
        .await?;
    let (waiting, oldest): (i64, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(OutboxDepth {
        waiting: u64::try_from(waiting).unwrap_or(0),
        oldest: oldest.and_then(DateTime::from_timestamp_micros),
    })
}

pub(super) async fn expired(
    pool: &SqlitePool,
    passed: Range<DateTime<Utc>>,
    limit: u32,
) -> Result<Vec<Unfinished>> {
    let sql = "SELECT id, attempt FROM envelopes WHERE deadline >= ?1 AND deadline < ?2
        AND status IN ('pending', 'running', 'unknown') ORDER BY deadline LIMIT ?3";
    let query = sqlx::query(sql)
        .bind(micros(passed.start))
        .bind(micros(passed.end))
        .bind(i64::from(limit));
    query.fetch_all(pool).await?.iter().map(unfinished).collect()
}

pub(super) async fn cancellations(pool: &SqlitePool, now: DateTime<Utc>) -> Result<Vec<CancelNotice>> {
    let sql = "SELECT envelope_id, attempt, keep_until, reason FROM cancellations
        WHERE keep_until >= ?1 ORDER BY keep_until";
    let rows = sqlx::query(sql).bind(micros(now)).fetch_all(pool).await?;
    rows.iter().map(notice).collect()
}

pub(super) async fn actors(pool: &SqlitePool) -> Result<Vec<ActorRow>> {
    let sql =
        "SELECT cluster, namespace, name, observed_at, body FROM actors ORDER BY cluster, namespace, name";
    let rows = sqlx::query(sql).fetch_all(pool).await?;
    rows.iter().map(actor).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{SqliteOptions, SqliteStore};
    use super::*;

    /// How a list is read.
    async fn plan(store: &SqliteStore, filter: &Filter) -> String {
        let page = Page {
            size: 10,
            after: Some(Key {
                created_us: 1,
                id: "a".to_owned(),
            }),
            view: View::Full,
        };
        let mut query = list_query("EXPLAIN QUERY PLAN ", filter, &page, 10);
        let rows = query.build().fetch_all(&store.readers).await.unwrap();
        let lines = rows.iter().map(|row| row.get::<String, _>("detail"));
        lines.collect::<Vec<_>>().join("; ")
    }

    #[tokio::test]
    async fn every_filter_is_found_by_an_index_in_the_order_of_the_list() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("gateway.db");
        let store = SqliteStore::open(file, SqliteOptions::default()).await.unwrap();
        let text = || Some("x".to_owned());
        let all = Filter::default;
        let cases = [
            ("envelopes_newest", all()),
            (
                "envelopes_of_tool",
                Filter {
                    tool: text(),
                    ..all()
                },
            ),
            (
                "envelopes_of_turn",
                Filter {
                    actor: text(),
                    ..all()
                },
            ),
            (
                "envelopes_of_tenant",
                Filter {
                    tenant: text(),
                    ..all()
                },
            ),
            (
                "envelopes_of_parent",
                Filter {
                    parent_id: text(),
                    ..all()
                },
            ),
            (
                "envelopes_ended",
                Filter {
                    statuses: [Status::Failed].into(),
                    ..all()
                },
            ),
            (
                "envelopes_of_outcome",
                Filter {
                    outcomes: [Outcome::TimedOut].into(),
                    ..all()
                },
            ),
        ];
        for (index, filter) in cases {
            let plan = plan(&store, &filter).await;
            assert!(plan.contains(&format!("USING INDEX {index} ")), "{index}: {plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{index}: {plan}");
        }
    }
}
