//! Whether the gateway is worth a try: after a failure nobody tries for a while, then one request alone finds out.
//!
//! The state machine is plain; the clock is handed in. It also says when an outage is worth a line in the log: once at
//! its begin, once at its end, and not again within a minute when a gateway comes and goes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::pace::nanos;
use crate::context::backoff;

/// First and longest pause after a failure, before jitter.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// How often a waiter looks again while another one's request finds out.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Outages that begin sooner than this after one that was logged are not logged.
const QUIET: Duration = Duration::from_mins(1);

/// Shared by everything that sends.
pub(super) struct Circuit {
    start: Instant,
    /// Copy of `State::until` in nanoseconds since `start`, for the hot path; 0 while the gateway is there.
    closed_until: AtomicU64,
    away: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Failures in a row.
    failures: u32,
    /// Nobody tries before.
    until: Option<Instant>,
    /// Somebody is finding out.
    is_probed: bool,
    /// Counts outages, so that answers to requests of before do not count.
    epoch: u64,
    /// Begin of the present outage, if there is one.
    since: Option<Instant>,
    /// Begin of the last outage that was logged.
    logged: Option<Instant>,
    /// Whether the present outage was.
    is_logged: bool,
}

/// Leave to make one request. Say how it went; dropping it says nothing.
pub(super) struct Permit<'a> {
    circuit: &'a Circuit,
    epoch: u64,
    is_probe: bool,
}

/// What is to be told about a change.
#[derive(Debug, PartialEq, Eq)]
enum News {
    None,
    Gone,
    Back { after: Duration },
}

impl Circuit {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            closed_until: AtomicU64::new(0),
            away: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Whether a request would be tried; cheap, for the hot path.
    pub(super) fn is_open(&self, now: Instant) -> bool {
        let until = self.closed_until.load(Ordering::Relaxed);
        until == 0 || nanos(now.saturating_duration_since(self.start)) >= until
    }

    /// Whether the last request failed.
    pub(super) fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Leave for one request, or the time at which to ask again.
    pub(super) fn permit(&self, now: Instant) -> Result<Permit<'_>, Instant> {
        let mut state = self.state();
        let is_probe = match state.until {
            None => false,
            Some(until) if now < until => return Err(until),
            Some(_) if state.is_probed => return Err(now + LOOK_AGAIN),
            Some(_) => true,
        };
        state.is_probed = is_probe;
        Ok(Permit {
            circuit: self,
            epoch: state.epoch,
            is_probe,
        })
    }

    /// The gateway is there, as somebody has found out in another way than by a request.
    pub(super) fn restored(&self) {
        let epoch = self.state().epoch;
        let witness = Permit {
            circuit: self,
            epoch,
            is_probe: false,
        };
        witness.answered();
    }

    /// The gateway is away, as somebody has found out in another way.
    pub(super) fn lost(&self, reason: &str) {
        if let Ok(permit) = self.permit(Instant::now()) {
            permit.failed(reason);
        }
    }

    /// Waits for leave, at most until `deadline` and not at all once `hurry` is called.
    pub(super) async fn wait(&self, deadline: Instant, hurry: &CancellationToken) -> Option<Permit<'_>> {
        loop {
            let now = Instant::now();
            let again = match self.permit(now) {
                Ok(permit) => return Some(permit),
                Err(again) if again < deadline && !hurry.is_cancelled() => again,
                Err(_) => return None,
            };
            tokio::select! {
                () = tokio::time::sleep_until(again.into()) => {}
                () = hurry.cancelled() => {}
            }
        }
    }

    fn answered(&self, permit: &Permit<'_>, now: Instant) -> News {
        let mut state = self.state();
        if permit.epoch != state.epoch {
            return News::None;
        }
        state.is_probed = false;
        state.failures = 0;
        state.until = None;
        self.closed_until.store(0, Ordering::Relaxed);
        self.away.store(false, Ordering::Relaxed);
        match state.since.take() {
            Some(since) if state.is_logged => News::Back {
                after: now.saturating_duration_since(since),
            },
            _ => News::None,
        }
    }

    fn failed(&self, permit: &Permit<'_>, now: Instant) -> News {
        let mut state = self.state();
        if permit.epoch != state.epoch {
            return News::None; // Sent before the outage was known: it says nothing new.
        }
        let full = backoff(PAUSE.0, PAUSE.1, state.failures);
        // Half of it at least; the rest by chance, so that the sidecars of a gateway do not come back together.
        let until = now + full / 2 + full.mul_f64(rand::random_range(0.0..0.5));
        state.failures = state.failures.saturating_add(1);
        state.epoch += 1;
        state.is_probed = false;
        state.until = Some(until);
        let until = nanos(until.saturating_duration_since(self.start)).max(1);
        self.closed_until.store(until, Ordering::Relaxed);
        self.away.store(true, Ordering::Relaxed);
        if state.since.is_some() {
            return News::None;
        }
        state.since = Some(now);
        state.is_logged = state
            .logged
            .is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        if !state.is_logged {
            return News::None;
        }
        state.logged = Some(now);
        News::Gone
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The gateway answered, whatever it said.
    pub(super) fn answered(self) {
        if let News::Back { after } = self.circuit.answered(&self, Instant::now()) {
            tracing::info!(?after, "the gateway is there again");
        }
    }

    /// No answer, or one that says "not now".
    pub(super) fn failed(self, reason: &str) {
        if self.circuit.failed(&self, Instant::now()) == News::Gone {
            tracing::warn!(
                %reason,
                "the gateway is away: messages move on, progress is not reported, final reports wait in their queue"
            );
        }
    }
}

