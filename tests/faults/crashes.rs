//! Processes that are killed with SIGKILL while messages flow.

use asya_tests::plant::{Plant, Tally};

use crate::setup::{AUTO, PREFETCH, Protocol, ROUTE, plant, three_actors};

const KILLS: usize = 12;

/// Envelopes sent before each kill, which strikes when the first of them have ended.
const EACH: usize = 250;

#[test]
fn killed_sidecars_lose_nothing_and_repeat_only_what_they_held() {
    kill_sidecars(AUTO);
}

pub(crate) fn kill_sidecars(protocol: Protocol) {
    let mut plant = plant(protocol);
    three_actors(&mut plant);
    for kill in 0..KILLS {
        plant.send(EACH, &ROUTE);
        plant.progress(100);
        plant.pods[kill % 3].sidecar.crash();
    }
    plant.finish().assert_all_done(KILLS * PREFETCH);
}

/// Contract data-plane §7.4: without retries a message whose runtime ended in the call is an error, and no other.
#[test]
fn a_killed_runtime_costs_at_most_the_message_in_its_hands() {
    kill_runtimes_without_retries(AUTO);
}

pub(crate) fn kill_runtimes_without_retries(protocol: Protocol) {
    let mut plant = plant(protocol);
    let tally = kill_runtimes(&mut plant);
    tally.assert_sound(0);
    assert!(tally.interrupted() <= KILLS, "{tally}");
    assert_eq!(tally.results() + tally.interrupted(), KILLS * EACH, "{tally}");
}

#[test]
fn with_retries_a_killed_runtime_costs_nothing() {
    kill_runtimes_with_retries(AUTO);
}

pub(crate) fn kill_runtimes_with_retries(protocol: Protocol) {
    let mut plant = plant(protocol);
    plant.set_env("ASYA_RETRY_MAX_ATTEMPTS", "5");
    plant.set_env("ASYA_RETRY_INITIAL_BACKOFF", "100ms");
    kill_runtimes(&mut plant).assert_all_done(0);
}

fn kill_runtimes(plant: &mut Plant) -> Tally {
    three_actors(plant);
    for kill in 0..KILLS {
        plant.send(EACH, &ROUTE);
        plant.progress(100);
        plant.pods[kill % 3].runtime.crash();
    }
    plant.finish()
}
