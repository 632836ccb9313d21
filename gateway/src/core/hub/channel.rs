//! The latest updates of one watched envelope, shared by its watchers, and what must be read to complete them.
//!
//! All decisions are here, under one short lock, without any I/O: [`Channel::changed`] and [`Channel::hinted`] say
//! whether the store must be read, [`Channel::begin`] and [`Channel::loaded`] enclose such a read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asya_gateway_store::Update;
use tokio::sync::watch;

use super::ring::{Next, Ring};
use super::{Channels, lock};

/// Whether somebody must ask the pump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Need {
    /// No: everything is there, or a read is already on its way.
    Nothing,
    /// Yes.
    Read,
}

/// What a watcher finds.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// The next update.
    Update(Arc<Update>),
    /// The next update is in the store alone.
    InStore,
    /// Nothing yet: wait for the mark.
    Wait,
    /// There was never an update of the watcher's place, and all is known: it must start anew.
    Astray,
    /// All is told.
    End,
}

/// One watched envelope.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) id: Arc<str>,
    /// The end of an earlier attempt ends nothing.
    attempt: u32,
    state: Mutex<State>,
    /// Changes whenever waiting watchers should look again.
    mark: watch::Sender<()>,
    channels: Channels,
}

#[derive(Debug, Default)]
struct State {
    ring: Ring,
    /// Version of the record after the last update of the ring, where it is known.
    version: Option<i64>,
    /// Version after an update that was told before its forerunners were known.
    told: Option<(i64, i64)>,
    /// An update of this id or later exists, as far as anybody said.
    wanted: i64,
    /// The store must be read in any case.
    stale: bool,
    /// The pump has been asked.
    asked: bool,
    /// A read is under way.
    reading: bool,
    end: End,
}

/// How near the end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    Open,
    /// The record was found final; its final update was not met yet, and may be gone from the history.
    Expected,
    /// The final update is in the ring, or is known to be gone.
    Reached,
}

impl State {
    fn is_complete(&self) -> bool {
        !self.stale && !self.reading && self.wanted <= self.ring.last()
    }

    fn has_ended(&self) -> bool {
        self.end == End::Reached
    }

    fn ask(&mut self) -> Need {
        if self.asked || self.is_complete() || self.has_ended() {
            return Need::Nothing;
        }
        self.asked = true;
        Need::Read
    }

    fn push(&mut self, update: Arc<Update>, attempt: u32) {
        if ends(&update, attempt) {
            self.end = End::Reached;
        }
        self.ring.push(update);
    }
}

/// Whether nothing comes after it.
fn ends(update: &Update, attempt: u32) -> bool {
    update.is_final() && update.attempt >= attempt
}

impl Channel {
    pub(super) fn new(id: Arc<str>, attempt: u32, is_final: bool, channels: Channels) -> Self {
        let state = State {
            end: if is_final { End::Expected } else { End::Open },
            stale: true,
            ..State::default()
        };
        Self {
            id,
            attempt,
            state: Mutex::new(state),
            mark: watch::Sender::new(()),
            channels,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn mark(&self) -> watch::Receiver<()> {
        self.mark.subscribe()
    }

    pub(super) fn has_ended(&self) -> bool {
        self.state().has_ended()
    }

    /// Whether nothing comes after this update.
    pub(super) fn ends_with(&self, update: &Update) -> bool {
        ends(update, self.attempt)
    }

    /// Every update after this id that is known is here.
    pub(super) fn floor(&self) -> i64 {
        self.state().ring.floor()
    }

    /// Whether the channel does not reach to this update.
    pub(super) fn is_before(&self, update: i64) -> bool {
        self.state().ring.last() < update
    }

    /// Anything may have changed.
    pub(super) fn look(&self) -> Need {
        let mut state = self.state();
        state.stale = true;
        state.ask()
    }

    /// The record was found final.
    pub(super) fn ends(&self) -> Need {
        let mut state = self.state();
        if state.end == End::Open {
            state.end = End::Expected;
            state.stale = true;
        }
        state.ask()
    }

    /// An update of this id or later exists.
    pub(super) fn hinted(&self, update: i64) -> Need {
        let mut state = self.state();
        state.wanted = state.wanted.max(update);
        state.ask()
    }

    /// This update exists, and the record has this version after it.
    pub(super) fn changed(&self, version: i64, update: &Arc<Update>) -> Need {
        let mut state = self.state();
        if update.id <= state.ring.last() {
            if update.id == state.ring.last() {
                state.version = Some(version);
            }
            return Need::Nothing;
        }
        if state.version.is_some_and(|known| known + 1 == version) {
            state.version = Some(version);
            state.push(Arc::clone(update), self.attempt);
            drop(state);
            self.mark.send_replace(());
            return Need::Nothing;
        }
        if state.told.is_none_or(|(told, _)| told < update.id) {
            state.told = Some((update.id, version));
        }
        state.wanted = state.wanted.max(update.id);
        state.ask()
    }

    /// Begins a read, if one is needed: after which update, and what is known to exist.
    pub(super) fn begin(&self) -> Option<(i64, i64)> {
        let mut state = self.state();
        if state.has_ended() || state.is_complete() {
            state.asked = false;
            return None;
        }
        state.stale = false;
        state.reading = true;
        Some((state.ring.last(), state.wanted))
    }

    /// Ends a read that began for `wanted`. `is_all` is whether the store has no more.
    pub(super) fn loaded(&self, updates: Vec<Update>, is_all: bool, wanted: i64) {
        let mut state = self.state();
        state.reading = false;
        let before = state.ring.last();
        for update in updates {
            state.push(Arc::new(update), self.attempt);
        }
        let last = state.ring.last();
        // The version after the last one is known only if it was told; else the next change is read as well.
        match state.told {
            Some((told, version)) if told == last => (state.version, state.told) = (Some(version), None),
            Some((told, _)) if told < last => (state.version, state.told) = (None, None),
            _ if last == before => {}
            _ => state.version = None,
        }
        if is_all {
            if state.wanted == wanted {
                // Whatever was said to exist is not there (any more).
                state.wanted = last;
            }
            // A final record whose final update is not in the history any more.
            if state.end == End::Expected && state.is_complete() {
                state.end = End::Reached;
            }
        } else {
            state.stale = true;
        }
        drop(state);
        self.mark.send_replace(());
    }

    /// Ends a read that failed: another one is needed.
    pub(super) fn unread(&self) {
        let mut state = self.state();
        state.reading = false;
        state.stale = true;
    }

    /// What comes after the update of this id.
    pub(super) fn after(&self, id: i64) -> Found {
        let state = self.state();
        match state.ring.after(id) {
            Next::Update(update) => Found::Update(update),
            Next::Dropped => Found::InStore,
            Next::Nothing if id > state.ring.last() && (state.has_ended() || state.is_complete()) => {
                Found::Astray
            }
            Next::Nothing if state.has_ended() => Found::End,
            Next::Nothing => Found::Wait,
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let mut channels = lock(&self.channels);
        // Somebody may have come back meanwhile and have a new one.
        let removed = match channels.get(&self.id) {
            Some(channel) if channel.strong_count() == 0 => channels.remove(&self.id),
            _ => None,
        };
        drop((channels, removed));
    }
}

#[cfg(test)]
mod tests;
