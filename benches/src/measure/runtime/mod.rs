//! The Python runtime over protocol v2: what a persistent connection, batches, `async` handlers and isolated workers
//! are worth.
//!
//! Each file is a section of its own. Those that measure the runtime alone talk to it over [`client::Links`]; those
//! that measure what a message sees go through a real sidecar tree on an embedded queue, see [`actor::Actor`].

use anyhow::Result;

use super::{Options, Section};
use crate::figures::Row;

mod actor;
pub mod batch;
mod client;
pub mod concurrent;
pub mod echo;
pub mod hop;
pub mod hung;

/// Measures one of the sections.
pub async fn section(section: Section, options: &Options, say: &dyn Fn(&str)) -> Result<Vec<Row>> {
    match section {
        Section::RuntimeAsync => concurrent::measure(options, say).await,
        Section::RuntimeBatch => batch::measure(options, say).await,
        Section::RuntimeHung => hung::measure(options, say).await,
        Section::RuntimeHop => hop::measure(options, say).await,
        _ => echo::measure(options, say),
    }
}
