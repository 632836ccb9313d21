//! The policy as a function: never a run too many, never a wait outside its bounds.

use proptest::prelude::{Strategy, any};
use proptest::{option, prop_assert, prop_assert_eq, prop_assume, proptest};

use super::*;

const NOW: DateTime<Utc> = DateTime::from_timestamp(2_000_000_000, 0).unwrap();

fn failure() -> RunFailure {
    coded("processing_error")
}

fn coded(code: &str) -> RunFailure {
    RunFailure {
        code: code.into(),
        exceptions: vec!["app.Outage".into(), "OSError".into(), "Exception".into()],
        message: "no".into(),
        is_reported: false,
    }
}

fn policy(max_attempts: u32) -> RetryPolicy {
    RetryPolicy {
        max_attempts: NonZeroU32::new(max_attempts).unwrap(),
        ..RetryPolicy::default()
    }
}

fn run(attempt: u32) -> Run {
    Run {
        attempt,
        first_at: NOW,
        deadline: None,
        suspect: false,
    }
}

fn delay(decision: Decision) -> Duration {
    match decision {
        Decision::Retry { delay } => delay,
        Decision::GiveUp(why) => panic!("gave up: {why:?}"),
    }
}

fn seconds(seconds: i64) -> TimeDelta {
    TimeDelta::seconds(seconds)
}

#[test]
fn by_default_nothing_is_retried() {
    let policy = RetryPolicy::default();
    assert!(policy.is_off());
    let decision = policy.decide(&failure(), &run(1), NOW, 0.0);
    assert_eq!(decision, Decision::GiveUp(Why::MaxAttempts));
}

#[test]
fn waits_double_up_to_the_longest_and_jitter_halves_them_at_most() {
    let policy = policy(100);
    let waits = |random: f64| {
        [1, 2, 3, 9, 10, 99].map(|attempt| delay(policy.decide(&failure(), &run(attempt), NOW, random)))
    };
    assert_eq!(waits(0.0), [1, 2, 4, 256, 300, 300].map(Duration::from_secs));
    assert_eq!(
        waits(1.0),
        [500, 1000, 2000, 128_000, 150_000, 150_000].map(Duration::from_millis)
    );
}

#[test]
fn no_wait_stays_none_however_often_it_grows() {
    let policy = RetryPolicy {
        initial_backoff: Duration::ZERO,
        ..policy(u32::MAX)
    };
    for attempt in [1, 5000, u32::MAX - 1] {
        let decision = policy.decide(&failure(), &run(attempt), NOW, 0.0);
        assert_eq!(delay(decision), Duration::ZERO);
    }
}

#[test]
fn attempts_count_the_first_run() {
    let policy = policy(3);
    let decide = |attempt| policy.decide(&failure(), &run(attempt), NOW, 0.0);
    assert!(matches!(decide(1), Decision::Retry { .. }));
    assert!(matches!(decide(2), Decision::Retry { .. }));
    assert_eq!(decide(3), Decision::GiveUp(Why::MaxAttempts));
    assert_eq!(decide(u32::MAX), Decision::GiveUp(Why::MaxAttempts));
}

#[test]
fn lists_decide_and_never_on_wins() {
    let decide = |on: &str, never_on: &str| {
        let policy = RetryPolicy {
            on: on.parse().unwrap(),
            never_on: never_on.parse().unwrap(),
            ..policy(5)
        };
        policy.decide(&failure(), &run(1), NOW, 0.0)
    };
    for (on, never_on) in [("", ""), ("OSError", ""), ("OSError", "ValueError")] {
        assert!(
            matches!(decide(on, never_on), Decision::Retry { .. }),
            "{on} {never_on}"
        );
    }
    assert_eq!(decide("ValueError,timeout", ""), Decision::GiveUp(Why::NotOn));
    assert_eq!(decide("OSError", "Outage"), Decision::GiveUp(Why::NeverOn));
    assert_eq!(decide("", "Exception"), Decision::GiveUp(Why::NeverOn));
}

#[test]
fn what_cannot_end_otherwise_is_not_retried_even_if_it_is_listed() {
    for code in ["msg_parsing_error", "bad_answer", "sidecar_crashed"] {
        let policy = RetryPolicy {
            on: code.parse().unwrap(),
            ..policy(5)
        };
        let decision = policy.decide(&coded(code), &run(1), NOW, 0.0);
        assert_eq!(decision, Decision::GiveUp(Why::Permanent), "{code}");
    }
    for code in [
        "processing_error",
        "timeout",
        "worker_died",
        "connection",
        "oom_error",
    ] {
        let decision = policy(5).decide(&coded(code), &run(1), NOW, 0.0);
        assert!(matches!(decision, Decision::Retry { .. }), "{code}");
    }
}

