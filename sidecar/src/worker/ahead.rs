//! How many requests are written to a worker beyond those that it may run at once: a pure function.
//!
//! A request that is written ahead saves the worker the wait for the next one, which for a short call is as long as
//! the call. It costs something too: it can be run by nobody else, and waits behind whatever comes before it.

use std::time::Duration;

/// Work that may be written ahead, as time: far above the time between an answer and the next request.
const AHEAD: Duration = Duration::from_millis(2);

/// Never more requests than this.
const MOST: usize = 64;

/// Requests beyond the window of a worker that runs `concurrency` calls at once, each of which takes `call` (unknown
/// before the first has ended) for a batch of `batch`.
pub(crate) fn ahead(concurrency: usize, batch: usize, call: Option<Duration>) -> usize {
    match call {
        // A batch is filled from what waits; what was written ahead could not join it.
        _ if batch > 1 => 0,
        None => 0,
        Some(call) if call > AHEAD => 0,
        Some(call) => {
            let each = AHEAD.as_nanos() / call.as_nanos().max(1);
            let each = usize::try_from(each).unwrap_or(MOST).min(MOST);
            (each * concurrency).clamp(1, MOST)
        }
    }
}

/// The part of `ready` waiting requests that one of `workers` may write ahead: the others want some too.
pub(crate) fn share(ready: usize, workers: usize) -> usize {
    ready / workers.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    #[test]
    fn short_calls_are_written_ahead_and_long_ones_are_not() {
        let ahead = |micros| ahead(1, 1, Some(Duration::from_micros(micros)));
        assert_eq!([0, 10, 31, 100, 1_000, 2_000].map(ahead), [64, 64, 64, 20, 2, 1]);
        assert_eq!([2_001, 10_000, 10_000_000].map(ahead), [0, 0, 0]);
        assert_eq!(super::ahead(1, 1, None), 0, "the first calls may be long ones");
    }

    proptest! {
        #[test]
        fn never_much_and_nothing_for_batches(
            concurrency in 1_usize..2_000, batch in 2_usize..100, micros in 0_u64..10_000_000,
        ) {
            let call = Some(Duration::from_micros(micros));
            prop_assert!(ahead(concurrency, 1, call) <= MOST);
            prop_assert_eq!(ahead(concurrency, batch, call), 0);
        }

        #[test]
        fn workers_that_share_leave_something_for_each_other(ready in 0_usize..1_000, workers in 1_usize..64) {
            let taken = share(ready, workers);
            prop_assert!(taken * workers <= ready);
            prop_assert_eq!(share(ready, 1), ready);
        }
    }
}
