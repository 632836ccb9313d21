//! What a person sees: live progress while a pipeline runs, and the summary at its end.
//!
//! [`tracker`] keeps the figures (pure), [`screen`] shows them, [`summary`] writes the tables.

mod screen;
mod summary;
mod tracker;

pub(crate) use screen::{Screen, SharedScreen, say};
pub(crate) use summary::summary;
pub(crate) use tracker::Tracker;
