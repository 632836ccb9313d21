//! The statements: what one queue operation does to the tables, inside a transaction of the caller.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use crate::{DeleteMode, Depth, Outgoing, QueueName};

/// A claim stops adding messages beyond this many bytes, so that a large credit on a queue of large messages does
/// not fill the memory. One message is always given.
const CLAIM_BYTES: i64 = 16 * 1024 * 1024;

const QUEUE: &str = "SELECT id FROM queues WHERE name = ?1";
const READY: &str = "SELECT id, message_id, deliveries, size FROM messages INDEXED BY messages_ready \
     WHERE queue = ?1 AND lease_owner IS NULL AND visible_at IS NULL ORDER BY id LIMIT ?2";
const PROMOTE: &str = "UPDATE messages SET visible_at = NULL WHERE id IN (SELECT id FROM messages \
     INDEXED BY messages_delayed WHERE queue = ?1 AND visible_at <= ?2 ORDER BY visible_at LIMIT ?3)";
const NEXT_DUE: &str = "SELECT visible_at FROM messages INDEXED BY messages_delayed \
     WHERE queue = ?1 AND visible_at IS NOT NULL ORDER BY visible_at LIMIT 1";
const LEASE: &str =
    "UPDATE messages SET lease_owner = ?2, lease = ?3, deliveries = deliveries + 1 WHERE id = ?1";
const BODY: &str = "SELECT body FROM bodies WHERE id = ?1";
const ACK: &str = "DELETE FROM messages WHERE id = ?1 AND lease_owner = ?2 AND lease = ?3";
const DROP_BODY: &str = "DELETE FROM bodies WHERE id = ?1";
const GIVE_BACK: &str = "UPDATE messages SET lease_owner = NULL, lease = NULL, visible_at = ?4 \
     WHERE id = ?1 AND lease_owner = ?2 AND lease = ?3";
const GIVE_BACK_UNCOUNTED: &str = "UPDATE messages SET lease_owner = NULL, lease = NULL, visible_at = ?4, deliveries = deliveries - 1 \
     WHERE id = ?1 AND lease_owner = ?2 AND lease = ?3";
const GIVE_ALL_BACK: &str = "UPDATE messages INDEXED BY messages_leased \
     SET lease_owner = NULL, lease = NULL WHERE lease_owner = ?1";
const OWNERS: &str =
    "SELECT DISTINCT lease_owner FROM messages INDEXED BY messages_leased WHERE lease_owner IS NOT NULL";
const COUNTS: &str = "SELECT queue, ready, unsettled, delayed FROM depths";

/// One claim of one message: its row, and the number that tells this claim from every other one of this owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) row: i64,
    pub(super) number: i64,
    pub(super) queue: QueueName,
}

/// A message that was just claimed.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) lease: Lease,
    pub(super) message_id: String,
    pub(super) deliveries: u32,
    pub(super) body: Bytes,
}

/// What a claim found.
#[derive(Debug)]
pub(super) enum Found {
    NoSuchQueue,
    /// Nothing is ready; the earliest delayed message is due then (Unix milliseconds).
    Nothing {
        due: Option<i64>,
    },
    Messages(Vec<Claimed>),
}

/// What a look at a queue says about the consumers that wait for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// A claim has a result now: messages, or the news that the queue is gone.
    Worthwhile,
    /// Nothing to claim before this time (Unix milliseconds), or before somebody publishes.
    Wait(Option<i64>),
}

/// What became of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deletion {
    Deleted,
    NoSuchQueue,
    NotEmpty(u64),
}

/// Unix time in milliseconds. The wall clock, because processes that come and go share the file; it matters only
/// for delayed messages.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// When a message with this delay becomes visible; `None` is at once. Rounded up: never earlier than asked.
fn visible_at(delay: Duration) -> Option<i64> {
    if delay.is_zero() {
        return None;
    }
    let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
    Some(now().saturating_add(delay).saturating_add(1))
}

fn queue_row(connection: &Connection, queue: &QueueName) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(QUEUE)?
        .query_row([queue.as_str()], |row| row.get(0))
        .optional()
}

