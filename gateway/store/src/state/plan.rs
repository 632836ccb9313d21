//! What a batch of reports changes, before any of it is written: the shared half of both stores' `apply`.
//!
//! A store reads the records that [`ids`] names under its lock ([`View::Basic`](crate::View::Basic) is enough), plans,
//! writes each [`Write`] where the version is still its `base`, inserts the updates, and turns the plan into answers
//! with the ids that the updates got. Where a version has moved, it reads and plans again.

use std::collections::HashMap;
use std::sync::Arc;

use asya_runtime_protocol::RawJson;
use chrono::{DateTime, TimeDelta, Utc};

use super::{Decision, Draft, decide, microseconds};
use crate::model::{Applied, CancelNotice, OutboxEntry, Record, Report, ReportEvent};
use crate::store::OutboxOutcome;

/// How long a cancellation of an envelope without a deadline is told to sidecars.
const NOTICE_WITHOUT_DEADLINE: TimeDelta = TimeDelta::hours(24);

/// What a batch of reports changes.
#[derive(Debug, Default)]
pub struct Plan {
    /// Records to write, one for each envelope that changed.
    pub writes: Vec<Write>,
    /// Updates to insert, in this order.
    pub updates: Vec<NewUpdate>,
    /// Cancellations to keep, for sidecars and for children that come later.
    pub notices: Vec<CancelNotice>,
    answers: Vec<Answer>,
}

/// One record to write. Its columns that never change after creation need not be written.
#[derive(Debug)]
pub struct Write {
    /// As it is to be, with its version raised once for every report that changed it.
    pub record: Record,
    /// The version that must stand for it to be written.
    pub base: i64,
    /// The new result; `None` keeps the stored one, which need not have been read.
    pub result: Option<RawJson>,
}

/// One update to insert.
#[derive(Debug)]
pub struct NewUpdate {
    /// Whose it is.
    pub envelope_id: Arc<str>,
    /// What it says.
    pub draft: Draft,
}

/// What is answered to one report.
#[derive(Debug)]
enum Answer {
    /// With the place of its update in the plan.
    Changed(Box<Record>, usize),
    Nothing(Box<Record>),
    Unknown,
}

/// A record in the course of the batch.
struct Course {
    id: Arc<str>,
    record: Record,
    base: i64,
    result: Option<RawJson>,
}

/// The envelopes that reports are about, each once, in the order in which they are to be locked.
pub fn ids(reports: &[Report]) -> Vec<&str> {
    let mut ids: Vec<_> = reports.iter().map(|report| report.envelope_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Decides each report in its turn, on the record as the ones before it have left it. Envelopes without a record in
/// `standing` are unknown.
pub fn plan(standing: impl IntoIterator<Item = Record>, reports: &[Report], now: DateTime<Utc>) -> Plan {
    let mut courses: HashMap<String, Course> = standing
        .into_iter()
        .map(|record| (record.id.clone(), Course::from(record)))
        .collect();
    let mut plan = Plan::default();
    for report in reports {
        let answer = match courses.get_mut(&report.envelope_id) {
            Some(course) => plan.take(course, report, microseconds(now)),
            None => Answer::Unknown,
        };
        plan.answers.push(answer);
    }
    let changed = courses
        .into_values()
        .filter(|course| course.record.version != course.base);
    plan.writes = changed.map(Write::from).collect();
    plan.writes
        .sort_unstable_by(|one, other| one.record.id.cmp(&other.record.id));
    plan
}

impl Plan {
    /// Ids of the envelopes that are final after it: what waits in the outbox for them is not to be published.
    pub fn finished(&self) -> impl Iterator<Item = &str> {
        let records = self.writes.iter().map(|write| &write.record);
        records
            .filter(|record| record.status.is_final())
            .map(|record| record.id.as_str())
    }

    /// The answers, as many as there were reports and in their order. `update_ids` are the ids that the updates got, in
    /// the order of [`updates`](Self::updates); where one is missing, its update gets the id 0.
    pub fn answers(self, update_ids: &[i64]) -> Vec<Applied> {
        let ids = update_ids.iter().copied().chain(std::iter::repeat(0));
        let updates: Vec<_> = self
            .updates
            .into_iter()
            .zip(ids)
            .map(|(update, id)| Arc::new(update.draft.into_update(id, update.envelope_id)))
            .collect();
        let answer = |answer| match answer {
            Answer::Changed(record, place) => match updates.get(place) {
                Some(update) => Applied::Changed {
                    record,
                    update: Arc::clone(update),
                },
                None => Applied::Nothing { record },
            },
            Answer::Nothing(record) => Applied::Nothing { record },
            Answer::Unknown => Applied::Unknown,
        };
        self.answers.into_iter().map(answer).collect()
    }

    fn take(&mut self, course: &mut Course, report: &Report, now: DateTime<Utc>) -> Answer {
        let Decision::Change { mut record, update } = decide(&course.record, report, now) else {
            let record = &course.record;
            if let ReportEvent::Cancelled { reason } = &report.event
                && record.status.is_final()
                && record.attempt == report.attempt.max(1)
                && !self.notices.iter().any(|told| told.envelope_id == record.id)
            {
                // It stays what it was, but what comes of it from now on is not wanted.
                self.notices.push(notice(record, reason, now));
            }
            return Answer::Nothing(Box::new(record.clone()));
        };
        // Records travel without their result, as they were read.
        course.result = record.result.take().or(course.result.take());
        if let ReportEvent::Cancelled { reason } = &report.event {
            self.notices.push(notice(&record, reason, now));
        }
        course.record = (*record).clone();
        self.updates.push(NewUpdate {
            envelope_id: Arc::clone(&course.id),
            draft: *update,
        });
        Answer::Changed(record, self.updates.len() - 1)
    }
}

impl From<Record> for Course {
    fn from(record: Record) -> Self {
        let record = basic(record);
        Self {
            id: Arc::from(record.id.as_str()),
            base: record.version,
            record,
            result: None,
        }
    }
}

impl From<Course> for Write {
    fn from(course: Course) -> Self {
        Self {
            record: course.record,
            base: course.base,
            result: course.result,
        }
    }
}

/// A record as [`View::Basic`](crate::View::Basic) shows it.
pub fn basic(record: Record) -> Record {
    Record {
        route_metadata: None,
        headers: None,
        payload: None,
        result: None,
        ..record
    }
}

/// The word to sidecars about a cancelled envelope.
fn notice(record: &Record, reason: &str, now: DateTime<Utc>) -> CancelNotice {
    CancelNotice {
        envelope_id: record.id.clone(),
        attempt: record.attempt,
        keep_until: record.deadline.unwrap_or(now + NOTICE_WITHOUT_DEADLINE),
        reason: super::without_nul(reason).into_owned(),
    }
}

/// What the outcome of a publish says about its envelope; `None` while it is to be tried again.
pub fn report_of(entry: &OutboxEntry, outcome: &OutboxOutcome, now: DateTime<Utc>) -> Option<Report> {
    let event = match outcome {
        OutboxOutcome::Published => ReportEvent::Published,
        OutboxOutcome::Failed { error } => ReportEvent::NotPublished { error: error.clone() },
        OutboxOutcome::Later { .. } => return None,
    };
    Some(Report {
        envelope_id: entry.envelope_id.clone(),
        attempt: entry.attempt,
        at: now,
        event,
    })
}
