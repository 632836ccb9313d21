//! How fast it is, and whether anything is lost: the measurements behind `make bench` and `make soak`.
//!
//! What it is: two programs and what they share. `bench` sets each part beside the least that could do the same work
//! (the bare queue loop, the bare socket echo), in alternating rounds of one run, and prints the ratios. `soak` kills
//! a whole pipeline again and again and counts every message at the end; its harness is [`soak::run`], so that tests
//! can call it with smaller numbers. What it is not: a load generator for a cluster, or a place for unit tests.
//!
//! Start reading at [`measure::Section`], then [`measure::hop`]; for the soak at [`soak::run`].
//!
//! Absolute figures belong to one machine at one moment. The ratios are what can be compared, because both sides of
//! each were measured seconds apart.

pub mod broker;
pub mod figures;
pub mod machine;
pub mod measure;
pub mod meter;
pub mod python;
pub mod soak;
pub mod stage;