/// Stores a message; `false` when there is no such queue.
pub(super) fn publish(connection: &Connection, message: &Outgoing) -> rusqlite::Result<bool> {
    let Some(queue) = queue_row(connection, &message.queue)? else {
        return Ok(false);
    };
    let size = i64::try_from(message.body.len()).unwrap_or(i64::MAX);
    let row = connection
        .prepare_cached("INSERT INTO messages (queue, message_id, size, visible_at) VALUES (?1, ?2, ?3, ?4)")?
        .insert(params![
            queue,
            message.message_id,
            size,
            visible_at(message.delay)
        ])?;
    connection
        .prepare_cached("INSERT INTO bodies (id, body) VALUES (?1, ?2)")?
        .execute(params![row, message.body.as_ref()])?;
    Ok(true)
}

/// Claims up to `credit` messages for `owner`, oldest first, numbering the leases on from `next_lease`.
pub(super) fn claim(
    connection: &Connection,
    owner: &str,
    next_lease: &mut i64,
    queue: &QueueName,
    credit: usize,
) -> rusqlite::Result<Found> {
    let Some(queue_row) = queue_row(connection, queue)? else {
        return Ok(Found::NoSuchQueue);
    };
    let credit = i64::try_from(credit.max(1)).unwrap_or(i64::MAX);
    connection
        .prepare_cached(PROMOTE)?
        .execute(params![queue_row, now(), credit])?;
    let ready = ready(connection, queue_row, credit)?;
    if ready.is_empty() {
        return Ok(Found::Nothing {
            due: next_due(connection, queue_row)?,
        });
    }
    let mut lease = connection.prepare_cached(LEASE)?;
    let mut body = connection.prepare_cached(BODY)?;
    let mut claimed = Vec::with_capacity(ready.len());
    for Ready {
        row,
        message_id,
        deliveries,
    } in ready
    {
        *next_lease += 1;
        lease.execute(params![row, owner, *next_lease])?;
        let body = body.query_row([row], |row| match row.get_ref(0)? {
            ValueRef::Blob(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            _ => row.get::<_, Vec<u8>>(0).map(Bytes::from),
        })?;
        let lease = Lease {
            row,
            number: *next_lease,
            queue: queue.clone(),
        };
        claimed.push(Claimed {
            lease,
            message_id,
            deliveries: deliveries.saturating_add(1),
            body,
        });
    }
    Ok(Found::Messages(claimed))
}

struct Ready {
    row: i64,
    message_id: String,
    deliveries: u32,
}

/// The oldest ready messages, within [`CLAIM_BYTES`].
fn ready(connection: &Connection, queue_row: i64, credit: i64) -> rusqlite::Result<Vec<Ready>> {
    let mut statement = connection.prepare_cached(READY)?;
    let mut rows = statement.query(params![queue_row, credit])?;
    let (mut found, mut bytes) = (Vec::new(), 0_i64);
    while let Some(row) = rows.next()? {
        bytes = bytes.saturating_add(row.get(3)?);
        if bytes > CLAIM_BYTES && !found.is_empty() {
            break;
        }
        found.push(Ready {
            row: row.get(0)?,
            message_id: row.get(1)?,
            deliveries: row.get(2)?,
        });
    }
    Ok(found)
}

fn next_due(connection: &Connection, queue_row: i64) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(NEXT_DUE)?
        .query_row([queue_row], |row| row.get(0))
        .optional()
}

/// Whether a claim on `queue` would find something, without writing anything.
pub(super) fn look(connection: &Connection, queue: &QueueName) -> rusqlite::Result<Look> {
    let Some(queue_row) = queue_row(connection, queue)? else {
        return Ok(Look::Worthwhile);
    };
    if connection.prepare_cached(READY)?.exists(params![queue_row, 1])? {
        return Ok(Look::Worthwhile);
    }
    Ok(match next_due(connection, queue_row)? {
        Some(due) if due <= now() => Look::Worthwhile,
        due => Look::Wait(due),
    })
}

/// Removes a claimed message; `false` when the lease is not held any more.
pub(super) fn ack(connection: &Connection, owner: &str, lease: &Lease) -> rusqlite::Result<bool> {
    let deleted = connection
        .prepare_cached(ACK)?
        .execute(params![lease.row, owner, lease.number])?;
    if deleted == 1 {
        connection.prepare_cached(DROP_BODY)?.execute([lease.row])?;
    }
    Ok(deleted == 1)
}

