//! The history of all envelopes in the order in which it became visible.
//!
//! Ids of updates are given out before their transactions commit, so that their order alone would skip those that
//! commit late. The place of an update is therefore its transaction and its id, and updates are shown once every older
//! transaction has ended: nothing can appear before them any more. A long transaction anywhere in the cluster delays
//! the feed (and only the feed: the history of one envelope is in order by the lock on its row).
//!
//! Numbers of transactions belong to a cluster. After a dump was restored in another one, old updates may bear numbers
//! that are still to come; they are not in the feed, and a cursor from before lies beyond its end.

use std::sync::Arc;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::database::Work;
use super::rows::{update, update_columns};
use crate::model::{FeedCursor, FeedEntry};

/// Updates of all envelopes after a cursor.
pub(super) struct Feed {
    pub(super) after: FeedCursor,
    pub(super) limit: u32,
}

impl Work for Feed {
    type Out = Vec<FeedEntry>;
    const NAME: &'static str = "feed";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Vec<FeedEntry>> {
        let statement = concat!(
            "SELECT u.tx::text AS tx, ",
            update_columns!(),
            " FROM envelope_updates u JOIN envelopes e ON e.id = u.envelope_id \
             WHERE (u.tx, u.id) > ($1::text::xid8, $2) AND u.tx < pg_snapshot_xmin(pg_current_snapshot()) \
             ORDER BY u.tx, u.id LIMIT $3"
        );
        let rows = sqlx::query(statement)
            .bind(self.after.transaction.max(0).to_string())
            .bind(self.after.update)
            .bind(i64::from(self.limit))
            .fetch_all(connection)
            .await?;
        rows.iter().map(entry).collect()
    }
}

fn entry(row: &PgRow) -> sqlx::Result<FeedEntry> {
    let update = update(row)?;
    Ok(FeedEntry {
        cursor: FeedCursor {
            transaction: transaction(row.try_get("tx")?)?,
            update: update.id,
        },
        update: Arc::new(update),
    })
}

fn transaction(text: &str) -> sqlx::Result<i64> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// The last column is true in a database that was restored from a dump of a cluster with more transactions behind it:
/// what is written now would come before what was deleted there.
const BOUNDS: &str = "\
    SELECT f.tx::text, f.id, last.tx::text, last.id, f.tx > pg_snapshot_xmax(pg_current_snapshot()) \
    FROM asya_feed f LEFT JOIN LATERAL ( \
        SELECT tx, id FROM envelope_updates WHERE tx < pg_snapshot_xmin(pg_current_snapshot()) \
        ORDER BY tx DESC, id DESC LIMIT 1 \
    ) AS last ON true";

const BEGIN_ANEW: &str = "\
    UPDATE asya_feed SET tx = pg_snapshot_xmin(pg_current_snapshot()), id = 0 \
    WHERE tx > pg_snapshot_xmax(pg_current_snapshot())";

/// Where the history ends at present, and from where it is complete.
pub(super) struct Bounds;

impl Work for Bounds {
    type Out = (FeedCursor, FeedCursor);
    const NAME: &'static str = "feed_bounds";

    async fn run(&self, connection: &mut PgConnection) -> sqlx::Result<Self::Out> {
        let mut row = sqlx::query(BOUNDS).fetch_one(&mut *connection).await?;
        if row.try_get(4)? {
            sqlx::query(BEGIN_ANEW).execute(&mut *connection).await?;
            row = sqlx::query(BOUNDS).fetch_one(connection).await?;
        }
        let oldest = FeedCursor {
            transaction: transaction(row.try_get(0)?)?,
            update: row.try_get(1)?,
        };
        let last = match row.try_get::<Option<&str>, _>(2)? {
            Some(text) => FeedCursor {
                transaction: transaction(text)?,
                update: row.try_get(3)?,
            },
            None => oldest,
        };
        // All that there was may have been deleted.
        Ok((last.max(oldest), oldest))
    }
}
