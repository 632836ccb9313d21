//! `--help`, and the tables of `docs/sidecar.md`, both made from the tables of variables, metrics and exit codes.

use asya_program::help::{self, Below, escaped, heading};
use asya_sidecar::{METRICS, MetricKind};
use clap::Parser;

use crate::exit::MEANINGS;
use crate::variables::TABLE;

/// Moves messages between the queue of one actor and its runtime, and never loses one.
///
/// It is configured by environment variables alone; they are listed below.
#[derive(Debug, Parser)]
#[command(name = "asya-sidecar", version, after_long_help = after(), max_term_width = 120)]
pub(crate) struct Arguments {
    /// Check the configuration, say all that is wrong with it, and end with 0 or 1; nothing is connected
    #[arg(long)]
    pub(crate) check: bool,
    /// Print the variables that are set as JSON, without secrets, and end
    #[arg(long)]
    pub(crate) print_config: bool,
    /// Print the tables of the documentation
    #[arg(long, hide = true)]
    pub(crate) markdown: bool,
}

fn after() -> String {
    let below = Below {
        notes: &[
            "In brackets: the default. An empty value counts as unset. Durations: 90s, 5m, 1h30m, or seconds.",
            "A bad value of a variable that the original sidecar has too is a warning, of most others the end.",
        ],
        exit_codes: MEANINGS,
        examples_title: "Example",
        examples: &[
            "ASYA_ACTOR_NAME=worker ASYA_RABBITMQ_URL=amqp://guest:guest@localhost/ \\",
            "ASYA_SOCKET_DIR=/tmp/worker ASYA_QUEUE_AUTO_CREATE=true asya-sidecar",
        ],
    };
    help::text(&TABLE, &below)
}

/// The generated parts of `docs/sidecar.md`, each between the markers that stand there.
pub(crate) fn markdown() -> String {
    help::markdown([
        ("variables", help::variables(&TABLE)),
        ("metrics", metrics()),
        ("exit-codes", help::exit_codes(MEANINGS)),
    ])
}

fn metrics() -> Vec<String> {
    let mut lines = Vec::new();
    for (title, is_contract) in [("As the original has them", true), ("Added", false)] {
        let columns = "| Name | Type | Labels | Meaning |\n|---|---|---|---|";
        lines.extend(heading(title, columns));
        for metric in METRICS.iter().filter(|metric| metric.is_contract == is_contract) {
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let buckets = match metric.kind {
                MetricKind::Histogram(buckets) => format!(". Buckets: {}", listed(buckets)),
                MetricKind::Counter | MetricKind::Gauge => String::new(),
            };
            lines.push(format!(
                "| `{}` | {} | {} | {}{buckets} |",
                metric.name,
                metric.kind.as_str(),
                labels.join(", "),
                escaped(metric.help)
            ));
        }
    }
    lines
}

fn listed(buckets: &[f64]) -> String {
    let texts: Vec<_> = buckets.iter().map(ToString::to_string).collect();
    texts.join(" ")
}
