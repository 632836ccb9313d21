use bytes::Bytes;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;
use crate::admission::{Admission, DeliveryFacts, admit};
use crate::config::{Config, Role};

const GRACE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(3);
const BUDGET: Duration = Duration::from_mins(1);

fn work() -> Arc<Work> {
    let body = Bytes::from_static(br#"{"id":"x","route":{"actors":["work"],"current":0},"payload":1}"#);
    let facts = DeliveryFacts {
        message_id: None,
        deliveries: 1,
        crashes: 0,
    };
    match admit(
        &Config::new("work", Role::Step),
        &body,
        &facts,
        chrono::Utc::now(),
    ) {
        Admission::Run(work) => work,
        Admission::Refuse(_) => panic!("it is a good envelope"),
    }
}

fn flights(window: usize, tags: std::ops::Range<u32>) -> Flights {
    let (work, mut flights) = (work(), Flights::new(window, GRACE, PATIENCE));
    for tag in tags {
        flights.push(Flight::new(id(tag), Arc::clone(&work), tag, BUDGET));
    }
    flights
}

fn id(tag: u32) -> EntryId {
    EntryId::numbered(tag.into())
}

#[test]
fn time_runs_for_the_oldest_only_and_for_the_next_when_one_of_them_ends() {
    let now = Instant::now();
    let mut flights = flights(2, 0..4);
    assert_eq!(flights.begin(now), [id(0), id(1)]);
    assert_eq!((flights.ahead(), flights.free()), (2, 0));
    let later = now + BUDGET / 2;
    flights.end(1);
    assert_eq!(flights.begin(later), [id(2)]);
    assert_eq!(flights.begin(later), []);
    flights.recall(later);
    assert_eq!(flights.overdue(now + BUDGET), [Overdue::Ask(0), Overdue::Drop(3)]);
    flights.end(3);
    assert_eq!(
        flights.overdue(later + BUDGET),
        [Overdue::Kill(0), Overdue::Ask(2)]
    );
}

#[test]
fn a_request_is_asked_then_killed_then_lost() {
    let now = Instant::now();
    let mut flights = flights(1, 7..8);
    flights.begin(now);
    assert_eq!(flights.next_due(), Some(now + BUDGET));
    let asked = now + BUDGET;
    assert_eq!(flights.overdue(asked), [Overdue::Ask(7)]);
    assert_eq!(flights.next_due(), Some(asked + GRACE));
    assert_eq!(flights.overdue(asked), []);
    let killed = asked + GRACE;
    assert_eq!(flights.overdue(killed), [Overdue::Kill(7)]);
    assert_eq!(flights.overdue(killed + PATIENCE), [Overdue::Lost]);
    let flight = flights.end(7).expect("it is there");
    assert_eq!(flight.asked(), Some(Asked::Deadline));
}

#[test]
fn only_what_runs_is_asked_to_end_and_only_once() {
    let now = Instant::now();
    let mut flights = flights(1, 0..2);
    flights.begin(now);
    assert!(
        !flights.ask(1, Asked::Cancelled, now),
        "a worker is not to be killed for what it has not begun"
    );
    assert!(flights.ask(0, Asked::Cancelled, now));
    assert!(!flights.ask(0, Asked::Cancelled, now));
    assert_eq!(flights.overdue(now + GRACE), [Overdue::Kill(0)]);
}

#[test]
fn what_was_written_ahead_is_called_back_when_the_oldest_takes_long() {
    let now = Instant::now();
    let mut flights = flights(1, 0..3);
    flights.begin(now);
    assert_eq!(flights.recall(now + RECALL / 2), [0; 0]);
    assert_eq!(flights.next_due(), Some(now + RECALL));
    assert_eq!(flights.recall(now + RECALL), [1, 2]);
    assert_eq!(flights.recall(now + RECALL), [0; 0], "once");
    assert_eq!(
        flights.overdue(now + RECALL * 2),
        [Overdue::Drop(1), Overdue::Drop(2)]
    );
}

/// The worker goes on after all: then it may have begun with the next one, which is not given to anybody else.
#[test]
fn what_was_called_back_and_has_begun_is_not_dropped() {
    let now = Instant::now();
    let mut flights = flights(1, 0..2);
    flights.begin(now);
    flights.recall(now + RECALL);
    flights.end(0);
    flights.begin(now + RECALL);
    assert_eq!(flights.overdue(now + RECALL * 3), []);
}

/// A worker may run what it was asked too late to give back. Then it has no room for what is sent after that.
#[test]
fn a_ghost_keeps_its_place_until_it_is_answered() {
    let now = Instant::now();
    let mut flights = flights(1, 0..3);
    assert_eq!(flights.begin(now), [id(0)]);
    flights.recall(now + RECALL);
    assert_eq!(
        flights.overdue(now + RECALL * 2),
        [Overdue::Drop(1), Overdue::Drop(2)]
    );
    assert_eq!(flights.release(1), Some(id(1)));
    assert_eq!(flights.release(1), None, "once");
    assert_eq!(flights.overdue(now + RECALL * 3), [Overdue::Drop(2)]);
    assert_eq!(flights.tag_of(id(1)), None);
    flights.end(0);
    assert_eq!(flights.begin(now), [], "nobody waits for the ghost that begins");
    assert_eq!((flights.free(), flights.ahead()), (0, 1));
    flights.end(1);
    assert_eq!(flights.begin(now), [id(2)]);
}

#[test]
fn a_ghost_that_hangs_is_asked_to_end_and_killed_like_any_other() {
    let now = Instant::now();
    let mut flights = flights(1, 0..2);
    flights.begin(now);
    flights.release(1);
    assert_eq!(
        flights.next_due(),
        Some(now + BUDGET),
        "a ghost is not called back"
    );
    assert_eq!(flights.recall(now + RECALL), [0; 0]);
    flights.end(0);
    assert_eq!(flights.next_due(), None, "it has not begun");
    flights.begin(now);
    let asked = now + BUDGET;
    assert_eq!(flights.overdue(asked), [Overdue::Ask(1)]);
    assert_eq!(flights.overdue(asked + GRACE), [Overdue::Kill(1)]);
    assert_eq!(flights.overdue(asked + GRACE + PATIENCE), [Overdue::Lost]);
}

#[test]
fn time_in_which_we_held_the_worker_up_does_not_count() {
    let now = Instant::now();
    let mut flights = flights(1, 0..1);
    flights.begin(now);
    flights.excuse(Duration::from_secs(30));
    assert_eq!(flights.overdue(now + BUDGET), []);
    assert_eq!(
        flights.overdue(now + BUDGET + Duration::from_secs(30)),
        [Overdue::Ask(0)]
    );
}

#[test]
fn requests_of_one_batch_are_one_call() {
    let mut flights = flights(8, 0..4);
    assert_eq!(flights.calls(), 0, "no number yet");
    for (tag, call) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
        flights.get_mut(tag).expect("it is there").call = call;
    }
    assert_eq!(flights.calls(), 2);
    flights.end(0);
    flights.end(2);
    assert_eq!(flights.calls(), 2);
    flights.end(3);
    assert_eq!(flights.calls(), 1);
}

