//! Notices that nobody wants an envelope any more: a bounded board that a reporter fills and the tree looks at, before it
//! starts an envelope and before it publishes what a handler returned (rulings 10).
//!
//! What it is not: a record. Whoever sent a notice keeps that; a notice that was dropped for lack of room means that
//! work is done for nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use asya_runtime_protocol::Envelope;
use chrono::{DateTime, Utc};

/// Most notices on a board; beyond, the oldest goes.
const MOST: usize = 20_000;

/// Most bytes of ids and reasons.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Nobody wants an envelope any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CancelNotice {
    /// Which one.
    pub envelope_id: String,
    /// This attempt at it and earlier ones: a redrive lives. `None` for all.
    pub attempt: Option<u32>,
    /// May be forgotten then.
    pub keep_until: DateTime<Utc>,
    /// For people; may be empty.
    pub reason: String,
}

impl CancelNotice {
    /// Whether it is about this attempt, and still lasts.
    fn covers(&self, attempt: u32, now: DateTime<Utc>) -> bool {
        self.attempt.is_none_or(|last| attempt <= last) && now < self.keep_until
    }

    fn size(&self) -> usize {
        2 * self.envelope_id.len() + self.reason.len() + 128
    }
}

/// Hears of each new notice, until it returns false.
type Listener = Box<dyn Fn(&CancelNotice) -> bool + Send + Sync>;

/// See the module documentation.
#[derive(Default)]
pub struct Notices {
    state: Mutex<State>,
    /// How many there are, for those who look at each message.
    count: AtomicUsize,
    listeners: Mutex<Vec<Listener>>,
}

#[derive(Default)]
struct State {
    notices: HashMap<String, Arc<CancelNotice>>,
    /// Their ids, the oldest first.
    order: VecDeque<String>,
    bytes: usize,
}

impl Notices {
    /// Puts up a notice and tells whoever listens. A repeated one changes nothing but what it says otherwise.
    pub fn add(&self, notice: CancelNotice) {
        let now = Utc::now();
        if notice.envelope_id.is_empty() || notice.keep_until <= now {
            return;
        }
        let notice = Arc::new(notice);
        {
            let mut state = self.state();
            if state.notices.get(&notice.envelope_id) == Some(&notice) {
                return;
            }
            state.insert(Arc::clone(&notice), now);
            self.count.store(state.notices.len(), Ordering::Release);
        }
        tracing::debug!(envelope = %notice.envelope_id, reason = %notice.reason, "envelope is cancelled");
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|hears| hears(&notice));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The notice about this envelope at this attempt, if there is one. Costs next to nothing while there is none at all.
    pub(crate) fn about(&self, envelope_id: &str, attempt: u32) -> Option<Arc<CancelNotice>> {
        if self.is_empty() {
            return None;
        }
        let state = self.state();
        let notice = state.notices.get(envelope_id)?;
        notice.covers(attempt, Utc::now()).then(|| Arc::clone(notice))
    }

    /// The notice about this envelope as it is, if there is one.
    pub(crate) fn about_envelope(&self, envelope: &Envelope) -> Option<Arc<CancelNotice>> {
        if self.is_empty() {
            return None;
        }
        self.about(&envelope.id, envelope.route.attempt())
    }

    /// From now on `hears` is told of each new notice, until it returns false.
    pub(crate) fn listen(&self, hears: impl Fn(&CancelNotice) -> bool + Send + Sync + 'static) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(hears));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, notice: Arc<CancelNotice>, now: DateTime<Utc>) {
        let (id, size) = (notice.envelope_id.clone(), notice.size());
        match self.notices.insert(id.clone(), notice) {
            Some(before) => self.bytes -= before.size(),
            None => self.order.push_back(id),
        }
        self.bytes += size;
        if self.is_full() {
            self.forget_old(now);
        }
        while self.is_full()
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
    }

    fn is_full(&self) -> bool {
        self.notices.len() > MOST || self.bytes > MOST_BYTES
    }

    fn forget_old(&mut self, now: DateTime<Utc>) {
        self.notices.retain(|_, notice| now < notice.keep_until);
        let notices = &self.notices;
        self.order.retain(|id| notices.contains_key(id));
        self.bytes = self.notices.values().map(|notice| notice.size()).sum();
    }

    fn forget(&mut self, id: &str) {
        if let Some(notice) = self.notices.remove(id) {
            self.bytes -= notice.size();
        }
    }
}

#[cfg(test)]
mod tests {
    use asya_runtime_protocol::Route;
    use bytes::Bytes;

    use super::*;

    fn notice(id: &str) -> CancelNotice {
        CancelNotice {
            envelope_id: id.into(),
            attempt: None,
            keep_until: Utc::now() + chrono::TimeDelta::hours(1),
            reason: String::new(),
        }
    }

    fn envelope(id: &str) -> Envelope {
        Envelope {
            id: id.into(),
            route: Route::new(["a"]),
            ..Envelope::default()
        }
    }

    #[test]
    fn a_notice_is_about_its_envelope_while_it_lasts() {
        let notices = Notices::default();
        notices.add(notice("x"));
        assert!(notices.about_envelope(&envelope("x")).is_some());
        assert!(
            notices.about_envelope(&envelope("x-1")).is_none(),
            "children have their own"
        );
        notices.add(CancelNotice {
            keep_until: Utc::now() - chrono::TimeDelta::seconds(1),
            ..notice("old")
        });
        assert!(notices.about_envelope(&envelope("old")).is_none());
    }

    #[test]
    fn a_redrive_lives() {
        let notices = Notices::default();
        notices.add(CancelNotice {
            attempt: Some(1),
            ..notice("x")
        });
        assert!(notices.about_envelope(&envelope("x")).is_some());
        let body = Bytes::from_static(
            br#"{"id":"x","route":{"actors":["a"],"current":0,"metadata":{"asya_attempt":2}},"payload":1}"#,
        );
        let redriven = Envelope::parse(&body).unwrap().envelope;
        assert_eq!(redriven.route.attempt(), 2);
        assert!(notices.about_envelope(&redriven).is_none());
    }

    #[test]
    fn the_board_is_bounded_and_the_oldest_goes_first() {
        let notices = Notices::default();
        for n in 0..MOST + 10 {
            notices.add(notice(&format!("id-{n}")));
        }
        assert!(notices.about_envelope(&envelope("id-9")).is_none());
        assert!(notices.about_envelope(&envelope("id-10")).is_some());
        let reason = "x".repeat(MOST_BYTES / 4);
        for n in 0..8 {
            notices.add(CancelNotice {
                reason: reason.clone(),
                ..notice(&format!("long-{n}"))
            });
        }
        let state = notices.state();
        assert!(state.bytes <= MOST_BYTES && state.notices.len() <= 3);
        assert_eq!(state.notices.len(), state.order.len());
        assert!(state.notices.contains_key("long-7"));
    }

    #[test]
    fn who_listens_hears_each_notice_once_until_it_has_enough() {
        let notices = Notices::default();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        notices.listen(move |notice| {
            ears.lock().unwrap().push(notice.envelope_id.clone());
            notice.envelope_id != "b"
        });
        let once = notice("a");
        notices.add(once.clone());
        notices.add(once);
        notices.add(notice("b"));
        notices.add(notice("c"));
        assert_eq!(*heard.lock().unwrap(), ["a", "b"]);
    }
}
