//! The time between being asked to end and ending.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::client::after;
use crate::ready::DRAINED_FILE_NAME;
use crate::server::ServerOptions;

/// Time between two looks for it.
const LOOK: Duration = Duration::from_millis(100);

/// Waits for the client to drain.
pub(super) struct Stopping {
    grace: Duration,
    file: PathBuf,
    /// Until it was told.
    drained: Option<oneshot::Sender<()>>,
    ends: Option<Instant>,
    client_left: bool,
}

impl Stopping {
    pub(super) fn new(options: &ServerOptions, drained: oneshot::Sender<()>) -> Self {
        Self {
            grace: options.shutdown_grace,
            file: options.socket_dir.join(DRAINED_FILE_NAME),
            drained: Some(drained),
            ends: None,
            client_left: false,
        }
    }

    /// The server was asked to end.
    pub(super) fn begin(&mut self, has_client: bool) {
        self.ends = Some(after(self.grace));
        self.client_left = !has_client;
    }

    pub(super) fn has_begun(&self) -> bool {
        self.ends.is_some()
    }

    /// The client said goodbye or is gone. Before the server was asked to end this means nothing.
    pub(super) fn client_left(&mut self) {
        self.client_left = true;
    }

    /// Ends when there is nothing to wait for any more; never before [`begin`](Self::begin), and never again after
    /// [`drained`](Self::drained).
    pub(super) async fn is_drained(&self) {
        let (Some(ends), Some(_)) = (self.ends, &self.drained) else {
            return std::future::pending().await;
        };
        while !self.client_left && Instant::now() < ends && !self.file.exists() {
            sleep_until(ends.min(Instant::now() + LOOK)).await;
        }
    }

    /// Tells whoever waits for it.
    pub(super) fn drained(&mut self) {
        if let Some(drained) = self.drained.take() {
            // Nobody waits if the server ends for another reason.
            let _ = drained.send(());
        }
    }
}
