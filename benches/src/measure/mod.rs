//! The measurements, one file for each section of the table.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::figures::{Report, Row, Skipped};
use crate::machine::Machine;

pub mod gateway;
pub mod hop;
pub mod memory;
pub mod operator;
pub mod overhead;
mod place;
pub mod rabbitmq;
pub mod runtime;
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
    /// The Python runtime over v2, beside v1 and beside a bare Python loop on one connection.
    Runtime,
    /// An `async` handler that sleeps, beside the ideal.
    RuntimeAsync,
    /// A batch handler behind a sidecar: full batches beside the ideal, and waiting times.
    RuntimeBatch,
    /// A handler that hangs: what other messages notice, and when its worker is replaced.
    RuntimeHung,
    /// One hop through a sidecar over v2, beside v1.
    RuntimeHop,
    /// Memory of an idle sidecar.
    Memory,
    /// Time from `asya run` to the first handler call, beside the start of a bare interpreter.
    Start,
    /// The embedded queue, beside bare SQLite transactions.
    Store,
    /// One hop through a sidecar on RabbitMQ, beside a bare loop on the same broker.
    Rabbitmq,
    /// The same with a Python handler, beside the slower of broker and interpreter.
    RabbitmqPython,
    /// The same beside pika, aio-pika and Celery.
    Peers,
    /// What a sidecar adds to the latency of a hop on RabbitMQ.
    Latency,
    /// Memory, idle processor time and start of the sidecar program.
    Resources,
    /// A hop on RabbitMQ with a gateway that is dead, slow or lying, beside one without a gateway.
    Gateway,
    /// Calls a second that are durable, beside a bare loop of inserts.
    GatewaySubmits,
    /// Progress reports a second over gRPC, beside HTTP.
    GatewayReports,
    /// Ten thousand open streams: memory, and an event to all of them.
    GatewayStreams,
    /// A call through three actors to its last event.
    GatewayCalls,
    /// A thousand actors on an API server: cold start, ten minutes of calm, changes.
    Operator,
    /// What an operator sees, on its way to a gateway and its watchers.
    OperatorReports,
}

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Self::Hop => hop::SECTION,
            Self::Overhead => overhead::SECTION,
            Self::Socket => socket::SECTION,
            Self::Runtime => runtime::echo::SECTION,
            Self::RuntimeAsync => runtime::concurrent::SECTION,
            Self::RuntimeBatch => runtime::batch::SECTION,
            Self::RuntimeHung => runtime::hung::SECTION,
            Self::RuntimeHop => runtime::hop::SECTION,
            Self::Memory => memory::SECTION,
            Self::Start => start::SECTION,
            Self::Store => store::SECTION,
            Self::Rabbitmq => rabbitmq::SECTION,
            Self::RabbitmqPython => rabbitmq::python::SECTION,
            Self::Peers => rabbitmq::peers::SECTION,
            Self::Latency => rabbitmq::latency::SECTION,
            Self::Resources => rabbitmq::resources::SECTION,
            Self::Gateway => rabbitmq::gateway::SECTION,
            Self::GatewaySubmits => gateway::submits::SECTION,
            Self::GatewayReports => gateway::reports::SECTION,
            Self::GatewayStreams => gateway::streams::SECTION,
            Self::GatewayCalls => gateway::calls::SECTION,
            Self::Operator => operator::cluster::SECTION,
            Self::OperatorReports => operator::reports::SECTION,
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
    /// The `asya-sidecar` program, if it is not to be built.
    pub sidecar: Option<PathBuf>,
    /// The `asya-operator` program, if it is not to be built.
    pub operator: Option<PathBuf>,
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
        failed: Vec::new(),
    };
    let mut hops = hop::Comparisons::new(options, say);
    let mut field = None;
    for section in &options.sections {
        let reason = |reason| Skipped {
            section: section.name(),
            reason,
        };
        match measure(*section, options, say, &mut hops, &mut field).await {
            Ok(Outcome::Measured(rows)) => report.rows.extend(rows),
            Ok(Outcome::Skipped(why)) => report.skipped.push(reason(why)),
            // The other sections may be all right, and took minutes.
            Err(error) => report.failed.push(reason(format!("{error:#}"))),
        }
    }
    Ok(report)
}

async fn measure<'a>(
    section: Section,
    options: &'a Options,
    say: &'a dyn Fn(&str),
    hops: &mut hop::Comparisons<'a>,
    field: &mut Option<rabbitmq::field::Field<'a>>,
) -> Result<Outcome> {
    let rows = match section {
        Section::Hop => hop::measure(hops).await?,
        Section::Overhead => overhead::measure(hops).await?,
        Section::Socket => socket::measure(options, say)?,
        Section::Runtime
        | Section::RuntimeAsync
        | Section::RuntimeBatch
        | Section::RuntimeHung
        | Section::RuntimeHop => runtime::section(section, options, say).await?,
        Section::Memory => memory::measure(say).await?,
        Section::Start => return start::measure(options, say).await,
        Section::Store => store::measure(options, say).await?,
        Section::Rabbitmq
        | Section::RabbitmqPython
        | Section::Peers
        | Section::Latency
        | Section::Resources
        | Section::Gateway => return rabbitmq::section(section, options, say, field).await,
        Section::GatewaySubmits
        | Section::GatewayReports
        | Section::GatewayStreams
        | Section::GatewayCalls => return gateway::section(section, options, say).await,
        Section::Operator | Section::OperatorReports => {
            return operator::section(section, options, say).await;
        }
    };
    Ok(Outcome::Measured(rows))
}
