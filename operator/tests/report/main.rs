//! The reporter against the real gateway, and what becomes of it when either side goes away.

mod log;
mod outages;
mod sides;
mod stage;
mod telling;
