//! The recorder of metrics, and the table of what is recorded.

use std::time::Duration;

use asya_program::help::escaped;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;

/// Pause between two times of summing up what histograms have collected.
const UPKEEP: Duration = Duration::from_secs(5);

/// Seconds, for requests and for the database.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// One metric.
struct Metric {
    /// Behind `asya_gateway_`.
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

const METRICS: &[Metric] = &[
    counter(
        "requests_total",
        &["route", "method", "status"],
        "Requests answered, by the pattern of their path",
    ),
    histogram(
        "request_duration_seconds",
        &["route"],
        "From a request's head to the head of its answer",
    ),
    counter("submits_total", &["tool", "result"], "Calls of tools"),
    counter(
        "publishes_total",
        &["result"],
        "Attempts to publish the first message of an envelope",
    ),
    gauge(
        "outbox_waiting",
        &[],
        "Messages that the broker has not confirmed yet",
    ),
    gauge("outbox_oldest_seconds", &[], "How long the oldest of them waits"),
    gauge(
        "watchers",
        &["kind"],
        "Open watches of envelopes, of all envelopes and of actors",
    ),
    counter(
        "reports_total",
        &["source", "result"],
        "Reports about envelopes; result: changed, nothing, unknown, error",
    ),
    counter(
        "envelopes_finished_total",
        &["outcome"],
        "Envelopes that ended: succeeded, failed, timed_out, cancelled",
    ),
    histogram(
        "store_duration_seconds",
        &["operation"],
        "Operations of the database",
    ),
    counter(
        "store_errors_total",
        &["operation"],
        "Operations of the database that failed",
    ),
    gauge("leads", &[], "1 while this replica does the housekeeping"),
    counter(
        "tool_reloads_total",
        &["result"],
        "Changed tool files; result: taken, refused",
    ),
];

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        labels,
        help,
    }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        labels,
        help,
    }
}

impl Metric {
    fn full_name(&self) -> String {
        format!("asya_gateway_{}", self.name)
    }
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Installs the recorder of this process.
pub(super) fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Histogram) {
        builder = builder.set_buckets_for_metric(Matcher::Full(metric.full_name()), SECONDS)?;
    }
    let handle = builder.install_recorder()?;
    for metric in METRICS {
        let (name, help) = (metric.full_name(), metric.help);
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(name, help),
            Kind::Gauge => metrics::describe_gauge!(name, help),
            Kind::Histogram => metrics::describe_histogram!(name, help),
        }
    }
    Ok(handle)
}

/// Sums up now and then, so that histograms that nobody asks for do not grow. Ends with the value.
pub(super) struct Upkeep(JoinHandle<()>);

impl Upkeep {
    pub(super) fn start(recorder: PrometheusHandle) -> Self {
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(UPKEEP).await;
                recorder.run_upkeep();
            }
        }))
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The table of the documentation.
pub(super) fn table() -> Vec<String> {
    let columns = "| Name | Type | Labels | Meaning |\n|---|---|---|---|";
    let mut lines = vec![String::new(), columns.to_owned()];
    lines.extend(METRICS.iter().map(|metric| {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        format!(
            "| `{}` | {} | {} | {} |",
            metric.full_name(),
            metric.kind.as_str(),
            labels.join(", "),
            escaped(metric.help)
        )
    }));
    lines
}
