//! The measurements, one file for each section of the table.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::figures::{Report, Row, Skipped};
use crate::machine::Machine;

pub mod hop;
pub mod memory;
pub mod overhead;
pub mod socket;
pub mod start;
pub mod store;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Section {
    /// One hop through a sidecar, beside a bare loop over the same queue.
    Hop,
    /// What the actors of a sidecar cost per delivery.
    Overhead,
    /// One call of the Python runtime, beside a bare Python socket echo.
    Socket,
    /// Memory of an idle sidecar.
    Memory,
    /// Time from `asya run` to the first handler call, beside the start of a bare interpreter.
    Start,
    /// The embedded queue, beside bare SQLite transactions.
    Store,
}

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Self::Hop => hop::SECTION,
            Self::Overhead => overhead::SECTION,
            Self::Socket => socket::SECTION,
            Self::Memory => memory::SECTION,
            Self::Start => start::SECTION,
            Self::Store => store::SECTION,
        }
    }
}

/// How thoroughly, where and with what to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Alternating rounds; the median counts.
    pub rounds: usize,
    /// Length of one measured stretch.
    pub stretch: Duration,
    /// Where queue files are made; should be on the disk that matters.
    pub directory: PathBuf,
    /// The Python command.
    pub python: String,
    /// The `asya` program, if it is not to be looked for.
    pub asya: Option<PathBuf>,
    /// What to measure.
    pub sections: Vec<Section>,
}

/// What a section found out.
#[derive(Debug)]
pub enum Outcome {
    /// Its rows.
    Measured(Vec<Row>),
    /// Why there are none.
    Skipped(String),
}

/// Measures everything that `options` ask for; `say` hears what is going on.
pub async fn run(options: &Options, say: &dyn Fn(&str)) -> Result<Report> {
    let mut report = Report {
        machine: Machine::look(),
        rows: Vec::new(),
        skipped: Vec::new(),
    };
    let mut hops = hop::Comparisons::new(options, say);
    for section in &options.sections {
        let outcome = match section {
            Section::Hop => Outcome::Measured(hop::measure(&mut hops).await?),
            Section::Overhead => Outcome::Measured(overhead::measure(&mut hops).await?),
            Section::Socket => Outcome::Measured(socket::measure(options, say)?),
            Section::Memory => Outcome::Measured(memory::measure(say).await?),
            Section::Start => start::measure(options, say).await?,
            Section::Store => Outcome::Measured(store::measure(options, say).await?),
        };
        match outcome {
            Outcome::Measured(rows) => report.rows.extend(rows),
            Outcome::Skipped(reason) => report.skipped.push(Skipped {
                section: section.name(),
                reason,
            }),
        }
    }
    Ok(report)
}
