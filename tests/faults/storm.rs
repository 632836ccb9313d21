//! A short version of `make soak`: faults of all kinds at random moments.

use std::time::Duration;

use asya_tests::storm::{Options, run};

use crate::setup::{PREFETCH, node};

#[test]
fn a_storm_loses_nothing_and_condemns_nothing() {
    let options = Options {
        envelopes: 5_000,
        kills: 16,
        broker_kills: 1,
        prefetch: PREFETCH,
        retries: true,
        limit: Duration::from_mins(5),
        seed: 7,
    };
    let outcome = run(&node(), &options, &mut |_| {});
    assert!(outcome.faults().is_empty(), "{outcome}");
}
