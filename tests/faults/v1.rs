//! The decisive cases once more over protocol v1, which runtimes of the original speak: all other tests run over v2.

use crate::setup::V1;
use crate::{crashes, handlers, stopping, storm};

#[test]
fn killed_sidecars_lose_nothing_and_repeat_only_what_they_held() {
    crashes::kill_sidecars(V1);
}

#[test]
fn a_killed_runtime_costs_at_most_the_message_in_its_hands() {
    crashes::kill_runtimes_without_retries(V1);
}

#[test]
fn with_retries_a_killed_runtime_costs_nothing() {
    crashes::kill_runtimes_with_retries(V1);
}

#[test]
fn a_call_that_takes_too_long_is_one_error_and_harms_no_other_message() {
    handlers::call_for_too_long(V1);
}

#[test]
fn messages_wait_for_a_runtime_that_is_not_there() {
    handlers::do_without_a_runtime(V1);
}

#[test]
fn stopping_under_load_loses_nothing_and_repeats_nothing() {
    stopping::stop_under_load(V1);
}

#[test]
fn a_call_under_way_is_finished_and_settled() {
    stopping::stop_during_a_call(V1);
}

#[test]
fn a_storm_loses_nothing_and_condemns_nothing() {
    storm::blow(V1);
}
