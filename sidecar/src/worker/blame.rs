//! What becomes of the requests that a lost worker has not answered: a pure decision.
//!
//! A worker starts requests in order, as many at once as its window has places. So of those unanswered the oldest, up
//! to the window, may have run, and later ones have not. If one may have run, it is to blame. If several may have,
//! nobody knows which: each runs again alone, and what dies then is to blame. What the worker has not read whole has
//! not run either, which tells one that was killed while it was idle from one that died of its request. If the runtime
//! as a whole has ended, a request of any of its workers may be why, unless there was but one. And if the
//! runtime was told to kill it, only those that were asked to end can be why: a healthy one may have begun while the
//! command was on its way.

use crate::worker::flights::Asked;

/// How a worker was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Its connection ended.
    Broken,
    /// It said goodbye: of what is unanswered nothing was started.
    Goodbye,
}

/// What is known about the end of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WorkerEnd {
    /// How many of its oldest requests may have run.
    pub(crate) ran: usize,
    /// Whether the runtime was told to kill it.
    pub(crate) was_killed: bool,
    /// Whether the runtime as a whole has ended, so that a request of another worker may be why.
    pub(crate) of_all: bool,
}

/// What is known about one unanswered request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unanswered {
    /// How many were asked before it and are unanswered too.
    pub(crate) before: usize,
    /// Whether it was asked to end, and why.
    pub(crate) asked: Option<Asked>,
    /// Whether the envelope's own deadline has passed.
    pub(crate) is_expired: bool,
    /// Whether nothing ran beside it in the whole runtime.
    pub(crate) is_isolated: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was not started, or is not to blame, and waits again.
    Again,
    /// It waits again, and nothing may run beside it.
    AgainAlone,
    /// It has died with its worker.
    Died,
    /// It took too long.
    TimedOut,
    /// Somebody had asked to end it.
    Cancelled,
}

/// How many of `unanswered` requests may have run, of which the newest `unread` were not read whole.
pub(crate) fn may_have_run(loss: Loss, unanswered: usize, unread: usize, window: usize) -> usize {
    match loss {
        Loss::Broken => unanswered.saturating_sub(unread).min(window),
        Loss::Goodbye => 0,
    }
}

/// Decides about one request of a worker that has ended.
pub(crate) fn fate(end: &WorkerEnd, request: &Unanswered) -> Fate {
    let ran = end.ran;
    match request.asked {
        Some(Asked::Cancelled) => Fate::Cancelled,
        _ if request.before >= ran => Fate::Again,
        Some(Asked::Deadline) if ran == 1 || request.is_expired => Fate::TimedOut,
        None if end.was_killed => Fate::Again,
        _ if ran == 1 && (request.is_isolated || !end.of_all) => Fate::Died,
        _ => Fate::AgainAlone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{prop_assert_eq, proptest};

    /// A worker that has ended by itself while others live on.
    fn died(ran: usize) -> WorkerEnd {
        WorkerEnd {
            ran,
            was_killed: false,
            of_all: false,
        }
    }

    fn fates(loss: Loss, asked: &[Option<Asked>], window: usize) -> Vec<Fate> {
        let ran = may_have_run(loss, asked.len(), 0, window);
        let fate = |(before, asked): (usize, &Option<Asked>)| {
            let request = Unanswered {
                before,
                asked: *asked,
                is_expired: false,
                is_isolated: false,
            };
            fate(&died(ran), &request)
        };
        asked.iter().enumerate().map(fate).collect()
    }

    #[test]
    fn the_only_one_that_may_have_run_is_to_blame_and_those_behind_it_are_not() {
        use Fate::{Again, Died, TimedOut};
        assert_eq!(fates(Loss::Broken, &[None, None, None], 1), [Died, Again, Again]);
        assert_eq!(
            fates(Loss::Broken, &[Some(Asked::Deadline), None], 1),
            [TimedOut, Again]
        );
    }

    #[test]
    fn of_several_that_may_have_run_nobody_is_blamed() {
        use Fate::{Again, AgainAlone, Cancelled};
        let asked = [Some(Asked::Deadline), None, Some(Asked::Cancelled), None];
        assert_eq!(
            fates(Loss::Broken, &asked, 3),
            [AgainAlone, AgainAlone, Cancelled, Again]
        );
        let expired = Unanswered {
            before: 0,
            asked: Some(Asked::Deadline),
            is_expired: true,
            is_isolated: false,
        };
        assert_eq!(
            fate(&died(3), &expired),
            Fate::TimedOut,
            "nobody waits for it any more"
        );
    }

    #[test]
    fn what_was_not_read_has_not_run() {
        assert_eq!(may_have_run(Loss::Broken, 1, 1, 1), 0);
        assert_eq!(may_have_run(Loss::Broken, 3, 1, 4), 2);
        assert_eq!(may_have_run(Loss::Broken, 3, 1, 1), 1);
        assert_eq!(may_have_run(Loss::Broken, 0, 1, 1), 0);
    }

    /// The command may have been on its way when what it was meant for was answered, and the next one began.
    #[test]
    fn of_a_worker_that_was_to_be_killed_only_those_are_to_blame_that_were_asked_to_end() {
        let unanswered = |before, asked| Unanswered {
            before,
            asked,
            is_expired: false,
            is_isolated: false,
        };
        let killed = |ran| WorkerEnd {
            was_killed: true,
            ..died(ran)
        };
        assert_eq!(fate(&killed(1), &unanswered(0, None)), Fate::Again);
        assert_eq!(
            fate(&killed(1), &unanswered(0, Some(Asked::Deadline))),
            Fate::TimedOut
        );
        assert_eq!(fate(&killed(2), &unanswered(1, None)), Fate::Again);
        assert_eq!(
            fate(&killed(2), &unanswered(0, Some(Asked::Deadline))),
            Fate::AgainAlone,
            "one of those that were asked"
        );
    }

    #[test]
    fn of_a_runtime_that_has_ended_only_what_ran_alone_in_all_of_it_is_to_blame() {
        let end = WorkerEnd {
            of_all: true,
            ..died(1)
        };
        let request = |is_isolated| Unanswered {
            before: 0,
            asked: None,
            is_expired: false,
            is_isolated,
        };
        assert_eq!(fate(&end, &request(false)), Fate::AgainAlone);
        assert_eq!(fate(&end, &request(true)), Fate::Died);
    }

    #[test]
    fn after_a_goodbye_nothing_has_run() {
        assert_eq!(fates(Loss::Goodbye, &[None, None], 4), [Fate::Again, Fate::Again]);
    }

    proptest! {
        #[test]
        fn at_most_one_is_blamed_and_what_was_written_ahead_never_is(unanswered in 0_usize..100, window in 1_usize..70) {
            let fates = fates(Loss::Broken, &vec![None; unanswered], window);
            let blamed = fates.iter().filter(|fate| **fate == Fate::Died).count();
            prop_assert_eq!(blamed, usize::from(unanswered.min(window) == 1));
            for fate in fates.iter().skip(window) {
                prop_assert_eq!(*fate, Fate::Again);
            }
        }
    }
}
