//! What a person sees: live progress while a pipeline runs, and the summary at its end.
//!
//! [`tracker`] keeps the figures (pure), [`screen`] shows them and what handlers tell ([`told`]), [`summary`] writes the
//! tables, and the thread of
//! [`writer`] is the only one that writes to standard error.

mod lines;
mod recent;
mod screen;
mod summary;
mod told;
mod tracker;
mod writer;

pub(crate) use screen::Screen;
pub(crate) use summary::summary;
pub(crate) use told::Told;
pub(crate) use tracker::Tracker;
pub(crate) use writer::{LogLines, flush, print, say, say_last};
