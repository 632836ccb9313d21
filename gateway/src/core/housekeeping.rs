//! What one replica does for all: ends what is overdue, deletes what is old, measures the outbox.
//!
//! Deadlines and leases are in the store, so that nothing is forgotten when the leading replica changes or all of them
//! start anew.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::{Lead, OutboxDepth, Report, ReportEvent, Store, StoreError};
use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::metrics;
use super::options::GatewayOptions;

/// Deadlines dealt with in one transaction.
const BATCH: u32 = 500;
/// How often others ask for the lead, and the leader whether it still has it.
const LEAD: Duration = Duration::from_secs(2);
/// How often the outbox is measured.
const MEASURE: Duration = Duration::from_secs(5);

/// Since when deadlines are looked at without a gap. An envelope whose time was over before may have ended in time all
/// the same, with nobody there to take the word.
#[derive(Debug, Default)]
struct Watch {
    since: Option<DateTime<Utc>>,
}

impl Watch {
    /// The deadlines that are dealt with now: all that have passed, but in the beginning only those that passed since.
    fn passed(&mut self, now: DateTime<Utc>, late: Duration) -> Range<DateTime<Utc>> {
        let since = *self.since.get_or_insert(now);
        let waited = (now - since).to_std().unwrap_or_default();
        if waited < late {
            since..now.max(since)
        } else {
            DateTime::UNIX_EPOCH..now
        }
    }
}

/// The one who does the housekeeping, if it is us.
pub(super) struct Housekeeper {
    pub(super) options: Arc<GatewayOptions>,
    pub(super) reports: Desk<Report>,
}

impl Housekeeper {
    /// Leads whenever nobody else does, until `stop`.
    pub(super) async fn work(self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            loop {
                match self.store().lead().await {
                    Ok(Some(lead)) => self.lead(&*lead).await,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(%error, "nobody knows who does the housekeeping; trying again");
                    }
                }
                tokio::time::sleep(LEAD).await;
            }
        })
        .await;
        metrics::leads(false);
    }

    fn store(&self) -> &dyn Store {
        &*self.options.store
    }

    /// Does the housekeeping as long as the lead holds. What takes long is done beside the rest.
    async fn lead(&self, lead: &dyn Lead) {
        tracing::info!("this replica does the housekeeping");
        metrics::leads(true);
        tokio::select! {
            () = self.keep_time(lead) => {}
            () = self.keep_clean() => {}
        }
        tracing::info!("another replica does the housekeeping now");
        metrics::leads(false);
        metrics::outbox(OutboxDepth::default(), Utc::now());
    }

    /// Sweeps and measures until the lead is lost.
    async fn keep_time(&self, lead: &dyn Lead) {
        let (mut asked, mut measured) = (Instant::now(), None::<Instant>);
        let mut watch = Watch::default();
        loop {
            let pause = match self
                .sweep(watch.passed(Utc::now(), self.options.patience.late))
                .await
            {
                Ok(true) => Duration::ZERO,
                Ok(false) => self.options.patience.sweep,
                Err(error) => {
                    tracing::warn!(%error, "deadlines cannot be looked at; trying again");
                    if matches!(error, StoreError::Unavailable(_)) {
                        watch = Watch::default();
                    }
                    LEAD
                }
            };
            if asked.elapsed() >= LEAD {
                asked = Instant::now();
                if !lead.holds().await {
                    return;
                }
            }
            if measured.is_none_or(|measured| measured.elapsed() >= MEASURE) {
                measured = Some(Instant::now());
                self.measure().await;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Deletes what is old, from time to time. Never ends.
    async fn keep_clean(&self) {
        loop {
            tokio::time::sleep(self.options.patience.clean).await;
            self.clean().await;
        }
    }

    /// Ends envelopes whose time is over; returns whether there may be more.
    async fn sweep(&self, passed: Range<DateTime<Utc>>) -> Result<bool, StoreError> {
        let now = passed.end;
        let overdue = self.store().expired(passed, BATCH).await?;
        let more = overdue.len() >= BATCH as usize;
        let reports = overdue.into_iter().map(|one| Report {
            envelope_id: one.id,
            attempt: one.attempt,
            at: now,
            event: ReportEvent::TimedOut,
        });
        let (applied, refused) = self.reports.hand_in_each(reports.collect()).await;
        metrics::reports(metrics::ReportSource::Gateway, &Ok(applied), 0);
        refused.map_or(Ok(more), Err)
    }

    async fn measure(&self) {
        match self.store().outbox_depth().await {
            Ok(depth) => metrics::outbox(depth, Utc::now()),
            Err(error) => tracing::warn!(%error, "the outbox cannot be measured"),
        }
    }

    async fn clean(&self) {
        match self.store().clean(self.options.retention, Utc::now()).await {
            Ok(cleaned) if cleaned.updates + cleaned.envelopes > 0 => {
                tracing::info!(
                    updates = cleaned.updates,
                    envelopes = cleaned.envelopes,
                    "deleted what is older than it need be"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "old envelopes cannot be deleted; trying again later"),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_was_over_before_the_watch_began_is_ended_late() {
        let at = |seconds: i64| DateTime::UNIX_EPOCH + TimeDelta::seconds(1000 + seconds);
        let late = Duration::from_secs(20);
        let mut watch = Watch::default();
        assert_eq!(watch.passed(at(0), late), at(0)..at(0));
        assert_eq!(watch.passed(at(19), late), at(0)..at(19));
        assert_eq!(watch.passed(at(20), late), DateTime::UNIX_EPOCH..at(20));
        // A clock that is put back.
        assert_eq!(watch.passed(at(-5), late), at(0)..at(0));
        assert_eq!(
            Watch::default().passed(at(3), Duration::ZERO),
            DateTime::UNIX_EPOCH..at(3)
        );
    }
}