proptest! {
    #[test]
    fn as_many_run_as_the_window_has_places(window in 1_usize..6, steps in proptest::collection::vec(0_u32..12, 1..100)) {
        let now = Instant::now();
        let (work, mut flights) = (work(), Flights::new(window, GRACE, PATIENCE));
        let (mut next, mut begun) = (0, std::collections::BTreeSet::new());
        let mut released = std::collections::BTreeSet::new();
        for step in steps {
            if step < 6 {
                flights.push(Flight::new(id(next), Arc::clone(&work), next, BUDGET));
                next += 1;
            } else if step >= 10 {
                let oldest = flights.first_tag().unwrap_or_default();
                released.extend(flights.release(oldest + step % 2));
            } else if let Some(tag) = flights.first_tag() {
                // Not always the oldest: answers may come in any order.
                let flight = flights.end(tag + step % 2).or_else(|| flights.end(tag));
                prop_assert!(flight.is_some());
            }
            for id in flights.begin(now) {
                prop_assert!(begun.insert(id), "nothing begins twice");
                prop_assert!(!released.contains(&id), "nobody waits for a ghost");
            }
            let running = flights.list.iter().filter(|flight| flight.began.is_some()).count();
            prop_assert_eq!(running, window.min(flights.list.len()));
            prop_assert_eq!(flights.ahead(), flights.list.len() - running);
        }
    }
}
