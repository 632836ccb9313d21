//! PostgreSQL itself: databases of the original, migrations, addresses, and what happens when the server goes away.
#![expect(clippy::unwrap_used, reason = "tests fail where they stand")]

mod addresses;
mod clusters;
mod faults;
mod limits;
mod lost_answers;
mod migrations;
mod original;
mod upkeep;
mod words;
