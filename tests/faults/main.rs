//! The sidecar as a program on a real RabbitMQ node, while everything around it breaks. Every message is counted.
//!
//! What it is: processes, connections, queues and whole brokers that end, come back or go silent under load. At the
//! end of each test nothing is lost, nothing healthy is condemned, and whatever came twice is explained by a fault and
//! identical, message id included (see `asya_tests::plant::Tally`). What it is not: the promises of a single crate,
//! which its own tests keep, and the configuration of the program, which is in `tests/sidecar`.
//!
//! Sidecars and runtimes speak protocol v2 here, and v1 in the module `v1`.
//!
//! # The defects of the original
//!
//! Each defect of severity A (contract data-plane §16) that concerns a sidecar on RabbitMQ has a test that fails on
//! what the original does.
//!
//! | Defect | Test |
//! |---|---|
//! | D-01 handler run again and again while the next queue is missing | `queues`: `a_next_queue_that_appears_late_…`, `a_next_queue_that_never_appears_…` |
//! | D-02 results lost with the operator's bindings | `topology`: `every_topology_and_every_publisher_works` |
//! | D-03 no confirms | `broker`, `alarm`; `queues`: `a_full_queue_…` |
//! | D-04 error-end feeds itself, bytes are lost | `bad_messages`: `each_bad_message_…`, `bad_messages_in_end_actors_…` |
//! | D-05 headers and parents are lost | `handlers`: `a_split_of_a_split_…`; headers are part of every `Tally` |
//! | D-07 requeued for ever, never dead-lettered | `bad_messages`: `an_end_actor_that_always_fails_…` |
//! | D-08 a timeout ends the sidecar without settling | `handlers`: `a_call_that_takes_too_long_…` |
//! | D-10 a failing end actor counts as success | `bad_messages`: `an_end_actor_that_always_fails_…` |
//! | D-11 the final report is tried once | `sidecar/tests/gateway`: `the_message_is_kept_in_its_queue_until_the_gateway_is_there` |
//! | D-13 SIGTERM makes errors or repeats work | `stopping`, all of it |
//! | D-15 nothing is consumed after a lost connection | `network` and `broker`, all of them |
//! | D-29 acknowledged though error-end did not take the error | `queues`: `errors_are_held_until_error_end_exists` |
//!
//! Of the others: D-09 (`handlers`: `a_split_of_a_split_…`), D-16 (`queues`: `a_queue_that_is_deleted_…`), D-17
//! (`sharing`), D-24 (`bad_messages`: `a_message_over_the_limit_…`), D-31 (message ids in every `Tally`) and D-34
//! (`handlers`: `messages_wait_for_a_runtime_…`; `crashes`: `a_killed_runtime_…`).

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod alarm;
mod bad_messages;
mod broker;
mod crashes;
mod handlers;
mod network;
mod queues;
mod retries;
mod setup;
mod sharing;
mod stopping;
mod storm;
mod topology;
mod v1;
