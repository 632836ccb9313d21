//! What sidecars say: reports, and envelopes that came of a fan-out.

use asya_gateway_store::state::creation::check;
use asya_gateway_store::{Applied, Created, NewEnvelope, Outcome, Report, StoreError, View};

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

    /// Records an envelope that a sidecar has made and publishes itself (contract gateway §4.4). A child of a cancelled
    /// envelope is cancelled at once.
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
        let parent = store.get(parent, View::Basic).await?;
        if let Some(parent) = parent.filter(|parent| parent.outcome == Some(Outcome::Cancelled)) {
            let reason = parent
                .message
                .as_deref()
                .and_then(|message| message.strip_prefix("Cancelled: "));
            let report = cancellation(&record.id, record.attempt, reason.unwrap_or_default());
            self.report(ReportSource::Gateway, vec![report]).await?;
        }
        Ok(created)
    }
}
