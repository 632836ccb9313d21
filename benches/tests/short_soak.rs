//! A soak of some seconds: the whole process is killed at least eight times and nothing may be lost.

use std::path::PathBuf;
use std::time::Duration;

use asya_benches::soak::{self, Options, Outcome};

fn options() -> Options {
    Options {
        envelopes: 5_000,
        kill_every: Duration::from_secs(1),
        least_kills: 8,
        limit: Duration::from_mins(2),
        credit: 32,
        slots: 1,
        python: None,
        state: None,
        seed: 20_240_229,
        worker: vec![PathBuf::from(env!("CARGO_BIN_EXE_soak")), "worker".into()],
    }
}

fn assert_whole(outcome: &Outcome) {
    assert!(outcome.passed, "{outcome}");
    assert_eq!(outcome.results, outcome.envelopes + outcome.duplicates);
}

#[tokio::test(flavor = "multi_thread")]
async fn native_actors_lose_nothing_when_the_process_is_killed() {
    let mut seen = 0;
    let outcome = soak::run(&options(), &mut |progress| seen = seen.max(progress.results))
        .await
        .expect("the soak runs");
    assert_whole(&outcome);
    assert!(seen > 0, "progress is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn python_actors_lose_nothing_when_the_process_is_killed() {
    let python = asya_benches::python::resolve("python3").expect("there is a python3");
    let options = Options {
        envelopes: 1_500,
        least_kills: 4,
        python: Some(python),
        ..options()
    };
    assert_whole(&soak::run(&options, &mut |_| ()).await.expect("the soak runs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_passes_is_told_with_what_is_unfinished() {
    let options = Options {
        envelopes: 50_000,
        limit: Duration::from_secs(1),
        least_kills: 0,
        ..options()
    };
    let outcome = soak::run(&options, &mut |_| ()).await.expect("the soak runs");
    assert!(!outcome.passed && !outcome.in_time, "{outcome}");
    assert!(
        outcome.unfinished > 0 && outcome.lost > 0,
        "what is not done is not counted as done: {outcome}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_ends_by_itself_is_an_error() {
    let options = Options {
        worker: vec!["false".into()],
        ..options()
    };
    let error = soak::run(&options, &mut |_| ()).await.expect_err("nobody works");
    assert!(error.to_string().contains("ended by itself"), "{error:#}");
}