#[test]
fn a_suspect_has_one_run() {
    let suspect = Run {
        suspect: true,
        ..run(1)
    };
    let decision = policy(5).decide(&failure(), &suspect, NOW, 0.0);
    assert_eq!(decision, Decision::GiveUp(Why::Suspect));
}

#[test]
fn no_retry_begins_after_the_deadline() {
    let at = |left: i64| {
        let run = Run {
            deadline: Some(NOW + seconds(left)),
            ..run(3)
        };
        policy(5).decide(&failure(), &run, NOW, 0.0)
    };
    assert_eq!(at(4), Decision::GiveUp(Why::Deadline));
    assert_eq!(delay(at(5)), Duration::from_secs(4));
    assert_eq!(at(-1), Decision::GiveUp(Why::Deadline));
}

#[test]
fn the_whole_duration_is_counted_from_the_first_run() {
    let policy = RetryPolicy {
        max_duration: Some(Duration::from_secs(10)),
        ..policy(9)
    };
    let after = |passed: i64| {
        let run = Run {
            first_at: NOW - seconds(passed),
            ..run(3)
        };
        policy.decide(&failure(), &run, NOW, 0.0)
    };
    assert_eq!(delay(after(6)), Duration::from_secs(4));
    assert_eq!(after(7), Decision::GiveUp(Why::MaxDuration));
    // The clock of the replica that ran it first was ahead.
    assert_eq!(delay(after(-3600)), Duration::from_secs(4));
}

#[test]
fn values_that_no_policy_can_have_are_refused() {
    for text in ["0.9", "-1", "inf", "NaN", "", "two"] {
        assert!(text.parse::<Multiplier>().is_err(), "{text}");
    }
    for text in ["-0.1", "1.1", "inf", "NaN", "", "half"] {
        assert!(text.parse::<Jitter>().is_err(), "{text}");
    }
    assert_eq!(" 1 ".parse(), Ok(Multiplier(1.0)));
    assert_eq!("0.25".parse(), Ok(Jitter(0.25)));
    let refused = "3".parse::<Jitter>().unwrap_err();
    assert_eq!(refused.to_string(), "must be a number from 0 to 1");
}

fn any_policy() -> impl Strategy<Value = RetryPolicy> {
    (
        1_u32..50,
        any::<Duration>(),
        any::<Duration>(),
        1.0..1e300_f64,
        0.0..=1.0_f64,
    )
        .prop_map(
            |(attempts, initial_backoff, max_backoff, multiplier, jitter)| RetryPolicy {
                initial_backoff,
                max_backoff,
                multiplier: Multiplier(multiplier),
                jitter: Jitter(jitter),
                ..policy(attempts)
            },
        )
}

proptest! {
    #[test]
    fn never_more_runs_than_allowed_and_no_wait_outside_its_bounds(
        policy in any_policy(),
        random in 0.0..=1.0_f64,
    ) {
        let longest = policy.max_backoff.min(LONGEST_BACKOFF);
        let mut attempt = 1;
        let mut whole = Duration::ZERO;
        while let Decision::Retry { delay } = policy.decide(&failure(), &run(attempt), NOW, random) {
            prop_assert!(delay <= longest);
            let unspread = policy.delay_after(attempt, 0.0);
            prop_assert!(unspread >= whole, "waits never shrink");
            whole = unspread;
            let least = unspread.mul_f64(1.0 - policy.jitter.0);
            prop_assert!(delay <= unspread && delay >= least, "{delay:?} is not in {least:?}..{unspread:?}");
            attempt += 1;
        }
        prop_assert_eq!(attempt, policy.max_attempts.get());
    }

    #[test]
    fn a_retry_keeps_deadline_and_duration_whatever_the_clock_says(
        policy in any_policy(),
        attempt in any::<u32>(),
        passed in any::<i32>(),
        left in option::of(any::<i32>()),
        limit in option::of(0_u64..1_000_000),
        random in 0.0..=1.0_f64,
    ) {
        prop_assume!(attempt > 0);
        let run = Run {
            attempt,
            first_at: NOW - seconds(passed.into()),
            deadline: left.map(|left| NOW + seconds(left.into())),
            suspect: false,
        };
        let max_duration = limit.map(Duration::from_secs);
        let policy = RetryPolicy { max_duration, ..policy };
        if let Decision::Retry { delay } = policy.decide(&failure(), &run, NOW, random) {
            let next = NOW + TimeDelta::from_std(delay).unwrap();
            prop_assert!(attempt < policy.max_attempts.get());
            prop_assert!(run.deadline.is_none_or(|deadline| next < deadline));
            let since = (next - run.first_at).to_std().unwrap_or_default();
            prop_assert!(max_duration.is_none_or(|longest| since <= longest));
        }
    }
}
