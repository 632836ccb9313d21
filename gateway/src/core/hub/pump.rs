//! Reads for channels what only the store knows: a few at once, each channel by one read at a time.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::channel::Channel;
use super::ring::{next_page, weight};

/// Updates read at once, first and at most.
const PAGE: (u32, u32) = (16, 128);
/// Channels that are attended to at once; most of them wait for their turn at the store.
const ATTENDED: usize = 1024;
/// How long a hint waits for the change itself.
const GRACE: Duration = Duration::from_millis(3);
/// First and longest pause while the store does not answer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// A channel that needs a read.
pub(super) struct Task {
    pub(super) channel: Weak<Channel>,
    pub(super) pace: Pace,
}

/// When to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    AtOnce,
    /// A little later: perhaps it is not needed then.
    Patient,
}

/// Attends to channels until `stop` or the end of the hub.
pub(super) async fn work(shared: Weak<Shared>, mut tasks: UnboundedReceiver<Task>, stop: CancellationToken) {
    let mut attended = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            task = tasks.recv(), if attended.len() < ATTENDED => match task {
                Some(task) => attended.push(attend(shared.clone(), task)),
                None => return,
            },
            Some(()) = attended.next() => {}
        }
    }
}

async fn attend(shared: Weak<Shared>, task: Task) {
    if task.pace == Pace::Patient {
        tokio::time::sleep(GRACE).await;
    }
    let mut pause = PAUSES.0;
    loop {
        // A channel that nobody watches any more, or a hub that is gone, needs nothing.
        let (Some(shared), Some(channel)) = (shared.upgrade(), task.channel.upgrade()) else {
            return;
        };
        if read(&shared, &channel).await {
            return;
        }
        drop((shared, channel));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// Reads until the channel is complete; false if the store did not answer.
async fn read(shared: &Shared, channel: &Arc<Channel>) -> bool {
    let mut rows = PAGE.0;
    while let Some((after, wanted)) = channel.begin() {
        // It is never closed.
        let _turn = shared.reads.acquire().await;
        match shared.store.updates(&channel.id, after, rows).await {
            Ok(updates) => {
                let is_all = updates.len() < rows as usize;
                rows = next_page(rows, updates.iter().map(weight).sum(), PAGE.1);
                channel.loaded(updates, is_all, wanted);
            }
            Err(error) => {
                // There may be thousands; that the store is away is said elsewhere.
                tracing::debug!(envelope = &*channel.id, %error, "watchers wait for the store");
                channel.unread();
                return false;
            }
        }
    }
    true
}
