//! The ledger against random histories: whatever actors do and whenever they die, no delivery is lost, none is
//! settled twice, and credits equal entries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use asya_runtime_protocol::Envelope;
use asya_transport::{Delivery, Receipt, SettleError, Settlement};
use bytes::Bytes;
use futures::future::BoxFuture;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::admission::admit;
use crate::config::{Config, Credit, Role};
use crate::credit::Credits;

/// Counts what happens to deliveries.
#[derive(Debug, Default)]
struct Broker {
    settled: AtomicUsize,
    returned: AtomicUsize,
}

#[derive(Debug)]
struct Ticket {
    broker: Arc<Broker>,
    settled: std::sync::atomic::AtomicBool,
}

impl Receipt for Ticket {
    fn settle(&self, _: Settlement) -> BoxFuture<'static, Result<(), SettleError>> {
        assert!(!self.settled.swap(true, Ordering::SeqCst), "settled twice");
        self.broker.settled.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled.load(Ordering::SeqCst) {
            self.broker.returned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct Bench {
    ledger: Ledger,
    credits: Arc<Credits>,
    broker: Arc<Broker>,
    config: Config,
}

impl Bench {
    fn new(credit: usize) -> Self {
        Self {
            ledger: Ledger::default(),
            credits: Credits::new(Credit::Fixed(credit), 1, usize::MAX),
            broker: Arc::default(),
            config: Config::new("work", Role::Step),
        }
    }

    fn deliver(&self, deliveries: u32) -> bool {
        let body = Bytes::from_static(br#"{"id":"x","route":{"actors":["work"],"current":0},"payload":1}"#);
        if self.credits.taken() == self.credits.limit() {
            return false;
        }
        let permit = self.credits.take(body.len());
        let receipt = Arc::new(Ticket {
            broker: Arc::clone(&self.broker),
            settled: false.into(),
        });
        self.ledger.insert(
            Delivery {
                body,
                message_id: None,
                deliveries,
                receipt,
            },
            permit,
        );
        true
    }

    fn admit_next(&self, generation: Generation) {
        match self.ledger.take_for_router(generation) {
            Some(RouterJob::Admit { id, body, delivery }) => {
                let admission = admit(&self.config, &body, &delivery, chrono::Utc::now());
                self.ledger.admitted(id, generation, admission);
            }
            Some(RouterJob::Route { id, .. }) => {
                self.ledger.routed(id, generation, Plan::retry(Duration::ZERO));
            }
            None => {}
        }
    }
}

#[test]
fn a_suspect_runs_alone() {
    let bench = Bench::new(10);
    let (router, slot) = (bench.ledger.next_generation(), bench.ledger.next_generation());
    for deliveries in [1, 9, 1] {
        bench.deliver(deliveries);
        bench.admit_next(router);
    }
    let (first, _) = bench.ledger.assign(0, slot).expect("the first is ready");
    assert!(
        bench.ledger.assign(1, slot).is_none(),
        "the suspect waits for the first to end"
    );
    bench.ledger.replied(first, 0, slot, CallOutcome::Timeout);
    let (suspect, work) = bench.ledger.assign(1, slot).expect("now it may run");
    assert!(work.suspect);
    assert!(
        bench.ledger.assign(0, slot).is_none(),
        "nothing starts beside a suspect"
    );
    bench.ledger.replied(suspect, 1, slot, CallOutcome::Timeout);
    assert!(bench.ledger.assign(0, slot).is_some());
}

#[test]
fn a_late_result_of_a_dead_slot_is_dropped() {
    let bench = Bench::new(1);
    let (router, old) = (bench.ledger.next_generation(), bench.ledger.next_generation());
    bench.deliver(1);
    bench.admit_next(router);
    let (id, _) = bench.ledger.assign(0, old).expect("ready");
    let new = bench.ledger.recover(Holder::Slot(0));
    bench.ledger.replied(id, 0, old, CallOutcome::Timeout);
    assert!(bench.ledger.assign(0, old).is_none(), "nobody would take it back");
    assert!(bench.ledger.assign(0, new).is_some(), "it is still to be run");
}

#[test]
fn only_charged_deaths_condemn() {
    let bench = Bench::new(1);
    let router = bench.ledger.next_generation();
    bench.deliver(1);
    bench.admit_next(router);
    for _ in 0..10 {
        let slot = bench.ledger.recover(Holder::Slot(0));
        assert!(
            bench.ledger.assign(0, slot).is_some(),
            "killed slots condemn nothing"
        );
    }
    for _ in 0..MAX_CRASHES {
        bench.ledger.charge(Holder::Slot(0));
    }
    let slot = bench.ledger.recover(Holder::Slot(0));
    assert!(bench.ledger.assign(0, slot).is_none());
    let job = bench.ledger.take_for_router(router);
    assert!(
        matches!(
            job,
            Some(RouterJob::Route {
                call: CallEnd {
                    outcome: CallOutcome::SlotCrashed,
                    ..
                },
                ..
            })
        ),
        "{job:?}"
    );
}

impl Ledger {
    /// Whether nothing else is in a slot's hand, or in all of them, while something is that runs alone there.
    fn alone_is_alone(&self) -> bool {
        let inner = self.lock();
        let assigned = inner.entries.values().filter_map(|entry| match &entry.state {
            State::Assigned { work, slot, .. } => Some((*slot, entry.isolation(work))),
            _ => None,
        });
        let assigned: Vec<_> = assigned.collect();
        assert_eq!(assigned.len(), inner.assigned);
        let is_alone = |among: &[Isolation], wanted| !among.contains(&wanted) || among.len() == 1;
        let all: Vec<_> = assigned.iter().map(|(_, isolation)| *isolation).collect();
        assert_eq!(all.contains(&Isolation::Runtime), inner.one_runs_alone);
        is_alone(&all, Isolation::Runtime)
            && inner.slots.iter().all(|(slot, hand)| {
                let own = assigned.iter().filter(|(of, _)| of == slot);
                let own: Vec<_> = own.map(|(_, isolation)| *isolation).collect();
                assert_eq!(own.len(), hand.assigned);
                assert_eq!(own.contains(&Isolation::Worker), hand.has_one_alone);
                is_alone(&own, Isolation::Worker)
            })
    }
}

fn ready(deliveries: usize) -> (Bench, Generation) {
    let bench = Bench::new(deliveries);
    let (router, slot) = (bench.ledger.next_generation(), bench.ledger.next_generation());
    for _ in 0..deliveries {
        bench.deliver(1);
        bench.admit_next(router);
    }
    (bench, slot)
}

#[test]
fn what_one_slot_writes_ahead_leaves_a_share_to_the_others() {
    let (bench, slot) = ready(10);
    let first = bench.ledger.assign_many(0, slot, 1, 64, 3);
    assert_eq!(first.len(), 1 + 9 / 3);
    assert_eq!(bench.ledger.calls(), 1, "what was written ahead does not run");
    let started: Vec<_> = first.iter().map(|work| work.id).collect();
    bench.ledger.hand_over(0, slot, Vec::new(), &started);
    assert_eq!(bench.ledger.calls(), 4);
}

#[test]
fn what_was_given_back_comes_first_again_and_in_order() {
    let (bench, slot) = ready(4);
    let ids = |work: Vec<Assignment>| work.iter().map(|work| work.id).collect::<Vec<_>>();
    let taken = ids(bench.ledger.assign_many(0, slot, 3, 0, 1));
    bench.ledger.give_back(0, slot, &taken, Isolation::None);
    assert_eq!(ids(bench.ledger.assign_many(1, slot, 3, 0, 1)), taken);
}

#[test]
fn of_several_in_the_hand_of_a_slot_that_crashed_each_runs_alone_and_none_is_charged() {
    let (bench, slot) = ready(3);
    assert_eq!(bench.ledger.assign_many(0, slot, 2, 0, 1).len(), 2);
    bench.ledger.charge(Holder::Slot(0));
    let slot = bench.ledger.recover(Holder::Slot(0));
    for _ in 0..2 {
        let alone = bench.ledger.assign_many(0, slot, 8, 8, 1);
        assert_eq!(alone.len(), 1);
        assert!(bench.ledger.run_queue(8).ready <= 1);
        assert!(bench.ledger.assign(0, slot).is_none(), "nothing starts beside it");
        bench.ledger.replied(alone[0].id, 0, slot, CallOutcome::Timeout);
    }
    assert_eq!(
        bench.ledger.assign_many(0, slot, 8, 8, 1).len(),
        1,
        "the third was not touched"
    );
}

/// A long call elsewhere does not matter to one that must not share its worker, but to one that must not share the runtime.
#[test]
fn what_may_have_ended_its_worker_needs_one_for_itself_and_not_all_of_them() {
    let (bench, slot) = ready(4);
    let ledger = &bench.ledger;
    let (long, _) = ledger.assign(0, slot).expect("ready");
    let lost = ledger.assign_many(1, slot, 2, 0, 1);
    ledger.give_back(1, slot, &[lost[0].id], Isolation::Worker);
    assert!(
        ledger.assign(1, slot).is_none(),
        "not beside the other in this slot"
    );
    ledger.replied(lost[1].id, 1, slot, CallOutcome::Timeout);
    assert_eq!(ledger.assign(1, slot).map(|(id, _)| id), Some(lost[0].id));
    assert!(ledger.assign(1, slot).is_none(), "and nothing beside it");
    ledger.give_back(1, slot, &[lost[0].id], Isolation::Runtime);
    assert!(ledger.assign(1, slot).is_none());
    ledger.replied(long, 0, slot, CallOutcome::Timeout);
    assert_eq!(ledger.assign(1, slot).map(|(id, _)| id), Some(lost[0].id));
    assert!(ledger.assign(0, slot).is_none(), "nothing anywhere beside it");
}

#[test]
fn a_cancelled_envelope_ends_so_wherever_it_is() {
    let (bench, slot) = ready(3);
    let running = bench.ledger.assign_many(5, slot, 2, 0, 1);
    let is = |id: &'static str| move |envelope: &Envelope| envelope.id == id;
    assert!(!bench.ledger.cancel(is("y"), Cancelled::Asked));
    assert!(bench.ledger.cancel(is("x"), Cancelled::Asked));
    assert_eq!(bench.ledger.take_cancelled(4), []);
    assert_eq!(bench.ledger.take_cancelled(5).len(), 2);
    assert_eq!(bench.ledger.take_cancelled(5), [], "once");
    bench.ledger.replied(running[0].id, 5, slot, CallOutcome::Timeout);
    bench
        .ledger
        .give_back(5, slot, &[running[1].id], Isolation::Worker);
    let router = bench.ledger.next_generation();
    for _ in 0..3 {
        let job = bench.ledger.take_for_router(router);
        let Some(RouterJob::Route { call, .. }) = job else {
            panic!("{job:?}");
        };
        assert!(matches!(call.outcome, CallOutcome::Cancelled), "{call:?}");
    }
}

#[test]
fn who_keeps_the_record_outweighs_who_only_asked_and_no_item_goes_out_after_that() {
    let (bench, slot) = ready(2);
    let running = bench.ledger.assign_many(5, slot, 1, 0, 1);
    assert!(bench.ledger.streams(running[0].id, 5, slot, 1));
    assert!(bench.ledger.cancel(|_| true, Cancelled::Asked));
    assert!(
        bench.ledger.streams(running[0].id, 5, slot, 1),
        "it still ends as a failure"
    );
    assert!(bench.ledger.cancel(|_| true, Cancelled::Noticed));
    assert!(!bench.ledger.streams(running[0].id, 5, slot, 1));
    assert_eq!(bench.ledger.take_cancelled(5).len(), 1, "its slot is told once");
    assert!(bench.ledger.cancel(|_| true, Cancelled::Asked));
    bench.ledger.replied(running[0].id, 5, slot, CallOutcome::Timeout);
    let router = bench.ledger.next_generation();
    let outcomes: Vec<_> = std::iter::from_fn(|| bench.ledger.take_for_router(router))
        .map(|job| match job {
            RouterJob::Route { call, .. } => call.outcome,
            RouterJob::Admit { .. } => panic!("{job:?}"),
        })
        .collect();
    assert!(
        matches!(outcomes[..], [CallOutcome::Cancelled, CallOutcome::Revoked]),
        "{outcomes:?}"
    );
}

/// Brings the delivery in the hand of a slot to the point where only its settlement is missing.
fn answer_and_publish(bench: &Bench, id: EntryId, slot: Generation) {
    let next = bench.ledger.next_generation();
    bench.ledger.replied(id, 0, slot, CallOutcome::Timeout);
    bench.admit_next(next);
    assert!(bench.ledger.take_for_publisher(next).is_some());
    assert!(bench.ledger.published(id, next, Settlement::Ack).is_some());
}

#[test]
fn a_delivery_is_settled_only_after_every_item_of_its_streams_is_confirmed() {
    let (bench, slot) = ready(1);
    let ledger = &bench.ledger;
    let acker = ledger.next_generation();
    let (id, _) = ledger.assign(0, slot).expect("ready");
    assert!(ledger.streams(id, 0, slot, 2));
    let again = ledger.recover(Holder::Slot(0));
    assert!(!ledger.streams(id, 0, slot, 2), "the slot has ended");
    assert_eq!(ledger.assign(0, again).map(|(id, _)| id), Some(id));
    assert!(ledger.streams(id, 0, again, 1));
    assert!(!ledger.confirmed(id));
    answer_and_publish(&bench, id, again);
    assert!(ledger.take_for_acker(acker).is_none());
    assert_eq!(ledger.count(), HashMap::from([(Stage::Publishing, 1)]));
    assert!(!ledger.confirmed(id));
    assert!(
        ledger.take_for_acker(acker).is_none(),
        "one of the first run is missing"
    );
    assert!(ledger.confirmed(id));
    assert!(ledger.take_for_acker(acker).is_some());
    assert!(ledger.take_for_acker(acker).is_none(), "once");
}

#[test]
fn a_delivery_whose_items_are_confirmed_first_waits_for_nothing() {
    let (bench, slot) = ready(1);
    let (id, _) = bench.ledger.assign(0, slot).expect("ready");
    assert!(bench.ledger.streams(id, 0, slot, 1));
    assert!(!bench.ledger.confirmed(id), "it runs");
    answer_and_publish(&bench, id, slot);
    let acker = bench.ledger.next_generation();
    assert!(bench.ledger.take_for_acker(acker).is_some());
    assert_eq!(bench.ledger.return_all(), 1);
    assert!(!bench.ledger.confirmed(id), "it is gone");
}

#[test]
fn an_overdue_call_gets_an_outcome_and_names_its_slot() {
    let bench = Bench::new(1);
    let (router, slot) = (bench.ledger.next_generation(), bench.ledger.next_generation());
    bench.deliver(1);
    bench.admit_next(router);
    bench.ledger.assign(3, slot).expect("ready");
    let later = Instant::now() + bench.config.runtime_timeout + Duration::from_secs(3);
    assert!(
        bench
            .ledger
            .overdue(Instant::now(), Duration::from_secs(2))
            .is_empty()
    );
    assert_eq!(bench.ledger.overdue(later, Duration::from_secs(2)), [3]);
    assert!(bench.ledger.waiting(Stage::Routing));
}

#[tokio::test]
async fn empty_resolves_when_the_last_entry_is_gone() {
    let bench = Bench::new(2);
    bench.ledger.empty().await;
    bench.deliver(1);
    assert!(futures::FutureExt::now_or_never(bench.ledger.empty()).is_none());
    assert_eq!(bench.ledger.return_all(), 1);
    bench.ledger.empty().await;
    assert_eq!(bench.credits.taken(), 0);
}

proptest! {
    #[test]
    fn random_histories_lose_nothing(steps in proptest::collection::vec(0_u8..20, 1..400)) {
        let bench = Bench::new(6);
        let mut router = bench.ledger.recover(Holder::Router);
        let mut slots = [bench.ledger.recover(Holder::Slot(0)), bench.ledger.recover(Holder::Slot(1))];
        let mut publisher = bench.ledger.recover(Holder::Publisher);
        let mut acker = bench.ledger.recover(Holder::Acker);
        let mut running = Vec::new();
        let (mut publishing, mut settling) = (Vec::new(), Vec::new());
        let mut delivered = 0;
        let mut items = Vec::new();
        for step in steps {
            match step {
                0..=2 => delivered += usize::from(bench.deliver(u32::from(step) * 2 + 1)),
                3 | 4 => bench.admit_next(router),
                5 | 6 => {
                    let slot = usize::from(step - 5);
                    if let Some((id, _)) = bench.ledger.assign(slot, slots[slot]) {
                        running.push((id, slot, slots[slot]));
                    }
                }
                7 => if let Some((id, slot, generation)) = running.pop() {
                    bench.ledger.replied(id, slot, generation, CallOutcome::Timeout);
                },
                8 => publishing.extend(bench.ledger.take_for_publisher(publisher).map(|(id, _)| (id, publisher))),
                9 => if let Some((id, generation)) = publishing.pop() {
                    bench.ledger.published(id, generation, Settlement::Ack);
                },
                10 => settling.extend(
                    bench.ledger.take_for_acker(acker).map(|(id, receipt, how)| (id, receipt, how, acker)),
                ),
                11 => if let Some((id, receipt, how, generation)) = settling.pop()
                    && generation == acker
                {
                    futures::executor::block_on(receipt.settle(how)).expect("settles");
                    bench.ledger.settled(id, generation);
                    prop_assert!(!items.contains(&id), "settled before an item was confirmed");
                },
                12 => {
                    let slot = delivered % 2;
                    slots[slot] = bench.ledger.recover(Holder::Slot(slot));
                }
                13 | 14 => {
                    let slot = usize::from(step - 13);
                    let work = bench.ledger.assign_many(slot, slots[slot], 1, 3, 2);
                    running.extend(work.iter().map(|work| (work.id, slot, slots[slot])));
                }
                15 => if let Some((id, slot, generation)) = running.pop() {
                    let isolations = [Isolation::None, Isolation::Worker, Isolation::Runtime];
                    bench.ledger.give_back(slot, generation, &[id], isolations[delivered % 3]);
                },
                16 => { bench.ledger.cancel(|envelope| envelope.id == "x", Cancelled::Asked); }
                17 => if let Some((id, slot, generation)) = running.last()
                    && bench.ledger.streams(*id, *slot, *generation, 2)
                {
                    items.extend([*id; 2]);
                },
                18 => if let Some(id) = items.pop() {
                    bench.ledger.confirmed(id);
                },
                _ => {
                    router = bench.ledger.recover(Holder::Router);
                    publisher = bench.ledger.recover(Holder::Publisher);
                    acker = bench.ledger.recover(Holder::Acker);
                }
            }
            let held: usize = bench.ledger.count().values().sum();
            prop_assert_eq!(held, bench.credits.taken(), "credits equal entries");
            prop_assert!(bench.ledger.alone_is_alone(), "something runs beside one that runs alone");
            prop_assert_eq!(delivered, held + bench.broker.settled.load(Ordering::SeqCst));
        }
        // Whatever is left can still be brought to its end.
        drop(settling);
        let held: usize = bench.ledger.count().values().sum();
        prop_assert_eq!(bench.ledger.return_all(), held);
        prop_assert_eq!(bench.broker.returned.load(Ordering::SeqCst), held);
        prop_assert_eq!(bench.credits.taken(), 0);
        prop_assert!(bench.ledger.count().is_empty());
    }
}
