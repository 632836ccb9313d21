//! Whether a batch is run now or waits for more: a pure decision.

use std::time::{Duration, Instant};

/// A consumer that has waited for its queue for so long has found it empty. A broker nearby delivers sooner.
const EMPTY: Duration = Duration::from_millis(1);

/// What is known when a worker could run a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gathering {
    /// Messages that wait and may run together.
    pub(crate) ready: usize,
    /// Messages that a batch may have.
    pub(crate) size: usize,
    /// Since when the first of them waits.
    pub(crate) since: Option<Instant>,
    /// The longest that it should.
    pub(crate) wait: Duration,
    /// Where more could come from.
    pub(crate) supply: Supply,
}

/// Where more messages could come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Supply {
    /// Some are here and will be ready at once.
    Arriving,
    /// All that may be held is held, and waits for this batch or runs.
    Exhausted,
    /// The consumer has asked its queue for more at that time and waits for it.
    Asked(Instant),
    /// None of these: somebody is about to ask.
    Open,
}

/// The decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gather {
    /// Nothing to run.
    Nothing,
    /// Run what is there.
    Run,
    /// Look again then, or when something has changed.
    WaitUntil(Instant),
}

/// Decides at time `now`.
pub(crate) fn decide(gathering: &Gathering, now: Instant) -> Gather {
    let Gathering {
        ready,
        size,
        since,
        wait,
        supply,
    } = *gathering;
    let Some(since) = since.filter(|_| ready > 0) else {
        return Gather::Nothing;
    };
    let end = match supply {
        _ if ready >= size => return Gather::Run,
        Supply::Exhausted => return Gather::Run,
        Supply::Arriving | Supply::Open => since + wait,
        Supply::Asked(asked) => (since + wait).min(asked + EMPTY),
    };
    if end <= now {
        Gather::Run
    } else {
        Gather::WaitUntil(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert, prop_oneof, proptest, strategy::Just};

    fn gathering(ready: usize, supply: Supply, since: Instant) -> Gathering {
        Gathering {
            ready,
            size: 4,
            since: Some(since),
            wait: Duration::from_millis(20),
            supply,
        }
    }

    #[test]
    fn a_full_batch_runs_at_once_and_one_that_cannot_fill_too() {
        let now = Instant::now();
        assert_eq!(decide(&gathering(4, Supply::Open, now), now), Gather::Run);
        assert_eq!(decide(&gathering(1, Supply::Exhausted, now), now), Gather::Run);
        let nothing = gathering(0, Supply::Open, now);
        assert_eq!(decide(&nothing, now + Duration::from_secs(9)), Gather::Nothing);
    }

    #[test]
    fn a_batch_waits_for_its_window_unless_the_queue_is_empty() {
        let now = Instant::now();
        let end = now + Duration::from_millis(20);
        for supply in [Supply::Open, Supply::Arriving] {
            assert_eq!(decide(&gathering(3, supply, now), now), Gather::WaitUntil(end));
            assert_eq!(decide(&gathering(3, supply, now), end), Gather::Run);
        }
        let asked = Supply::Asked(now);
        assert_eq!(
            decide(&gathering(3, asked, now), now),
            Gather::WaitUntil(now + EMPTY)
        );
        assert_eq!(decide(&gathering(3, asked, now), now + EMPTY), Gather::Run);
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_the_window(
            ready in 1_usize..10,
            asked in 0_u64..50,
            waited in 0_u64..50,
            supply in prop_oneof![Just(0), Just(1), Just(2), Just(3)],
        ) {
            let start = Instant::now();
            let now = start + Duration::from_millis(waited);
            let supply = match supply {
                0 => Supply::Arriving,
                1 => Supply::Exhausted,
                2 => Supply::Open,
                _ => Supply::Asked(start + Duration::from_millis(asked)),
            };
            match decide(&gathering(ready, supply, start), now) {
                Gather::Nothing => prop_assert!(false, "there is work"),
                Gather::Run => {}
                Gather::WaitUntil(end) => {
                    prop_assert!(end > now && end <= start + Duration::from_millis(20));
                }
            }
        }
    }
}
