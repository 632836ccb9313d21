//! What one replica does for all: ends what is overdue, deletes what is old, measures the outbox.
//!
//! Deadlines and leases are in the store, so that nothing is forgotten when the leading replica changes or all of them
//! start anew.

use std::sync::Arc;
use std::time::Duration;

use asya_gateway_store::{Lead, OutboxDepth, Report, ReportEvent, Store, StoreError, View};
use chrono::Utc;
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

    /// Does the housekeeping as long as the lead holds.
    async fn lead(&self, lead: &dyn Lead) {
        tracing::info!("this replica does the housekeeping");
        metrics::leads(true);
        let (mut asked, mut cleaned, mut measured) = (Instant::now(), Instant::now(), None::<Instant>);
        loop {
            let pause = match self.sweep().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => self.options.patience.sweep,
                Err(error) => {
                    tracing::warn!(%error, "deadlines cannot be looked at; trying again");
                    LEAD
                }
            };
            if asked.elapsed() >= LEAD {
                asked = Instant::now();
                if !lead.holds().await {
                    break;
                }
            }
            if measured.is_none_or(|measured| measured.elapsed() >= MEASURE) {
                measured = Some(Instant::now());
                self.measure().await;
            }
            if cleaned.elapsed() >= self.options.patience.clean {
                cleaned = Instant::now();
                self.clean().await;
            }
            tokio::time::sleep(pause).await;
        }
        tracing::info!("another replica does the housekeeping now");
        metrics::leads(false);
        metrics::outbox(OutboxDepth::default(), Utc::now());
    }

    /// Ends envelopes whose time is over; returns whether there may be more.
    async fn sweep(&self) -> Result<bool, StoreError> {
        let now = Utc::now();
        let overdue = self.store().expired(now, BATCH).await?;
        let more = overdue.len() >= BATCH as usize;
        let mut reports = Vec::with_capacity(overdue.len());
        for id in overdue {
            let Some(record) = self.store().get(&id, View::Basic).await? else {
                continue;
            };
            reports.push(Report {
                envelope_id: id,
                attempt: record.attempt,
                at: now,
                event: ReportEvent::TimedOut,
            });
        }
        let applied = self.reports.hand_in(reports).await;
        metrics::reports(metrics::ReportSource::Gateway, &applied, 0);
        applied.map(|_| more)
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
