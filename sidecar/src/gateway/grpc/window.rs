//! What was handed to the stream and is not acknowledged: numbered, in order, bounded, and sent again on the next
//! stream (`ReportEnvelopesRequest` in the protocol).
//!
//! A state machine under one lock, without I/O. Reports come in at [`place`](Window::place), which waits for room; the
//! stream takes them at [`next`](Window::next); acknowledgements take them out. What is asked for here is always
//! answered: a final hears what became of it, and everything else is counted by whoever takes it out.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use asya_proto::status::v1::{EnvelopeReport, ReportAck, ReportRefusal};
use prost::Message as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::parcel::{Fate, Parcel};
use crate::gateway::note::Note;

/// Bytes of all reports that are not acknowledged; one larger report may be alone.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// One of so many places is kept free of progress, so that finals and children find room.
const RESERVE: usize = 4;

/// See the module documentation.
pub(super) struct Window {
    state: Mutex<State>,
    /// There is room, or the phase is another one.
    changed: Notify,
    /// There may be something for the stream.
    filled: Notify,
    /// Nothing waits for a gateway that is away any more.
    hurry: CancellationToken,
}

struct State {
    phase: Phase,
    /// Counts streams, so that an old one takes nothing more.
    stream: u64,
    next_sequence: u64,
    entries: VecDeque<Entry>,
    /// How many of the entries, from the front, the present stream has taken.
    taken: usize,
    bytes: usize,
    most_entries: usize,
    most_report_bytes: usize,
}

/// Whether reports come in and go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reports go over HTTP.
    Off,
    /// Reports are to go over gRPC, and there is no stream at present.
    Down,
    /// There is a stream.
    Up,
    /// The gateway goes away: what the stream has taken is still acknowledged; the rest waits for the next one.
    Leaving,
    /// This side ends: what is here goes out, nothing more comes in.
    Closing,
}

#[derive(Debug)]
struct Entry {
    sequence: u64,
    parcel: Parcel,
    bytes: usize,
    refusal: Option<ReportRefusal>,
    /// When the present stream took it.
    since: Option<Instant>,
}

/// A report that found no place, as it was.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) parcel: Parcel,
    pub(super) why: Why,
}

/// Why it found none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Reports go over HTTP now.
    Off,
    /// There was no room, or no stream, in time.
    Late,
    /// The gateway takes no report of this size.
    TooLarge,
}

