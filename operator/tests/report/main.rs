//! The reporter against the real gateway, and what becomes of it when either side goes away.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod log;
mod outages;
mod sides;
mod stage;
mod telling;
