//! The latest updates of one envelope, in order, as many as are worth keeping: fewer while the rings of all
//! envelopes together take much memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use asya_gateway_store::Update;
use asya_runtime_protocol::RawJson;

/// Most updates kept.
const UPDATES: usize = 256;
/// Most bytes kept, unless one update alone has more.
const BYTES: usize = 256 * 1024;

/// The same while all rings together have more than [`ALL`]. The store has the rest.
const SCARCE: (usize, usize) = (8, 8 * 1024);
/// Bytes of all rings of this process from which on they are kept short.
const ALL: usize = 64 * 1024 * 1024;

/// Bytes in all rings of this process.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Most updates and bytes of one ring, when all rings have so many bytes.
fn most(kept: usize) -> (usize, usize) {
    if kept > ALL { SCARCE } else { (UPDATES, BYTES) }
}

/// The latest updates.
#[derive(Debug, Default)]
pub(super) struct Ring {
    /// Every update after this id, up to `last`, is here.
    floor: i64,
    last: i64,
    updates: VecDeque<Arc<Update>>,
    bytes: usize,
}

/// What comes after a place in the order.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// This.
    Update(Arc<Update>),
    /// Something that was dropped: the store has it.
    Dropped,
    /// Nothing yet.
    Nothing,
}

impl Ring {
    /// Id of the last update.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// Every update after this id, up to the last, is here.
    pub(super) fn floor(&self) -> i64 {
        self.floor
    }

    /// Adds an update; those that are not later than the last one are known already.
    pub(super) fn push(&mut self, update: Arc<Update>) {
        if update.id <= self.last {
            return;
        }
        self.last = update.id;
        let weight_of_it = weight(&update);
        self.bytes += weight_of_it;
        let kept = KEPT.fetch_add(weight_of_it, Ordering::Relaxed);
        self.updates.push_back(update);
        let (updates, bytes) = most(kept);
        while self.updates.len() > updates || (self.bytes > bytes && self.updates.len() > 1) {
            let Some(dropped) = self.updates.pop_front() else {
                break;
            };
            self.bytes -= weight(&dropped);
            KEPT.fetch_sub(weight(&dropped), Ordering::Relaxed);
            self.floor = dropped.id;
        }
    }

    /// What comes after the update of this id.
    pub(super) fn after(&self, id: i64) -> Next {
        if id < self.floor {
            return Next::Dropped;
        }
        let place = self.updates.partition_point(|update| update.id <= id);
        match self.updates.get(place) {
            Some(update) => Next::Update(Arc::clone(update)),
            None => Next::Nothing,
        }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        KEPT.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Updates of the next read of a history, after one of so many with so many bytes: a history of large items is read in
/// small pieces.
pub(super) fn next_page(rows: u32, bytes: usize, most: u32) -> u32 {
    if bytes > BYTES {
        (rows / 4).max(1)
    } else {
        (rows * 4).min(most)
    }
}

/// About how much memory an update takes.
pub(super) fn weight(update: &Update) -> usize {
    let raw = |raw: &Option<RawJson>| raw.as_ref().map_or(0, RawJson::len);
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let actors = update
        .actors
        .as_ref()
        .map_or(0, |actors| actors.iter().map(|actor| actor.len() + 24).sum());
    size_of::<Update>()
        + raw(&update.result)
        + raw(&update.failure)
        + update.partial.as_ref().map_or(0, |partial| partial.value.len())
        + text(&update.message)
        + text(&update.error)
        + text(&update.actor)
        + actors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::testing::update;

    #[test]
    fn pages_grow_while_they_are_light() {
        assert_eq!([next_page(8, 0, 128), next_page(64, 0, 128)], [32, 128]);
        assert_eq!(
            [next_page(8, BYTES + 1, 128), next_page(1, BYTES + 1, 128)],
            [2, 1]
        );
    }

    #[test]
    fn rings_are_short_while_all_of_them_take_much() {
        assert_eq!(most(ALL), (UPDATES, BYTES));
        assert_eq!(most(ALL + 1), SCARCE);
    }

    fn ids(ring: &Ring, mut after: i64) -> Vec<i64> {
        let mut ids = Vec::new();
        while let Next::Update(update) = ring.after(after) {
            after = update.id;
            ids.push(after);
        }
        ids
    }

    #[test]
    fn updates_come_in_order_each_once() {
        let mut ring = Ring::default();
        for id in [3, 3, 5, 4, 9] {
            ring.push(Arc::new(update("e", id, false)));
        }
        assert_eq!(ids(&ring, 0), [3, 5, 9]);
        assert_eq!(ids(&ring, 4), [5, 9]);
        assert_eq!((ring.after(9), ring.last()), (Next::Nothing, 9));
    }

    #[test]
    fn what_is_too_much_is_dropped_and_said_to_be() {
        let mut ring = Ring::default();
        for id in 1..=2 * i64::try_from(UPDATES).unwrap() {
            ring.push(Arc::new(update("e", id, false)));
        }
        assert_eq!(ring.updates.len(), UPDATES);
        assert_eq!(ring.after(ring.floor() - 1), Next::Dropped);
        assert_eq!(ids(&ring, ring.floor()).len(), UPDATES);
        let mut large = update("e", 10_000, false);
        large.message = Some("x".repeat(2 * BYTES));
        ring.push(Arc::new(large));
        assert_eq!((ring.updates.len(), ring.floor()), (1, 9_999.min(ring.floor())));
        assert_eq!(ids(&ring, ring.floor()), [10_000]);
        ring.push(Arc::new(update("e", 10_001, false)));
        assert_eq!(
            ids(&ring, ring.floor()),
            [10_001],
            "nothing large is kept for longer than it is the last one"
        );
        assert!(ring.bytes < BYTES);
    }
}