/// Ends a lease, the message being visible after `delay`; `false` when the lease is not held any more.
pub(super) fn give_back(
    connection: &Connection,
    owner: &str,
    lease: &Lease,
    delay: Duration,
) -> rusqlite::Result<bool> {
    let parameters = params![lease.row, owner, lease.number, visible_at(delay)];
    Ok(connection.prepare_cached(GIVE_BACK)?.execute(parameters)? == 1)
}

/// As [`give_back`], and takes back that the message was delivered.
pub(super) fn give_back_uncounted(
    connection: &Connection,
    owner: &str,
    lease: &Lease,
    delay: Duration,
) -> rusqlite::Result<bool> {
    let parameters = params![lease.row, owner, lease.number, visible_at(delay)];
    Ok(connection
        .prepare_cached(GIVE_BACK_UNCOUNTED)?
        .execute(parameters)?
        == 1)
}

/// Ends all leases of `owner`; how many there were.
pub(super) fn give_all_back(connection: &Connection, owner: &str) -> rusqlite::Result<usize> {
    connection.prepare_cached(GIVE_ALL_BACK)?.execute([owner])
}

/// Everybody who holds a lease.
pub(super) fn owners(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare_cached(OWNERS)?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Creates a queue unless it exists.
pub(super) fn declare(connection: &Connection, queue: &QueueName) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO queues (name) VALUES (?1)")?
        .execute([queue.as_str()])?;
    Ok(())
}

/// Deletes a queue and what is in it, under the condition of `mode`.
pub(super) fn delete(
    connection: &Connection,
    queue: &QueueName,
    mode: DeleteMode,
) -> rusqlite::Result<Deletion> {
    let Some(row) = queue_row(connection, queue)? else {
        return Ok(Deletion::NoSuchQueue);
    };
    let messages = depth(connection, queue)?.unwrap_or_default().total();
    if messages > 0 {
        if mode == DeleteMode::IfEmpty {
            return Ok(Deletion::NotEmpty(messages));
        }
        connection.execute(
            "DELETE FROM bodies WHERE id IN (SELECT id FROM messages WHERE queue = ?1)",
            [row],
        )?;
        connection.execute("DELETE FROM messages WHERE queue = ?1", [row])?;
    }
    connection.execute("DELETE FROM queues WHERE id = ?1", [row])?;
    Ok(Deletion::Deleted)
}

/// The counts of one queue, `None` when it does not exist.
pub(super) fn depth(connection: &Connection, queue: &QueueName) -> rusqlite::Result<Option<Depth>> {
    connection
        .prepare_cached(&format!("{COUNTS} WHERE queue = ?1"))?
        .query_row([queue.as_str()], named_depth)
        .optional()
        .map(|found| found.map(|(_, depth)| depth))
}

/// The counts of every queue, in name order.
pub(super) fn depths(connection: &Connection) -> rusqlite::Result<Vec<(QueueName, Depth)>> {
    let mut statement = connection.prepare_cached(&format!("{COUNTS} ORDER BY queue"))?;
    statement.query_map([], named_depth)?.collect()
}

/// All queues in name order.
pub(super) fn list(connection: &Connection) -> rusqlite::Result<Vec<QueueName>> {
    let mut statement = connection.prepare_cached("SELECT name FROM queues ORDER BY name")?;
    statement
        .query_map([], |row| Ok(QueueName::from_full_name(row.get_ref(0)?.as_str()?)))?
        .collect()
}

fn named_depth(row: &rusqlite::Row<'_>) -> rusqlite::Result<(QueueName, Depth)> {
    let count = |column| {
        row.get::<_, i64>(column)
            .map(|count| u64::try_from(count).unwrap_or(0))
    };
    let depth = Depth {
        ready: count(1)?,
        unsettled: count(2)?,
        delayed: count(3)?,
    };
    Ok((QueueName::from_full_name(row.get_ref(0)?.as_str()?), depth))
}

#[cfg(test)]
mod tests;