impl Window {
    pub(super) fn new(hurry: CancellationToken) -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Off,
                stream: 0,
                next_sequence: 1,
                entries: VecDeque::new(),
                taken: 0,
                bytes: 0,
                most_entries: 1,
                most_report_bytes: usize::MAX,
            }),
            changed: Notify::new(),
            filled: Notify::new(),
            hurry,
        }
    }

    /// Whether reports are to go this way.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.state().phase, Phase::Off | Phase::Closing)
    }

    /// Whether they go at this moment.
    pub(super) fn is_up(&self) -> bool {
        self.state().phase == Phase::Up
    }

    /// Reports that are not acknowledged.
    pub(super) fn len(&self) -> usize {
        self.state().entries.len()
    }

    /// Whether all is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether nothing more comes in.
    pub(super) fn is_closing(&self) -> bool {
        self.state().phase == Phase::Closing
    }

    /// Waits until reports are to go this way.
    pub(super) async fn on(&self) {
        self.until(|state| !matches!(state.phase, Phase::Off | Phase::Closing))
            .await;
    }

    /// Hands a report to the stream, as soon as there are one and room for it, at most until `deadline`. While there is
    /// no stream nobody waits who is in a hurry.
    pub(super) async fn place(&self, mut parcel: Parcel, deadline: Instant) -> Result<(), Refused> {
        let late = tokio::time::sleep_until(deadline.into());
        tokio::pin!(late);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            parcel = match self.state().take_in(parcel) {
                Ok(()) => {
                    self.filled.notify_waiters();
                    return Ok(());
                }
                Err((parcel, Some(why))) => return Err(Refused { parcel, why }),
                Err((parcel, None)) => parcel,
            };
            let is_away = !self.is_up();
            tokio::select! {
                () = changed => {}
                () = &mut late => return Err(Refused { parcel, why: Why::Late }),
                () = self.hurry.cancelled(), if is_away => return Err(Refused { parcel, why: Why::Late }),
            }
        }
    }

    /// A stream is there that takes so many reports at once, of that many bytes at most. Returns its number.
    pub(super) fn open(&self, most_entries: u32, most_report_bytes: u64) -> u64 {
        let mut state = self.state();
        state.phase = Phase::Up;
        state.stream += 1;
        state.taken = 0;
        state.most_entries = usize::try_from(most_entries).unwrap_or(usize::MAX).max(1);
        state.most_report_bytes = match usize::try_from(most_report_bytes).unwrap_or(usize::MAX) {
            0 => usize::MAX,
            most => most,
        };
        // Finals that nobody waits for any more have gone back to their queue and will be told anew.
        state.retain(|entry| !matches!(&entry.parcel, Parcel::Final { heard, .. } if heard.is_closed()));
        let stream = state.stream;
        drop(state);
        self.changed.notify_waiters();
        stream
    }

    /// The stream is over; what it did not acknowledge waits for the next one.
    pub(super) fn down(&self) {
        self.turn(Phase::Down);
    }

    /// The stream is about to be over.
    pub(super) fn leave(&self) {
        self.turn(Phase::Leaving);
    }

    /// Nothing more comes in.
    pub(super) fn close(&self) {
        self.turn(Phase::Closing);
    }

    /// Reports go over HTTP from now on. Finals hear that they are lost; returns the notes that were not acknowledged.
    pub(super) fn off(&self) -> Vec<Note> {
        let mut state = self.state();
        state.phase = Phase::Off;
        state.stream += 1;
        state.taken = 0;
        state.bytes = 0;
        let entries = std::mem::take(&mut state.entries);
        drop(state);
        self.changed.notify_waiters();
        self.filled.notify_waiters();
        let left = entries.into_iter().filter_map(|entry| match entry.parcel {
            Parcel::Note(note) => Some(*note),
            Parcel::Final { heard, .. } => {
                // Who has stopped waiting needs no answer.
                let _gone = heard.send(Fate::Lost);
                None
            }
        });
        left.collect()
    }

    /// The next report for a stream; `None` once it gets no more.
    pub(super) async fn next(&self, stream: u64) -> Option<EnvelopeReport> {
        loop {
            // A stream that is over may still wait here for a moment, and must not take this one's wake-up.
            let filled = self.filled.notified();
            tokio::pin!(filled);
            filled.as_mut().enable();
            {
                let mut state = self.state();
                if state.stream != stream || state.phase == Phase::Down {
                    return None;
                }
                if state.phase != Phase::Leaving
                    && let Some(report) = state.hand_out()
                {
                    return Some(report);
                }
                // All that it has taken is acknowledged, and it gets nothing more.
                if matches!(state.phase, Phase::Leaving | Phase::Closing) && state.taken == 0 {
                    return None;
                }
            }
            filled.await;
        }
    }

    /// Takes out what is acknowledged; finals hear it, the notes are returned.
    pub(super) fn acknowledge(&self, ack: ReportAck) -> Vec<(Note, Fate)> {
        let mut state = self.state();
        for refusal in ack.refusals {
            if let Ok(at) = state
                .entries
                .binary_search_by_key(&refusal.sequence, |entry| entry.sequence)
            {
                state.entries[at].refusal = Some(refusal);
            }
        }
        let mut notes = Vec::new();
        while state.taken > 0
            && let Some(entry) = state.entries.pop_front_if(|entry| entry.sequence <= ack.sequence)
        {
            state.taken -= 1;
            state.bytes -= entry.bytes;
            let fate = match entry.refusal {
                None => Fate::Stored,
                Some(refusal) => Fate::Refused(refusal.reason(), refusal.message),
            };
            match entry.parcel {
                Parcel::Note(note) => notes.push((*note, fate)),
                Parcel::Final { heard, .. } => {
                    // Who has stopped waiting will tell it again, which changes nothing.
                    let _gone = heard.send(fate);
                }
            }
        }
        let is_ending = matches!(state.phase, Phase::Leaving | Phase::Closing);
        drop(state);
        self.changed.notify_waiters();
        if is_ending {
            self.filled.notify_waiters();
        }
        notes
    }

    /// Since when the oldest report that the present stream has taken waits for its acknowledgement.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let state = self.state();
        state.entries.front().and_then(|entry| entry.since)
    }

    fn turn(&self, phase: Phase) {
        let mut state = self.state();
        if state.phase == Phase::Off || (state.phase == Phase::Closing && phase == Phase::Leaving) {
            return; // What ends goes on to its end.
        }
        state.phase = phase;
        drop(state);
        self.changed.notify_waiters();
        self.filled.notify_waiters();
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.state()) {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics in here; if it ever did, the entries would still be the best that there is.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Puts it in if that is possible now; gives it back with the reason if it never will be.
    fn take_in(&mut self, parcel: Parcel) -> Result<(), (Parcel, Option<Why>)> {
        match self.phase {
            Phase::Up => {}
            Phase::Off | Phase::Closing => return Err((parcel, Some(Why::Off))),
            Phase::Down | Phase::Leaving => return Err((parcel, None)),
        }
        if !self.has_place(&parcel) {
            return Err((parcel, None));
        }
        // Only what may be too large is measured.
        if parcel.size() > self.most_report_bytes / 2
            && parcel.encode(self.next_sequence).encoded_len() > self.most_report_bytes
        {
            return Err((parcel, Some(Why::TooLarge)));
        }
        let bytes = parcel.held();
        if !self.entries.is_empty() && self.bytes + bytes > MOST_BYTES {
            return Err((parcel, None));
        }
        self.entries.push_back(Entry {
            sequence: self.next_sequence,
            parcel,
            bytes,
            refusal: None,
            since: None,
        });
        self.next_sequence += 1;
        self.bytes += bytes;
        Ok(())
    }

    fn has_place(&self, parcel: &Parcel) -> bool {
        let reserve = if parcel.is_urgent() {
            0
        } else {
            self.most_entries / RESERVE
        };
        self.entries.len() + reserve < self.most_entries
    }

    fn hand_out(&mut self) -> Option<EnvelopeReport> {
        let entry = self.entries.get_mut(self.taken)?;
        self.taken += 1;
        entry.since = Some(Instant::now());
        Some(entry.parcel.encode(entry.sequence))
    }

    /// Only while no stream has taken anything.
    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.entries.retain(keep);
        self.bytes = self.entries.iter().map(|entry| entry.bytes).sum();
        for entry in &mut self.entries {
            entry.since = None;
        }
    }
}

#[cfg(test)]
mod tests;
