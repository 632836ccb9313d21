//! Reading envelopes, within the bounds of what a caller may see: what belongs to others is unknown to it.

use std::time::Duration;

use asya_gateway_store::{ChildCounts, FeedCursor, Filter, ListPage, Page, Record, View};
use tokio::time::Instant;

use super::Gateway;
use super::error::LookupError;
use super::hub::Watch;
use super::tail::Feed;
use crate::auth::Caller;

/// Records on one page.
const LARGEST_PAGE: u32 = 1000;

impl Gateway {
    /// One envelope.
    pub async fn get(&self, caller: &Caller, id: &str, view: View) -> Result<Record, LookupError> {
        let record = self.inner.options.store.get(id, view).await?;
        record
            .filter(|record| caller.sees(record.tenant.as_deref()))
            .ok_or(LookupError::Unknown)
    }

    /// Envelopes that match, newest first. A caller with a tenant sees that tenant's alone, whatever the filter says;
    /// the size of the page is brought within 1 to 1000.
    pub async fn list(&self, caller: &Caller, filter: Filter, page: Page) -> Result<ListPage, LookupError> {
        let filter = bounded(caller, filter);
        let size = page.size.clamp(1, LARGEST_PAGE);
        Ok(self
            .inner
            .options
            .store
            .list(&filter, Page { size, ..page })
            .await?)
    }

    /// Counts all envelopes below one.
    pub async fn children(&self, caller: &Caller, id: &str) -> Result<ChildCounts, LookupError> {
        self.get(caller, id, View::Basic).await?;
        Ok(self.inner.options.store.children(id).await?)
    }

    /// Watches an envelope: its history after an update id (all of it for `None`), then what happens, to the end.
    pub async fn watch(&self, caller: &Caller, id: &str, after: Option<i64>) -> Result<Watch, LookupError> {
        let record = self.get(caller, id, View::Basic).await?;
        Ok(self.inner.bulletin.hub.watch(&record, after.unwrap_or(0)))
    }

    /// Watches all envelopes that match, after a cursor or from now on. To get the present state without a gap, open
    /// the feed first, then list, then read the feed.
    pub async fn feed(
        &self,
        caller: &Caller,
        filter: Filter,
        after: Option<FeedCursor>,
    ) -> Result<Feed, LookupError> {
        self.inner.tail.watch(bounded(caller, filter), after).await
    }

    /// Waits until an envelope is final, at most for `limit` and not beyond the beginning of a shutdown; returns the
    /// whole record as it is then.
    pub async fn wait(&self, caller: &Caller, id: &str, limit: Duration) -> Result<Record, LookupError> {
        let start = Instant::now();
        // Without payload and result, which may be large: any number may wait.
        let record = self.get(caller, id, View::Basic).await?;
        if !record.status.is_final() && !limit.is_zero() {
            let mut watch = self.inner.bulletin.hub.watch(&record, 0);
            let ending = tokio::time::timeout_at(start + limit, watch.ended());
            // The limit and the shutdown are answers, not errors.
            let _ended = self.draining().run_until_cancelled_owned(ending).await;
        }
        self.get(caller, id, View::Full).await
    }
}

fn bounded(caller: &Caller, filter: Filter) -> Filter {
    Filter {
        tenant: caller.tenant.clone().or(filter.tenant),
        ..filter
    }
}
