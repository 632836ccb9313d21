//! The deliveries of one channel that are not settled, and the frames that settle them.
//!
//! What it is: the memory of one channel. Receipts write what shall become of a delivery; the clerk takes the orders
//! out as a [`Batch`] and sends it. When the channel ends, so does the ledger: whatever was not written by then is
//! stale, and the broker delivers it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// What the broker is told about one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Ack,
    /// It goes back to its queue.
    Requeue,
}

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// `basic.ack`, of this tag alone or of everything up to it.
    Ack { tag: u64, multiple: bool },
    /// `basic.nack` with requeue.
    Requeue { tag: u64 },
}

/// Frames to send in this order, and who waits until they are written.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) frames: Vec<Frame>,
    /// Deliveries that the frames acknowledge.
    pub(super) acks: usize,
    /// Deliveries that the frames give back.
    pub(super) requeues: usize,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Batch {
    /// The frames are written.
    pub(super) fn done(self) {
        for waiting in self.waiting {
            // Whoever dropped the future does not want to know.
            let _unheard = waiting.send(());
        }
    }
}

/// Which of our consumers on the broker a delivery came by.
pub(super) type FeedId = u32;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    feed: FeedId,
    /// Whether it is in the caller's hands.
    handed: bool,
}

#[derive(Debug, Default)]
struct Inner {
    open: BTreeMap<u64, Entry>,
    per_feed: HashMap<FeedId, usize>,
    /// Deliveries in the caller's hands.
    handed: usize,
    verdicts: BTreeMap<u64, Verdict>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Whether a batch was taken that is not written yet.
    writing: bool,
    ended: bool,
}

impl Ledger {
    /// Records deliveries.
    pub(super) fn open(&self, deliveries: impl Iterator<Item = (u64, FeedId)>) {
        let mut inner = self.lock();
        for (tag, feed) in deliveries {
            inner.open.insert(tag, Entry { feed, handed: false });
            *inner.per_feed.entry(feed).or_default() += 1;
        }
    }

    /// Recorded deliveries go to the caller.
    pub(super) fn hand_out(&self, tags: impl Iterator<Item = u64>) {
        let mut inner = self.lock();
        for tag in tags {
            if let Some(entry) = inner.open.get_mut(&tag) {
                entry.handed = true;
                inner.handed += 1;
            }
        }
    }

    /// Orders a verdict on a delivery. `None` when the channel has ended; otherwise a receiver
    /// that hears when the frame is written, or that the channel ended before.
    pub(super) fn settle(&self, tag: u64, verdict: Verdict) -> Option<oneshot::Receiver<()>> {
        let (sender, receiver) = oneshot::channel();
        let mut inner = self.lock();
        if inner.ended {
            return None;
        }
        inner.verdicts.insert(tag, verdict);
        inner.waiting.push(sender);
        if let Some(entry) = inner.open.get_mut(&tag)
            && std::mem::take(&mut entry.handed)
        {
            inner.handed -= 1;
        }
        Some(receiver)
    }

    /// Takes everything that was ordered. `None` when there is nothing, or while the batch before is not written.
    pub(super) fn take(&self) -> Option<Batch> {
        let mut inner = self.lock();
        if inner.writing || inner.verdicts.is_empty() {
            return None;
        }
        inner.writing = true;
        let verdicts = std::mem::take(&mut inner.verdicts);
        for tag in verdicts.keys() {
            if let Some(Entry { feed, .. }) = inner.open.remove(tag)
                && let Some(count) = inner.per_feed.get_mut(&feed)
            {
                *count -= 1;
                if *count == 0 {
                    inner.per_feed.remove(&feed);
                }
            }
        }
        let lowest_open = inner.open.first_key_value().map(|(tag, _)| *tag);
        let requeues = verdicts
            .values()
            .filter(|verdict| **verdict == Verdict::Requeue)
            .count();
        Some(Batch {
            frames: frames(&verdicts, lowest_open),
            acks: verdicts.len() - requeues,
            requeues,
            waiting: std::mem::take(&mut inner.waiting),
        })
    }

    /// The batch that was taken last is written.
    pub(super) fn written(&self) {
        self.lock().writing = false;
    }

