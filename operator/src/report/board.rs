//! What there is to tell: the newest of every actor, and what of it the stream of now has not told yet.
//!
//! Bounded by the number of actors: a change of an actor that waits already replaces what waits, at the same place.
//! Without a stream nothing waits at all, since a new one tells everything; an actor that is deleted then is simply not
//! among it, and the gateway forgets it at `synced`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use asya_proto::status::v1::{
    Actor, ActorKey, ActorsSynced, OperatorHello, ReportActorsRequest, report_actors_request::Kind,
};
use tokio::sync::Notify;

/// Most messages that are sent and not acknowledged; a gateway takes 256 at once.
const MOST_UNACKNOWLEDGED: usize = 1024;

/// Namespace and name.
pub(super) type Name = (String, String);

/// What there is to tell. Shared by those who see and the one who tells.
#[derive(Default)]
pub(super) struct Board {
    state: Mutex<State>,
    /// There is something to tell, or room to tell it.
    news: Notify,
    /// Nothing waits any more, perhaps.
    rest: Notify,
}

#[derive(Default)]
struct State {
    actors: BTreeMap<Name, Actor>,
    /// Whether every actor that exists is among them.
    is_complete: bool,
    stream: Option<Stream>,
    /// Streams so far.
    streams: u64,
    acknowledged: u64,
}

/// What one stream still has to tell.
struct Stream {
    number: u64,
    /// The sequence number of the last message.
    last: u64,
    hello: Option<OperatorHello>,
    waiting: VecDeque<Name>,
    /// Those of `waiting`, and since when; `None` for what is told again without a change.
    since: BTreeMap<Name, Option<Instant>>,
    sync: Sync,
    /// Sent and not acknowledged: sequence number, and since when it waited.
    sent: VecDeque<(u64, Option<Instant>)>,
}

/// Whether `synced` was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    /// Not every actor is known yet.
    Open,
    /// It is due after so many of those that wait.
    After(usize),
    /// It was told.
    Told,
}

/// How far the telling is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Actors that are known.
    pub actors: usize,
    /// Whether a stream is open that the gateway has answered.
    pub is_connected: bool,
    /// Streams so far, good ones and others.
    pub streams: u64,
    /// Changes that were not sent yet.
    pub waiting: usize,
    /// Messages that were sent and not acknowledged.
    pub unacknowledged: usize,
    /// Messages that were acknowledged so far.
    pub acknowledged: u64,
    /// Whether the gateway has acknowledged everything that was told, `synced` included.
    pub is_complete: bool,
}

impl Board {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An actor as it is now. The time of observation alone is no news.
    pub(super) fn put(&self, name: Name, mut actor: Actor, now: Instant) {
        let mut state = self.state();
        if let Some(known) = state.actors.get_mut(&name) {
            let seen_at = std::mem::replace(&mut actor.observed_at, known.observed_at);
            let is_same = *known == actor;
            actor.observed_at = seen_at;
            if is_same {
                known.observed_at = seen_at;
                return;
            }
        }
        state.actors.insert(name.clone(), actor);
        state.tell(name, Some(now));
        drop(state);
        self.news.notify_waiters();
    }

    /// An actor is gone.
    pub(super) fn remove(&self, name: Name, now: Instant) {
        let mut state = self.state();
        if state.actors.remove(&name).is_some() {
            state.tell(name, Some(now));
            drop(state);
            self.news.notify_waiters();
        }
    }

    /// Every actor that exists was put once.
    pub(super) fn complete(&self) {
        let mut state = self.state();
        state.is_complete = true;
        if let Some(stream) = &mut state.stream
            && stream.sync == Sync::Open
        {
            stream.sync = Sync::After(stream.waiting.len());
        }
        drop(state);
        self.news.notify_waiters();
    }

    /// Everything is told again, without haste.
    pub(super) fn repeat(&self) {
        let mut state = self.state();
        let names: Vec<_> = state.actors.keys().cloned().collect();
        for name in names {
            state.tell(name, None);
        }
        drop(state);
        self.news.notify_waiters();
    }

