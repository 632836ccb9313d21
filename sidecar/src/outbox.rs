//! Items of streams on their way to their queues: published and confirmed whatever becomes of the worker, the desk or the
//! slot through which they came.
//!
//! Each was announced, so others may wait for what becomes of it. The ledger counts those of each delivery, and lets none
//! be settled while one of its items is not confirmed.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::context::{Context, SlotDoor};
use crate::ledger::EntryId;
use crate::plan::Planned;
use crate::publishing::{self, Patience};

/// Beyond so many unconfirmed items, or bytes of them, that came through one slot nothing more is read there.
const MOST_ITEMS: usize = 256;
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Pause after a transport has panicked.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// The tasks that send. They belong to the tree as a whole and end with it.
#[derive(Default)]
pub(crate) struct Outbox {
    tasks: TaskTracker,
    stopped: CancellationToken,
}

impl Outbox {
    /// Waits until nothing is on its way. Nothing new should come meanwhile.
    pub(crate) async fn empty(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Ends all tasks when it is dropped.
    pub(crate) fn guard(&self) -> DropGuard {
        self.stopped.clone().drop_guard()
    }
}

/// Items that came together, all of one delivery.
pub(crate) struct Parcel {
    pub(crate) entry: EntryId,
    pub(crate) messages: Vec<Planned>,
    /// Bytes of each, on average.
    pub(crate) bytes: usize,
    /// How long their queues may be missing.
    pub(crate) patience: Arc<Patience>,
}

/// Makes the items known and sends them. The ledger and the slot count them already.
pub(crate) fn send(context: &Arc<Context>, door: &Arc<SlotDoor>, parcel: Parcel) {
    // All of them first: none may come to its end while another is still unknown.
    for message in &parcel.messages {
        publishing::announce(context, message);
    }
    let sending = send_all(Arc::clone(context), Arc::clone(door), parcel);
    let stopped = context.outbox.stopped.clone();
    context
        .outbox
        .tasks
        .spawn(stopped.run_until_cancelled_owned(sending));
}

async fn send_all(context: Arc<Context>, door: Arc<SlotDoor>, parcel: Parcel) {
    let mut sending: FuturesUnordered<_> = parcel
        .messages
        .iter()
        .map(|message| send_one(&context, message, &parcel.patience))
        .collect();
    while let Some(()) = sending.next().await {
        door.unconfirmed.remove(parcel.bytes);
        if context.ledger.confirmed(parcel.entry) {
            context.doors.acker.wake();
        }
    }
}

async fn send_one(context: &Context, message: &Planned, patience: &Patience) {
    // Nobody supervises this task, and its delivery could never be settled without it.
    while AssertUnwindSafe(publishing::send_item(context, message, patience))
        .catch_unwind()
        .await
        .is_err()
    {
        tracing::error!(actor = %context.actor, message_id = %message.message_id, "publishing panicked, trying again");
        tokio::time::sleep(AFTER_PANIC).await;
    }
}

/// Items, and their bytes, that came through one slot and are not confirmed.
#[derive(Default)]
pub(crate) struct Unconfirmed {
    sum: Mutex<Sum>,
    fewer: Notify,
}

#[derive(Default)]
struct Sum {
    items: usize,
    bytes: usize,
}

impl Sum {
    fn is_much(&self) -> bool {
        self.items > MOST_ITEMS || self.bytes > MOST_BYTES
    }
}

impl Unconfirmed {
    fn lock(&self) -> MutexGuard<'_, Sum> {
        // Nothing panics in here; if it ever did, the numbers would still be the best that there are.
        self.sum.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `items` of `bytes` each are on their way.
    pub(crate) fn add(&self, items: usize, bytes: usize) {
        let mut sum = self.lock();
        sum.items += items;
        sum.bytes += items * bytes;
    }

    fn remove(&self, bytes: usize) {
        let mut sum = self.lock();
        let was_much = sum.is_much();
        sum.items -= 1;
        sum.bytes -= bytes;
        if was_much && !sum.is_much() {
            self.fewer.notify_one();
        }
    }

    /// Whether so many are on their way that no more should be taken.
    pub(crate) fn is_much(&self) -> bool {
        self.lock().is_much()
    }

    /// Waits until they may be few again; for one at a time, who looks again then.
    pub(crate) async fn fewer(&self) {
        self.fewer.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_small_items_and_few_large_ones_are_much() {
        let unconfirmed = Unconfirmed::default();
        unconfirmed.add(MOST_ITEMS, 1);
        assert!(!unconfirmed.is_much());
        unconfirmed.add(1, MOST_BYTES);
        assert!(unconfirmed.is_much());
        unconfirmed.remove(1);
        assert!(unconfirmed.is_much(), "the large one is still there");
        unconfirmed.remove(MOST_BYTES);
        assert!(!unconfirmed.is_much());
    }

    #[tokio::test]
    async fn who_waits_for_fewer_is_woken_even_if_they_became_fewer_before() {
        let unconfirmed = Unconfirmed::default();
        unconfirmed.add(MOST_ITEMS + 1, 1);
        unconfirmed.remove(1);
        unconfirmed.fewer().await;
        assert!(!unconfirmed.is_much());
    }
}
