//! The program `asya-gateway` as a whole: what it says about itself, how it starts, and how it ends.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests, helpers included")]

mod command_line;
mod durability;
mod embedded;
mod ending;
mod page;
mod refusals;
mod replicas;
mod setup;
mod tools;