    /// A stream begins; returns its number. The one before is over.
    pub(super) fn open(&self, hello: OperatorHello) -> u64 {
        let mut state = self.state();
        state.streams += 1;
        let waiting: VecDeque<_> = state.actors.keys().cloned().collect();
        let sync = if state.is_complete {
            Sync::After(waiting.len())
        } else {
            Sync::Open
        };
        let number = state.streams;
        state.stream = Some(Stream {
            number,
            last: 0,
            hello: Some(hello),
            since: waiting.iter().map(|name| (name.clone(), None)).collect(),
            waiting,
            sync,
            sent: VecDeque::new(),
        });
        drop(state);
        self.news.notify_waiters();
        number
    }

    /// The stream is over.
    pub(super) fn close(&self) {
        self.state().stream = None;
        self.news.notify_waiters();
    }

    /// The next message of a stream; `None` when it is over.
    pub(super) async fn next(&self, number: u64) -> Option<ReportActorsRequest> {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            {
                let mut state = self.state();
                let State { actors, stream, .. } = &mut *state;
                let stream = stream.as_mut().filter(|stream| stream.number == number)?;
                if let Some(request) = stream.next(actors) {
                    return Some(request);
                }
            }
            news.await;
        }
    }

    /// The gateway has stored everything up to a message. Returns since when each of them had waited.
    pub(super) fn acknowledge(&self, sequence: u64) -> Vec<Option<Instant>> {
        let mut state = self.state();
        let Some(stream) = &mut state.stream else {
            return Vec::new();
        };
        let count = stream
            .sent
            .iter()
            .take_while(|(sent, _)| *sent <= sequence)
            .count();
        let told: Vec<_> = stream.sent.drain(..count).map(|(_, since)| since).collect();
        state.acknowledged += told.len() as u64;
        drop(state);
        self.news.notify_waiters();
        self.rest.notify_waiters();
        told
    }

    /// Whether anything that was sent is not acknowledged.
    pub(super) fn is_waiting_for_gateway(&self) -> bool {
        self.state()
            .stream
            .as_ref()
            .is_some_and(|stream| !stream.sent.is_empty())
    }

    pub(super) fn progress(&self) -> Progress {
        let state = self.state();
        let base = Progress {
            actors: state.actors.len(),
            streams: state.streams,
            acknowledged: state.acknowledged,
            ..Progress::default()
        };
        let Some(stream) = &state.stream else {
            return base;
        };
        Progress {
            is_connected: stream.last > 0 && stream.sent.front().is_none_or(|(first, _)| *first > 1),
            waiting: stream.waiting.len(),
            unacknowledged: stream.sent.len(),
            is_complete: stream.sync == Sync::Told && stream.waiting.is_empty() && stream.sent.is_empty(),
            ..base
        }
    }

    /// Resolves when the gateway has acknowledged everything that was told so far, `synced` included.
    pub(super) async fn completed(&self) {
        loop {
            let resting = self.rest.notified();
            tokio::pin!(resting);
            resting.as_mut().enable();
            if self.progress().is_complete {
                return;
            }
            resting.await;
        }
    }
}

impl State {
    /// Puts an actor, or that it is gone, among what the stream of now has to tell.
    fn tell(&mut self, name: Name, since: Option<Instant>) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        if let Some(known) = stream.since.get_mut(&name) {
            *known = known.or(since);
        } else {
            stream.since.insert(name.clone(), since);
            stream.waiting.push_back(name);
        }
    }
}

impl Stream {
    fn next(&mut self, actors: &BTreeMap<Name, Actor>) -> Option<ReportActorsRequest> {
        if self.sent.len() >= MOST_UNACKNOWLEDGED {
            return None;
        }
        let (kind, since) = self.next_kind(actors)?;
        self.last += 1;
        self.sent.push_back((self.last, since));
        Some(ReportActorsRequest {
            sequence: self.last,
            kind: Some(kind),
        })
    }

