//! What sidecars say: reports, and envelopes that came of a fan-out.

use asya_gateway_store::state::creation::check;
use asya_gateway_store::{Applied, Created, NewEnvelope, Report, StoreError};

use super::cancel::cancellation;
use super::error::RegisterError;
use super::metrics::{self, ReportSource};
use super::{Gateway, options::Patience};

impl Gateway {
    /// Applies reports, in one transaction with those of others; when it resolves they are durable. The answers are as
    /// many, in the same order. Dropping the future does not take them back.
    pub async fn report(
        &self,
        source: ReportSource,
        reports: Vec<Report>,
    ) -> Result<Vec<Applied>, StoreError> {
        let asked = reports.len() as u64;
        let applied = self.inner.reports.hand_in(reports).await;
        metrics::reports(source, &applied, asked);
        applied
    }

    /// Records an envelope that a sidecar has made and publishes itself (contract gateway §4.4). It is cancelled at once
    /// where somebody has cancelled an envelope above it, even one that was ready by then.
    pub async fn register_child(
        &self,
        source: ReportSource,
        child: NewEnvelope,
    ) -> Result<Created, RegisterError> {
        check(&child)?;
        let Patience { lease, .. } = self.inner.options.patience;
        let store = &self.inner.options.store;
        let created = store.create(child, lease).await;
        metrics::child(source, &created);
        let created = created?;
        let (Created::New(record) | Created::Existing(record)) = &created else {
            return Ok(created);
        };
        self.inner.tail.remember(record);
        let (Some(parent), false) = (&record.parent_id, record.status.is_final()) else {
            return Ok(created);
        };
        if let Some(reason) = store.cancelled_above(parent).await? {
            let report = cancellation(&record.id, record.attempt, &reason);
            self.report(ReportSource::Gateway, vec![report]).await?;
        }
        Ok(created)
    }
}
