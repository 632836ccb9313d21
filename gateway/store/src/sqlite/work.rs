//! What is done inside of one transaction.
//!
//! Nobody else can write meanwhile, so the records that a group is about are read once, decided on in memory however
//! many operations there are, and written at the end ([`Pending`]). What needs the tables as they are writes first.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::error::Failure;
use super::operation::{Answer, Operation};
use super::pending::{NewMessage, NewRow, Pending};
use super::rows::{BASIC, micros, outbox_entry, record, route_text};
use super::upkeep;
use crate::model::{Applied, Created, NewEnvelope, OutboxEntry, Record, Report};
use crate::state::creation;
use crate::state::plan::{basic, ids, plan, report_of};
use crate::store::{Changed, OutboxOutcome};

pub(super) type Result<T> = std::result::Result<T, Failure>;

/// A record with the number of its row. Without payload and result.
#[derive(Debug, Clone)]
struct Stored {
    n: i64,
    record: Record,
}

/// One transaction under way.
pub(super) struct Work<'a> {
    connection: &'a mut SqliteConnection,
    /// As they will stand; `None` for ids that are not there.
    records: HashMap<String, Option<Stored>>,
    pending: Pending,
    changes: Vec<Changed>,
    now: DateTime<Utc>,
}

impl<'a> Work<'a> {
    pub(super) fn new(connection: &'a mut SqliteConnection) -> Self {
        Self {
            connection,
            records: HashMap::new(),
            pending: Pending::default(),
            changes: Vec::new(),
            now: Utc::now(),
        }
    }

    /// What is to be told once it is committed.
    pub(super) fn into_changes(self) -> Vec<Changed> {
        self.changes
    }

    /// One answer for each operation.
    pub(super) async fn all(&mut self, operations: &[Operation]) -> Result<Vec<Answer>> {
        self.read_ahead(operations).await?;
        let mut answers = Vec::with_capacity(operations.len());
        for operation in operations {
            answers.push(self.one(operation).await?);
        }
        self.pending.write(self.connection).await?;
        Ok(answers)
    }

    async fn one(&mut self, operation: &Operation) -> Result<Answer> {
        Ok(match operation {
            Operation::Create { new, lease } => Answer::Created(self.create(new, *lease).await?),
            Operation::Apply { reports } => Answer::Applied(self.apply(reports).await?),
            Operation::Claim { limit, lease } => Answer::Claimed(self.claim(*limit, *lease).await?),
            Operation::Settle { settled } => Answer::Applied(self.settle(settled).await?),
            Operation::Clean(step) => {
                self.pending.write(self.connection).await?;
                self.records.clear();
                Answer::Cleaned(upkeep::clean(self.connection, *step).await?)
            }
            Operation::PutActors { rows } => {
                let changed = upkeep::put_actors(self.connection, rows).await?;
                self.actors_changed(!changed.is_empty());
                Answer::Put(changed)
            }
            Operation::DeleteActor {
                cluster,
                namespace,
                name,
            } => {
                let is_gone = upkeep::delete_actor(self.connection, cluster, namespace, name).await?;
                self.actors_changed(is_gone);
                Answer::Deleted(is_gone)
            }
            Operation::RetainActors { cluster, keep } => {
                let gone = upkeep::retain_actors(self.connection, cluster, keep).await?;
                self.actors_changed(!gone.is_empty());
                Answer::Retained(gone)
            }
            Operation::Close => Answer::Done,
        })
    }

    fn actors_changed(&mut self, have_they: bool) {
        if have_they {
            self.changes.push(Changed::Actors);
        }
    }

    // ---- reading ----

    /// Reads all envelopes that the operations are about, at once.
    async fn read_ahead(&mut self, operations: &[Operation]) -> Result<()> {
        let mut wanted: Vec<&str> = Vec::new();
        for operation in operations {
            match operation {
                Operation::Create { new, .. } => {
                    wanted.push(&new.id);
                    wanted.extend(new.parent_id.as_deref());
                }
                Operation::Apply { reports } => wanted.extend(ids(reports)),
                Operation::Settle { settled } => {
                    wanted.extend(settled.iter().map(|(entry, _)| entry.envelope_id.as_str()));
                }
                _ => {}
            }
        }
        wanted.sort_unstable();
        wanted.dedup();
        self.read(wanted).await
    }