    fn next_kind(&mut self, actors: &BTreeMap<Name, Actor>) -> Option<(Kind, Option<Instant>)> {
        if let Some(hello) = self.hello.take() {
            return Some((Kind::Hello(hello), None));
        }
        if self.sync == Sync::After(0) {
            self.sync = Sync::Told;
            return Some((Kind::Synced(ActorsSynced {}), None));
        }
        let name = self.waiting.pop_front()?;
        if let Sync::After(left) = &mut self.sync {
            *left -= 1;
        }
        let since = self.since.remove(&name).flatten();
        let kind = match actors.get(&name) {
            Some(actor) => Kind::Observed(actor.clone()),
            None => Kind::Deleted(ActorKey {
                // The cluster of the stream.
                cluster: String::new(),
                namespace: name.0,
                name: name.1,
            }),
        };
        Some((kind, since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Name {
        ("n".to_owned(), name.to_owned())
    }

    fn put(board: &Board, who: &str, message: &str) {
        let actor = Actor {
            message: message.to_owned(),
            observed_at: Some(std::time::SystemTime::now().into()),
            ..Actor::default()
        };
        board.put(name(who), actor, Instant::now());
    }

    /// Everything that can be told now.
    fn told(board: &Board) -> Vec<String> {
        let mut state = board.state();
        let State { actors, stream, .. } = &mut *state;
        let stream = stream.as_mut().unwrap();
        let mut told = Vec::new();
        while let Some(request) = stream.next(actors) {
            assert_eq!(request.sequence, stream.last);
            told.push(match request.kind.unwrap() {
                Kind::Hello(_) => "hello".to_owned(),
                Kind::Observed(actor) => actor.message,
                Kind::Deleted(key) => format!("-{}", key.name),
                Kind::Synced(_) => "synced".to_owned(),
            });
        }
        told
    }

    #[test]
    fn a_stream_tells_everything_then_that_it_is_all_then_changes() {
        let board = Board::default();
        put(&board, "a", "a1");
        board.open(OperatorHello::default());
        put(&board, "b", "b1");
        assert_eq!(told(&board), ["hello", "a1", "b1"]);
        put(&board, "c", "c1");
        board.complete();
        put(&board, "d", "d1");
        board.complete();
        assert_eq!(told(&board), ["c1", "synced", "d1"]);
        put(&board, "a", "a2");
        board.remove(name("b"), Instant::now());
        board.remove(name("never there"), Instant::now());
        assert_eq!(told(&board), ["a2", "-b"]);
        board.open(OperatorHello::default());
        assert_eq!(told(&board), ["hello", "a2", "c1", "d1", "synced"]);
    }

    #[test]
    fn what_waits_is_replaced_at_its_place() {
        let board = Board::default();
        board.complete();
        board.open(OperatorHello::default());
        assert_eq!(told(&board), ["hello", "synced"]);
        for round in 0..100 {
            put(&board, "a", &format!("a{round}"));
            put(&board, "b", &format!("b{round}"));
        }
        assert_eq!(board.progress().waiting, 2);
        assert_eq!(told(&board), ["a99", "b99"]);
        put(&board, "a", "a99");
        assert_eq!(told(&board).len(), 0, "it is known");
        board.remove(name("a"), Instant::now());
        put(&board, "a", "new");
        assert_eq!(told(&board), ["new"]);
        board.repeat();
        assert_eq!(told(&board), ["new", "b99"]);
    }

    #[test]
    fn nothing_waits_without_a_stream() {
        let board = Board::default();
        board.open(OperatorHello::default());
        put(&board, "a", "a1");
        board.close();
        for round in 0..100 {
            put(&board, "a", &format!("a{round}"));
            put(&board, "b", "b");
            board.remove(name("b"), Instant::now());
        }
        let progress = board.progress();
        assert_eq!(
            (progress.actors, progress.waiting, progress.is_connected),
            (1, 0, false)
        );
    }

    #[test]
    fn no_more_is_sent_than_may_be_unacknowledged() {
        let board = Board::default();
        board.open(OperatorHello::default());
        for number in 0..2 * MOST_UNACKNOWLEDGED {
            put(&board, &format!("{number:05}"), "x");
        }
        board.complete();
        assert_eq!(told(&board).len(), MOST_UNACKNOWLEDGED);
        assert!(!board.progress().is_connected);
        assert_eq!(board.acknowledge(10).len(), 10);
        assert!(board.progress().is_connected);
        assert_eq!(told(&board).len(), 10);
        assert_eq!(board.acknowledge(u64::MAX).len(), MOST_UNACKNOWLEDGED);
        assert_eq!(
            told(&board).len(),
            MOST_UNACKNOWLEDGED - 10 + 2,
            "hello and synced are messages"
        );
        assert!(!board.progress().is_complete);
        board.acknowledge(u64::MAX);
        assert!(board.progress().is_complete);
    }
}