impl Drop for Permit<'_> {
    /// A request that was given up must not keep others from finding out.
    fn drop(&mut self) {
        if self.is_probe {
            let mut state = self.circuit.state();
            if state.epoch == self.epoch {
                state.is_probed = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn permit(circuit: &Circuit, now: Instant) -> Permit<'_> {
        circuit.permit(now).ok().unwrap()
    }

    #[test]
    fn after_a_failure_nobody_tries_then_one_alone() {
        let circuit = Circuit::new();
        let now = circuit.start + SECOND;
        assert_eq!(circuit.failed(&permit(&circuit, now), now), News::Gone);
        assert!(circuit.is_away() && !circuit.is_open(now));
        let until = circuit.permit(now).err().unwrap();
        assert!(until > now && until <= now + PAUSE.0);
        assert!(circuit.is_open(until));
        let probe = permit(&circuit, until);
        assert!(circuit.permit(until).is_err(), "one at a time");
        assert_eq!(
            circuit.answered(&probe, until + SECOND),
            News::Back {
                after: until + SECOND - now
            }
        );
        drop(probe);
        assert!(circuit.is_open(now) && !circuit.is_away());
        let (_one, _two) = (permit(&circuit, now), permit(&circuit, now));
    }

    #[test]
    fn a_probe_that_is_given_up_lets_the_next_one_try() {
        let circuit = Circuit::new();
        let now = circuit.start;
        circuit.failed(&permit(&circuit, now), now);
        let later = now + SECOND;
        drop(permit(&circuit, later));
        drop(permit(&circuit, later));
    }

    #[test]
    fn pauses_grow_to_their_limit_and_answers_of_before_count_for_nothing() {
        let circuit = Circuit::new();
        let mut now = circuit.start;
        let stale = (permit(&circuit, now), permit(&circuit, now));
        circuit.failed(&permit(&circuit, now), now);
        assert_eq!(circuit.failed(&stale.0, now), News::None);
        assert_eq!(circuit.answered(&stale.1, now), News::None);
        assert!(circuit.is_away());
        for _ in 0..40 {
            now = circuit.permit(now).err().unwrap();
            assert_eq!(circuit.failed(&permit(&circuit, now), now), News::None);
        }
        let pause = circuit.permit(now).err().unwrap() - now;
        assert!(pause >= PAUSE.1 / 2 && pause <= PAUSE.1, "{pause:?}");
    }

    #[test]
    fn a_gateway_that_comes_and_goes_is_logged_once_a_minute() {
        let circuit = Circuit::new();
        let mut now = circuit.start;
        let mut lines = 0;
        for _ in 0..100 {
            lines += usize::from(circuit.failed(&permit(&circuit, now), now) != News::None);
            now += SECOND;
            lines += usize::from(circuit.answered(&permit(&circuit, now), now) != News::None);
        }
        assert_eq!(lines, 4, "begin and end, twice in a hundred seconds");
    }

    #[tokio::test]
    async fn waiting_ends_at_the_deadline_and_when_there_is_no_time() {
        let circuit = Circuit::new();
        let later = Instant::now() + Duration::from_hours(1);
        circuit.failed(&permit(&circuit, later), later);
        let hurry = CancellationToken::new();
        assert!(circuit.wait(Instant::now(), &hurry).await.is_none());
        hurry.cancel();
        let never = Instant::now() + Duration::from_hours(9);
        assert!(circuit.wait(never, &hurry).await.is_none());
    }
}
