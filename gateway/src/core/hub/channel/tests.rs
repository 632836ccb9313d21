//! The channel against a model: a history that grows, news of it in any order, reads that take their time.

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;

use super::*;
use crate::core::testing::update;

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The store commits the next update; where from says who tells.
    Commit(From),
    /// Somebody who made an update tells it; which of those that were not told yet.
    Tell(usize),
    /// The store hints at an update; which of those that were not hinted at yet.
    Hint(usize),
    /// The pump begins a read, if it was asked, or ends the one that it began.
    Pump,
    /// A watcher comes, at the place of an update.
    Join(usize),
    /// A watcher looks.
    Look(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Here,
    Elsewhere,
    /// From here, and the store hints at it, too.
    Both,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let from = prop_oneof![Just(From::Here), Just(From::Elsewhere), Just(From::Both)];
    let step = prop_oneof![
        4 => from.prop_map(Step::Commit),
        4 => any::<usize>().prop_map(Step::Tell),
        4 => any::<usize>().prop_map(Step::Hint),
        6 => Just(Step::Pump),
        1 => any::<usize>().prop_map(Step::Join),
        6 => any::<usize>().prop_map(Step::Look),
    ];
    proptest::collection::vec(step, 0..400)
}

struct World {
    channel: Channel,
    /// Ids; the version after the update of index `i` is `i + 2`.
    history: Vec<i64>,
    to_tell: Vec<usize>,
    to_hint: Vec<usize>,
    asked: bool,
    /// After which update it began, for what, and what it found.
    read: Option<(i64, i64, Vec<i64>)>,
    watchers: Vec<Watcher>,
    ended: bool,
}

struct Watcher {
    start: i64,
    cursor: i64,
    seen: Vec<i64>,
    ended: bool,
}

impl World {
    fn new() -> Self {
        let channel = Channel::new("e".into(), 1, false, Channels::default());
        let mut world = Self {
            asked: channel.look() == Need::Read,
            channel,
            history: Vec::new(),
            to_tell: Vec::new(),
            to_hint: Vec::new(),
            read: None,
            watchers: Vec::new(),
            ended: false,
        };
        world.join(0);
        world
    }

    fn join(&mut self, start: i64) {
        if self.channel.is_before(start) {
            self.asked |= self.channel.look() == Need::Read;
        }
        self.watchers.push(Watcher {
            start,
            cursor: start,
            seen: Vec::new(),
            ended: false,
        });
    }

    fn update(&self, index: usize) -> Update {
        update(
            "e",
            self.history[index],
            self.ended && index + 1 == self.history.len(),
        )
    }

    fn commit(&mut self, from: From, is_final: bool) {
        if self.ended {
            return;
        }
        // Not dense.
        let index = self.history.len();
        let id = self.history.last().unwrap_or(&0) + 1 + i64::try_from(index % 3).unwrap();
        self.history.push(id);
        self.ended = is_final;
        if from != From::Elsewhere {
            self.to_tell.push(index);
        }
        if from != From::Here {
            self.to_hint.push(index);
        }
    }

    fn tell(&mut self, choice: usize) {
        if !self.to_tell.is_empty() {
            let index = self.to_tell.swap_remove(choice % self.to_tell.len());
            let version = i64::try_from(index).unwrap() + 2;
            self.asked |= self.channel.changed(version, &Arc::new(self.update(index))) == Need::Read;
        }
    }

    fn hint(&mut self, choice: usize) {
        if !self.to_hint.is_empty() {
            let index = self.to_hint.swap_remove(choice % self.to_hint.len());
            self.asked |= self.channel.hinted(self.history[index]) == Need::Read;
        }
    }

    /// Pages of three, so that one read is several.
    fn pump(&mut self) {
        if let Some((_, wanted, found)) = self.read.take() {
            let updates: Vec<Update> = found
                .iter()
                .map(|id| self.update(self.history.iter().position(|known| known == id).unwrap()))
                .collect();
            self.channel.loaded(updates, found.len() < 3, wanted);
        } else if self.asked {
            match self.channel.begin() {
                Some((after, wanted)) => {
                    let found = self
                        .history
                        .iter()
                        .copied()
                        .filter(|id| *id > after)
                        .take(3)
                        .collect();
                    self.read = Some((after, wanted, found));
                }
                None => self.asked = false,
            }
        }
    }

    fn look(&mut self, choice: usize) -> Result<bool, TestCaseError> {
        let count = self.watchers.len();
        let watcher = &mut self.watchers[choice % count];
        match self.channel.after(watcher.cursor) {
            Found::Update(update) => {
                watcher.cursor = update.id;
                watcher.seen.push(update.id);
                return Ok(true);
            }
            Found::InStore => {
                // The ring of the real channel is longer than any history here.
                return Err(TestCaseError::fail("nothing is dropped here"));
            }
            Found::Astray => return Err(TestCaseError::fail("every place is one of the history")),
            Found::End => watcher.ended = true,
            Found::Wait => {}
        }
        Ok(false)
    }

