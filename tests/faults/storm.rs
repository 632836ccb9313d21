//! A short version of `make soak`: faults of all kinds at random moments.

use std::time::Duration;

use asya_tests::storm::{Options, run_with};

use crate::setup::{AUTO, PREFETCH, Protocol, node};

#[test]
fn a_storm_loses_nothing_and_condemns_nothing() {
    blow(AUTO);
}

pub(crate) fn blow(protocol: Protocol) {
    let options = Options {
        envelopes: 5_000,
        kills: 16,
        broker_kills: 1,
        prefetch: PREFETCH,
        retries: true,
        limit: Duration::from_mins(5),
        seed: 7,
    };
    let environment = [("ASYA_RUNTIME_PROTOCOL", protocol.0)];
    let outcome = run_with(&node(), &options, &environment, &mut |_| {});
    assert!(outcome.faults().is_empty(), "{outcome}");
}
