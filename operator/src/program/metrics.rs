//! The recorder of metrics, and the table of what is recorded (contract operator §3.3).
//!
//! Names of the original's framework are kept, so that its dashboards work. They are recorded where things happen; the
//! table here gives them their help, buckets and first values.

use std::time::Duration;

use asya_program::help::escaped;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::task::JoinHandle;

pub(super) const REST_CLIENT_REQUESTS: &str = "rest_client_requests_total";
pub(super) const MASTER_STATUS: &str = "leader_election_master_status";
pub(super) const ACTOR_STATUS: &str = "asya_operator_actor_status";
pub(super) const QUEUE_MESSAGES: &str = "asya_operator_queue_messages";

/// Pause between two times of summing up what histograms have collected.
const UPKEEP: Duration = Duration::from_secs(5);

/// Seconds of a reconcile, as controller-runtime has them.
const RECONCILE_SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25,
    1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0,
    50.0, 60.0,
];
/// Seconds in and out of the work queue, as controller-runtime has them.
const QUEUE_SECONDS: &[f64] = &[
    1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0,
];

const CONTROLLER: &[(&str, &str)] = &[("controller", "asyncactor")];
const NAME: &[(&str, &str)] = &[("name", "asyncactor")];
const RESULTS: [&str; 4] = ["success", "error", "requeue", "requeue_after"];

/// One metric.
struct Metric {
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    /// Labels under which it is there from the start.
    first: Option<&'static [(&'static str, &'static str)]>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Histogram(&'static [f64]),
}

use Kind::{Counter, Gauge, Histogram};

const METRICS: &[Metric] = &[
    metric(
        "controller_runtime_reconcile_total",
        Counter,
        &["controller", "result"],
        "Passes over an actor; result: success, error, requeue, requeue_after",
    ),
    metric(
        "controller_runtime_reconcile_errors_total",
        Counter,
        &["controller"],
        "Passes that failed",
    )
    .with_first(CONTROLLER),
    metric(
        "controller_runtime_reconcile_time_seconds",
        Histogram(RECONCILE_SECONDS),
        &["controller"],
        "Time of one pass",
    )
    .with_first(CONTROLLER),
    metric(
        "controller_runtime_max_concurrent_reconciles",
        Gauge,
        &["controller"],
        "Most actors that are worked on at a time",
    )
    .with_first(CONTROLLER),
    metric(
        "controller_runtime_active_workers",
        Gauge,
        &["controller"],
        "Actors that are worked on",
    )
    .with_first(CONTROLLER),
    metric("workqueue_depth", Gauge, &["name"], "Actors that wait for a pass").with_first(NAME),
    metric(
        "workqueue_adds_total",
        Counter,
        &["name"],
        "Actors put into the queue",
    )
    .with_first(NAME),
    metric(
        "workqueue_queue_duration_seconds",
        Histogram(QUEUE_SECONDS),
        &["name"],
        "How long an actor waits before its pass",
    )
    .with_first(NAME),
    metric(
        "workqueue_work_duration_seconds",
        Histogram(QUEUE_SECONDS),
        &["name"],
        "Time of one pass",
    )
    .with_first(NAME),
    metric(
        "workqueue_retries_total",
        Counter,
        &["name"],
        "Actors put back after a failed pass",
    )
    .with_first(NAME),
    metric(
        REST_CLIENT_REQUESTS,
        Counter,
        &["code", "method", "host"],
        "Requests to the API server; code `<error>` without an answer",
    ),
    metric(
        MASTER_STATUS,
        Gauge,
        &["name"],
        "1 while this replica holds the lease; absent without --leader-elect",
    ),
    metric(
        ACTOR_STATUS,
        Gauge,
        &["namespace", "actor", "status"],
        "1 for the status that an actor has",
    ),
    metric(
        QUEUE_MESSAGES,
        Gauge,
        &["namespace", "actor", "state"],
        "Messages of an actor's queue; state: queued, processing",
    ),
    metric(
        "asya_operator_queue_recreations_total",
        Counter,
        &[],
        "Queues that were missing and have been made again",
    )
    .with_first(&[]),
    metric(
        "asya_operator_broker_errors_total",
        Counter,
        &["transport", "reason"],
        "Calls to a broker that failed",
    ),
    metric(
        "asya_operator_gateway_connected",
        Gauge,
        &[],
        "1 while a stream to the gateway is open and answered",
    ),
    metric(
        "asya_operator_gateway_breaks_total",
        Counter,
        &[],
        "Streams to the gateway that ended or could not be opened",
    ),
    metric(
        "asya_operator_gateway_reports_total",
        Counter,
        &[],
        "Messages that the gateway has acknowledged",
    ),
    metric(
        "asya_operator_gateway_report_lag_seconds",
        Histogram(RECONCILE_SECONDS),
        &[],
        "From a change of an actor to its acknowledgement by the gateway",
    ),
];

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
        first: None,
    }
}

impl Metric {
    const fn with_first(mut self, labels: &'static [(&'static str, &'static str)]) -> Self {
        self.first = Some(labels);
        self
    }

    fn register(&self) {
        let (name, help) = (self.name, self.help);
        match self.kind {
            Counter => metrics::describe_counter!(name, help),
            Gauge => metrics::describe_gauge!(name, help),
            Histogram(_) => metrics::describe_histogram!(name, help),
        }
        let Some(first) = self.first else { return };
        match self.kind {
            Counter => metrics::counter!(name, first).increment(0),
            Gauge => metrics::gauge!(name, first).increment(0.0),
            Histogram(_) => drop(metrics::histogram!(name, first)),
        }
    }
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Counter => "counter",
            Gauge => "gauge",
            Histogram(_) => "histogram",
        }
    }
}

/// Installs the recorder of this process.
pub(super) fn install() -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Histogram(buckets) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
    }
    let handle = builder.install_recorder()?;
    METRICS.iter().for_each(Metric::register);
    for result in RESULTS {
        let labels = [("controller", "asyncactor"), ("result", result)];
        metrics::counter!("controller_runtime_reconcile_total", &labels).increment(0);
    }
    Ok(handle)
}

/// Help of a metric that is written elsewhere than in the recorder.
pub(super) fn help(name: &str) -> &'static str {
    METRICS
        .iter()
        .find(|metric| metric.name == name)
        .map_or("", |metric| metric.help)
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
        let (labels, help) = (labels.join(", "), escaped(metric.help));
        format!(
            "| `{}` | {} | {labels} | {help} |",
            metric.name,
            metric.kind.as_str()
        )
    }));
    lines
}