    fn run(&mut self, steps: Vec<Step>) -> TestCaseResult {
        for step in steps {
            match step {
                Step::Commit(from) => self.commit(from, false),
                Step::Tell(choice) => self.tell(choice),
                Step::Hint(choice) => self.hint(choice),
                Step::Pump => self.pump(),
                Step::Join(choice) => {
                    let places = self.history.len() + 1;
                    let start = (choice % places)
                        .checked_sub(1)
                        .map_or(0, |index| self.history[index]);
                    self.join(start);
                }
                Step::Look(choice) => drop(self.look(choice)?),
            }
        }
        Ok(())
    }

    /// Everything that is said is heard, the pump comes to rest, and watchers look until nothing is left.
    fn settle(&mut self) -> TestCaseResult {
        while !self.to_tell.is_empty() || !self.to_hint.is_empty() {
            self.tell(7);
            self.hint(5);
        }
        while self.asked || self.read.is_some() {
            self.pump();
        }
        for watcher in 0..self.watchers.len() {
            while self.look(watcher)? {}
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn every_watcher_sees_every_update_once_and_in_order_whatever_the_order_of_the_news(steps in steps()) {
        let mut world = World::new();
        world.run(steps)?;
        world.settle()?;
        for watcher in &world.watchers {
            let expected: Vec<i64> = world.history.iter().copied().filter(|id| *id > watcher.start).collect();
            prop_assert_eq!(&watcher.seen, &expected);
            prop_assert!(!watcher.ended);
        }
        world.commit(From::Elsewhere, true);
        world.settle()?;
        for watcher in &world.watchers {
            prop_assert_eq!(watcher.seen.last(), world.history.last());
            prop_assert!(watcher.ended);
        }
    }
}

#[test]
fn changes_that_follow_each_other_are_not_read_from_the_store() {
    let mut world = World::new();
    world.commit(From::Here, false);
    world.settle().unwrap();
    for _ in 0..10 {
        world.commit(From::Both, false);
        world.tell(0);
        assert!(
            !world.asked,
            "what follows the last version is complete without a read"
        );
        world.hint(0);
        assert!(!world.asked, "a hint at what is known is no reason either");
    }
    world.settle().unwrap();
    assert_eq!(world.watchers[0].seen, world.history);
}

#[test]
fn a_place_that_was_never_given_out_is_told_once_all_is_known() {
    let mut world = World::new();
    for _ in 0..3 {
        world.commit(From::Elsewhere, false);
    }
    world.join(1_000);
    assert_eq!(
        world.channel.after(1_000),
        Found::Wait,
        "it may be a place that is not known yet"
    );
    world.hint(0);
    while world.asked || world.read.is_some() {
        world.pump();
    }
    assert_eq!(world.channel.after(1_000), Found::Astray);
}

#[test]
fn a_final_record_without_a_final_update_ends_the_channel_once_it_was_read() {
    let channel = Channel::new("e".into(), 1, true, Channels::default());
    assert_eq!(channel.look(), Need::Read);
    assert_eq!(channel.after(0), Found::Wait);
    let (_, wanted) = channel.begin().unwrap();
    channel.loaded(vec![update("e", 4, false)], true, wanted);
    assert!(matches!(channel.after(0), Found::Update(_)));
    assert_eq!(channel.after(4), Found::End);
    assert_eq!(channel.begin(), None);
}

#[test]
fn the_end_of_an_earlier_attempt_ends_nothing() {
    let channel = Channel::new("e".into(), 2, false, Channels::default());
    assert_eq!(channel.look(), Need::Read);
    let (_, wanted) = channel.begin().unwrap();
    channel.loaded(vec![update("e", 4, true)], true, wanted);
    assert!(!channel.has_ended());
    assert_eq!(channel.begin(), None);
    let second = Update {
        attempt: 2,
        ..update("e", 5, true)
    };
    assert_eq!(channel.hinted(5), Need::Read);
    let (_, wanted) = channel.begin().unwrap();
    channel.loaded(vec![second], true, wanted);
    assert!(channel.has_ended());
}

#[test]
fn a_read_that_failed_is_needed_still() {
    let channel = Channel::new("e".into(), 1, false, Channels::default());
    assert_eq!(channel.look(), Need::Read);
    assert!(channel.begin().is_some());
    channel.unread();
    assert_eq!(channel.look(), Need::Nothing, "the pump goes on by itself");
    assert!(channel.begin().is_some());
}