    /// Reads those that are not known yet.
    async fn read(&mut self, mut wanted: Vec<&str>) -> Result<()> {
        wanted.retain(|id| !self.records.contains_key(*id));
        for id in &wanted {
            self.records.insert((*id).to_owned(), None);
        }
        // JSON functions cut texts at U+0000, and no id has one.
        wanted.retain(|id| !id.contains('\0'));
        if wanted.is_empty() {
            return Ok(());
        }
        let wanted: Vec<String> = wanted.into_iter().map(str::to_owned).collect();
        // One row for each id, found or not, so that the last numbers come along.
        let sql = format!(
            "SELECT {BASIC}, e.n, (SELECT coalesce(max(n), 0) FROM envelopes) AS last_row,
            (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'updates') AS last_update
            FROM json_each(?1) AS wanted LEFT JOIN envelopes AS e ON e.id = wanted.value"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(route_text(&wanted))
            .fetch_all(&mut *self.connection)
            .await?;
        for row in rows {
            self.pending
                .last_numbers(row.try_get("last_row")?, row.try_get("last_update")?);
            if let Some(n) = row.try_get("n")? {
                let record = record(&row, false)?;
                let id = record.id.clone();
                self.records.insert(id, Some(Stored { n, record }));
            }
        }
        Ok(())
    }

    async fn standing(&mut self, id: &str) -> Result<Option<&Record>> {
        self.read(vec![id]).await?;
        let stored = self.records.get(id).and_then(Option::as_ref);
        Ok(stored.map(|stored| &stored.record))
    }

    // ---- creating ----

    async fn create(&mut self, new: &NewEnvelope, lease: Duration) -> Result<Created> {
        if let Some(stored) = self.standing(&new.id).await? {
            let stored = Box::new(stored.clone());
            return Ok(if creation::is_same(&stored, new) {
                Created::Existing(stored)
            } else {
                Created::Conflict(stored)
            });
        }
        let parent = match new.parent_id.as_deref() {
            Some(parent) => self.standing(parent).await?.cloned(),
            None => None,
        };
        let record = creation::record_of(new, parent.as_ref());
        if let Some(repeated) = self.repeated(new, &record).await? {
            return Ok(repeated);
        }
        let n = self.pending.next_row()?;
        let stored = Stored {
            n,
            record: basic(record.clone()),
        };
        self.records.insert(record.id.clone(), Some(stored));
        let row = NewRow {
            n,
            record: record.clone(),
            idempotency: new.idempotency.clone(),
        };
        let message = new.outbox.clone().map(|message| NewMessage {
            n,
            attempt: record.attempt,
            message,
            put_at: self.now,
            leased_until: later(self.now, lease),
        });
        let is_registered = message.is_none();
        self.pending.create(row, message);
        // What has a message was called, and nothing can have come of it yet.
        if is_registered {
            self.adopt(&record).await?;
        }
        Ok(Created::New(Box::new(record)))
    }

    /// Lets children that came before their parent take after it.
    async fn adopt(&mut self, parent: &Record) -> Result<()> {
        if parent.tenant.is_none() && parent.deadline.is_none() {
            return Ok(());
        }
        let mut known = self.records.values().flatten();
        let is_known = known.any(|stored| stored.record.parent_id.as_deref() == Some(&parent.id));
        let is_stored: bool = sqlx::query("SELECT EXISTS (SELECT 1 FROM envelopes WHERE parent_id = ?1)")
            .bind(parent.id.as_str())
            .fetch_one(&mut *self.connection)
            .await?
            .try_get(0)?;
        if !is_known && !is_stored {
            return Ok(());
        }
        self.pending.write(self.connection).await?;
        self.records.clear();
        let mut parents = vec![parent.id.clone()];
        while let Some(parent) = parents.pop() {
            parents.extend(upkeep::adopt(self.connection, &parent).await?);
        }
        Ok(())
    }

    /// What was made under the same idempotency key.
    async fn repeated(&mut self, new: &NewEnvelope, record: &Record) -> Result<Option<Created>> {
        let Some(idempotency) = &new.idempotency else {
            return Ok(None);
        };
        let tenant = record.tenant.as_deref().unwrap_or_default();
        let id = match self.pending.created_under(tenant, &idempotency.key) {
            Some((id, hash)) => Some((id.to_owned(), hash.to_vec())),
            None => self.stored_under(tenant, &idempotency.key).await?,
        };
        let Some((id, hash)) = id else {
            return Ok(None);
        };
        let stored = self.standing(&id).await?.cloned();
        let stored = Box::new(stored.ok_or_else(|| Failure::row("an envelope has gone while it was read"))?);
        Ok(Some(if hash == idempotency.fingerprint {
            Created::Existing(stored)
        } else {
            Created::Conflict(stored)
        }))
    }

    /// Id and hash of what is in the table under a key.
    async fn stored_under(&mut self, tenant: &str, key: &str) -> Result<Option<(String, Vec<u8>)>> {
        let sql = "SELECT id, idempotency_hash FROM envelopes
            WHERE coalesce(tenant, '') = ?1 AND idempotency_key = ?2";
        let row = sqlx::query(sql)
            .bind(tenant)
            .bind(key)
            .fetch_optional(&mut *self.connection)
            .await?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
    }

    // ---- reports ----

    async fn apply(&mut self, reports: &[Report]) -> Result<Vec<Applied>> {
        let ids = ids(reports);
        self.read(ids.clone()).await?;
        let stored = |id: &&str| self.records.get(*id)?.as_ref();
        let standing = ids.iter().filter_map(stored).map(|stored| stored.record.clone());
        let mut plan = plan(standing, reports, self.now);
        for write in std::mem::take(&mut plan.writes) {
            if let Some(Some(stored)) = self.records.get_mut(&write.record.id) {
                stored.record = write.record.clone();
                self.pending.change(stored.n, write);
            }
        }
        let mut update_ids = Vec::with_capacity(plan.updates.len());
        for update in &plan.updates {
            let id = self.pending.next_update()?;
            update_ids.push(id);
            if let Some(Some(stored)) = self.records.get(&*update.envelope_id) {
                self.pending.update(id, stored.n, update.draft.clone());
            }
            self.changes.push(Changed::Envelope {
                id: Arc::clone(&update.envelope_id),
                update: id,
            });
        }
        if !plan.notices.is_empty() {
            self.changes.push(Changed::Cancellation);
            self.pending.notices.append(&mut plan.notices);
        }
        Ok(plan.answers(&update_ids))
    }

    // ---- outbox ----

    async fn claim(&mut self, limit: u32, lease: Duration) -> Result<Vec<OutboxEntry>> {
        self.pending.write(self.connection).await?;
        let sql =
            "SELECT e.id, o.attempt, o.actor, o.message_id, o.tries, o.created_at, e.deadline, o.body, o.id
            FROM outbox AS o JOIN envelopes AS e ON e.n = o.envelope
            WHERE o.leased_until <= ?1 ORDER BY o.id LIMIT ?2";
        let rows = sqlx::query(sql)
            .bind(micros(self.now))
            .bind(i64::from(limit))
            .fetch_all(&mut *self.connection)
            .await?;
        let until = micros(later(self.now, lease));
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            entries.push(outbox_entry(&row)?);
            let id: i64 = row.try_get(8)?;
            sqlx::query("UPDATE outbox SET leased_until = ?1 WHERE id = ?2")
                .bind(until)
                .bind(id)
                .execute(&mut *self.connection)
                .await?;
        }
        Ok(entries)
    }

