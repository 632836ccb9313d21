//! What all handlers share.

use std::sync::Arc;

use asya_gateway_store::View;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::HttpOptions;
use super::refusal::Refusal;
use crate::core::Gateway;

/// Largest body unless the options say otherwise, in bytes (contract gateway §9).
const MAX_BODY: usize = 10 * 1024 * 1024;

/// Pages with payloads and results that are read at a time; further ones wait. Each may hold some large envelopes.
const WHOLE_PAGES: usize = 2;

/// See the module documentation. Cheap to clone.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) gateway: Gateway,
    pub(super) options: Arc<HttpOptions>,
    /// Largest body in bytes.
    pub(super) max_body: usize,
    slots: Arc<Semaphore>,
    whole_pages: Arc<Semaphore>,
}

impl Api {
    pub(super) fn new(gateway: Gateway, options: HttpOptions) -> Self {
        Self {
            gateway,
            max_body: options.max_body.unwrap_or(MAX_BODY),
            slots: Arc::new(Semaphore::new(options.max_streams.min(Semaphore::MAX_PERMITS))),
            whole_pages: Arc::new(Semaphore::new(WHOLE_PAGES)),
            options: Arc::new(options),
        }
    }

    /// The right to be one of those who wait.
    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let limit = self.options.max_streams;
            Refusal::later("Too many open streams")
                .because(format!("{limit} are open already; try again later"))
        })
    }
    /// The turn to read a page; one without payloads and results needs none.
    pub(super) async fn turn(&self, view: View) -> Option<SemaphorePermit<'_>> {
        match view {
            View::Basic => None,
            // It is never closed.
            View::Full => self.whole_pages.acquire().await.ok(),
        }
    }
}