    /// Deliveries that are in the caller's hands.
    pub(super) fn handed(&self) -> usize {
        self.lock().handed
    }

    /// Whether the broker has been told about everything.
    pub(super) fn is_settled(&self) -> bool {
        let inner = self.lock();
        inner.open.is_empty() && !inner.writing
    }

    /// Unsettled deliveries that came by feeds for which `counts` is true.
    pub(super) fn open_by(&self, counts: impl Fn(FeedId) -> bool) -> usize {
        let inner = self.lock();
        let feeds = inner.per_feed.iter().filter(|(feed, _)| counts(**feed));
        feeds.map(|(_, count)| count).sum()
    }

    /// Whether the channel is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// The channel is gone: nothing can be settled any more.
    pub(super) fn end(&self) {
        *self.lock() = Inner {
            ended: true,
            ..Inner::default()
        };
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fewest frames for `verdicts`: one acknowledgement covers everything below the lowest delivery that stays open.
///
/// Requeues come first, so that the covering acknowledgement does not take them along.
fn frames(verdicts: &BTreeMap<u64, Verdict>, lowest_open: Option<u64>) -> Vec<Frame> {
    let requeues = verdicts
        .iter()
        .filter(|(_, verdict)| **verdict == Verdict::Requeue);
    let mut frames: Vec<_> = requeues.map(|(tag, _)| Frame::Requeue { tag: *tag }).collect();
    let acks = || {
        verdicts
            .iter()
            .filter(|(_, verdict)| **verdict == Verdict::Ack)
            .map(|(tag, _)| *tag)
    };
    let covered = |tag: u64| lowest_open.is_none_or(|lowest| tag < lowest);
    if let Some(tag) = acks().rfind(|tag| covered(*tag)) {
        let alone = acks().filter(|tag| covered(*tag)).count() == 1;
        frames.push(Frame::Ack {
            tag,
            multiple: !alone,
        });
    }
    frames.extend(
        acks()
            .filter(|tag| !covered(*tag))
            .map(|tag| Frame::Ack { tag, multiple: false }),
    );
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(deliveries: u64) -> Ledger {
        let ledger = Ledger::default();
        ledger.open((1..=deliveries).map(|tag| (tag, 1)));
        ledger.hand_out(1..=deliveries);
        ledger
    }

    fn settle(ledger: &Ledger, acks: &[u64], requeues: &[u64]) -> Vec<Frame> {
        for tag in acks {
            assert!(ledger.settle(*tag, Verdict::Ack).is_some());
        }
        for tag in requeues {
            assert!(ledger.settle(*tag, Verdict::Requeue).is_some());
        }
        take(ledger)
    }

    fn take(ledger: &Ledger) -> Vec<Frame> {
        let batch = ledger.take();
        ledger.written();
        batch.map_or_else(Vec::new, |batch| batch.frames)
    }

    #[test]
    fn what_is_settled_while_frames_are_written_waits_for_them() {
        let ledger = ledger(4);
        assert!(ledger.settle(1, Verdict::Ack).is_some());
        let first = ledger.take().unwrap();
        assert_eq!(
            first.frames,
            [Frame::Ack {
                tag: 1,
                multiple: false
            }]
        );
        for tag in 2..=4 {
            assert!(ledger.settle(tag, Verdict::Ack).is_some());
            assert!(
                ledger.take().is_none(),
                "two batches under way may overtake each other"
            );
        }
        assert!(!ledger.is_settled());
        ledger.written();
        let second = ledger.take().unwrap();
        assert_eq!(
            second.frames,
            [Frame::Ack {
                tag: 4,
                multiple: true
            }]
        );
        assert_eq!((second.acks, second.requeues), (3, 0));
        assert!(!ledger.is_settled(), "the frame is not written yet");
        ledger.written();
        assert!(ledger.is_settled());
    }

    #[test]
    fn one_frame_acknowledges_everything_below_the_lowest_open_delivery() {
        let ledger = ledger(9);
        let single = |tag| Frame::Ack { tag, multiple: false };
        let multiple = |tag| Frame::Ack { tag, multiple: true };
        assert_eq!(settle(&ledger, &[2], &[]), [single(2)], "1 is open");
        assert_eq!(settle(&ledger, &[1], &[]), [single(1)], "alone");
        assert_eq!(
            settle(&ledger, &[4, 3, 6], &[]),
            [multiple(4), single(6)],
            "5 is open"
        );
        assert_eq!(settle(&ledger, &[9, 8, 7, 5], &[]), [multiple(9)]);
        assert!(ledger.is_settled());
        assert!(settle(&ledger, &[], &[]).is_empty());
    }

    #[test]
    fn what_goes_back_is_not_covered_by_a_later_acknowledgement() {
        let ledger = ledger(3);
        let frames = settle(&ledger, &[1, 3], &[2]);
        assert_eq!(
            frames,
            [
                Frame::Requeue { tag: 2 },
                Frame::Ack {
                    tag: 3,
                    multiple: true
                }
            ]
        );
    }

    /// Plays the broker: no acknowledgement may reach a delivery without its verdict, and in the end all have one.
    #[test]
    fn in_any_order_every_delivery_gets_its_own_verdict_and_nothing_else() {
        let mut seed = 1_u64;
        let mut random = |bound: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        for _ in 0..500 {
            let count = 1 + random(40);
            let ledger = ledger(count);
            let mut any = |tag| match random(5) {
                0 => (tag, Verdict::Requeue),
                _ => (tag, Verdict::Ack),
            };
            let mut verdicts: Vec<_> = (1..=count).map(&mut any).collect();
            let expected: BTreeMap<_, _> = verdicts.iter().copied().collect();
            let mut at_broker: BTreeMap<u64, Option<Verdict>> = (1..=count).map(|tag| (tag, None)).collect();
            while !verdicts.is_empty() {
                for _ in 0..=random(6) {
                    if verdicts.is_empty() {
                        break;
                    }
                    let index = usize::try_from(random(verdicts.len() as u64)).unwrap();
                    let (tag, verdict) = verdicts.swap_remove(index);
                    assert!(ledger.settle(tag, verdict).is_some());
                }
                for frame in take(&ledger) {
                    match frame {
                        Frame::Requeue { tag } => {
                            assert_eq!(at_broker.insert(tag, Some(Verdict::Requeue)), Some(None));
                        }
                        Frame::Ack { tag, multiple } => {
                            let from = if multiple { 1 } else { tag };
                            let open = at_broker
                                .range_mut(from..=tag)
                                .filter(|(_, verdict)| verdict.is_none());
                            let reached = open.map(|(_, verdict)| *verdict = Some(Verdict::Ack)).count();
                            assert!(reached > 0, "the broker closes the channel for an unknown tag");
                        }
                    }
                }
            }
            let told: BTreeMap<_, _> = at_broker
                .into_iter()
                .map(|(tag, verdict)| (tag, verdict.unwrap()))
                .collect();
            assert_eq!(told, expected);
            assert_eq!((ledger.handed(), ledger.is_settled()), (0, true));
        }
    }

    #[tokio::test]
    async fn the_end_of_the_channel_is_heard_by_all_who_wait() {
        let ledger = ledger(2);
        let written = ledger.settle(1, Verdict::Ack).unwrap();
        ledger.take().unwrap().done();
        assert!(written.await.is_ok());
        let unwritten = ledger.settle(2, Verdict::Ack).unwrap();
        ledger.end();
        assert!(unwritten.await.is_err());
        assert!(ledger.settle(2, Verdict::Ack).is_none());
    }

    #[test]
    fn open_deliveries_are_counted_by_feed() {
        let ledger = ledger(3);
        ledger.open([(4, 2)].into_iter());
        assert_eq!(
            (ledger.open_by(|feed| feed == 1), ledger.open_by(|feed| feed == 2)),
            (3, 1)
        );
        settle(&ledger, &[1, 3], &[]);
        assert_eq!(ledger.handed(), 1, "the fourth never reached the caller");
        settle(&ledger, &[], &[4]);
        assert_eq!(
            (ledger.open_by(|feed| feed == 1), ledger.open_by(|feed| feed == 2)),
            (1, 0)
        );
    }
}