    async fn settle(&mut self, settled: &[(OutboxEntry, OutboxOutcome)]) -> Result<Vec<Applied>> {
        let mut answers = Vec::with_capacity(settled.len());
        for (entry, outcome) in settled {
            self.read(vec![&entry.envelope_id]).await?;
            let Some(Some(stored)) = self.records.get(&entry.envelope_id).cloned() else {
                answers.push(Applied::Unknown);
                continue;
            };
            if let OutboxOutcome::Later { after, error } = outcome {
                self.postpone(stored.n, entry.attempt, *after, error).await?;
            } else {
                self.pending.take_out(stored.n, entry.attempt);
            }
            let applied = match report_of(entry, outcome, self.now) {
                Some(report) => self.apply(&[report]).await?.pop(),
                None => None,
            };
            answers.push(applied.unwrap_or_else(|| Applied::Nothing {
                record: Box::new(stored.record),
            }));
        }
        Ok(answers)
    }

    async fn postpone(&mut self, n: i64, attempt: u32, after: Duration, error: &str) -> Result<()> {
        self.pending.write(self.connection).await?;
        let sql = "UPDATE outbox SET tries = tries + 1, error = ?3, leased_until = ?4
            WHERE envelope = ?1 AND attempt = ?2";
        sqlx::query(sql)
            .bind(n)
            .bind(i64::from(attempt))
            .bind(error)
            .bind(micros(later(self.now, after)))
            .execute(&mut *self.connection)
            .await?;
        Ok(())
    }
}

fn later(now: DateTime<Utc>, pause: Duration) -> DateTime<Utc> {
    let pause = TimeDelta::from_std(pause).unwrap_or(TimeDelta::MAX);
    now.checked_add_signed(pause).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
