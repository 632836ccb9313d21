//! The recorder behind `/metrics`, and what is read from the broker and the gateway for it.

use asya_sidecar::gateway::GatewayFigures;
use asya_sidecar::{METRICS, Meters, MetricKind};
use asya_transport::rabbitmq::{BrokerState, Counters};
use metrics::{Counter, Gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::settings::{CustomKind, CustomMetric, Settings};

/// Makes the recorder with the buckets of all histograms, and describes all metrics. It becomes the recorder of this
/// process if anybody can ask for it; else nothing is counted.
pub(crate) fn install(settings: &Settings) -> anyhow::Result<PrometheusHandle> {
    let full = |name: &str| format!("{}_{name}", settings.namespace);
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let MetricKind::Histogram(buckets) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(full(metric.name)), buckets)?;
        }
    }
    for metric in &settings.custom_metrics {
        if let CustomKind::Histogram { buckets } = &metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(full(&metric.name)), buckets)?;
        }
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    if settings.listen.is_none() {
        return Ok(handle);
    }
    metrics::set_global_recorder(recorder)
        .map_err(|_| anyhow::anyhow!("another recorder of metrics was installed before"))?;
    for metric in METRICS {
        let (name, help) = (full(metric.name), metric.help);
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(name, help),
            MetricKind::Gauge => metrics::describe_gauge!(name, help),
            MetricKind::Histogram(_) => metrics::describe_histogram!(name, help),
        }
    }
    settings
        .custom_metrics
        .iter()
        .for_each(|metric| describe(metric, full(&metric.name)));
    Ok(handle)
}

/// Nothing sets these yet, so they do not appear; what will find its help here.
fn describe(metric: &CustomMetric, name: String) {
    let help = metric.help.clone();
    match metric.kind {
        CustomKind::Counter => metrics::describe_counter!(name, help),
        CustomKind::Gauge => metrics::describe_gauge!(name, help),
        CustomKind::Histogram { .. } => metrics::describe_histogram!(name, help),
    }
}

/// Metrics of the broker's connections and of the gateway's reporter, which count for themselves.
pub(crate) struct Neighbours {
    connected: Gauge,
    blocked: Gauge,
    reconnects: Counter,
    confirms: Counter,
    returns: Counter,
    rejects: Counter,
    gateway: Option<Gateway>,
}

/// One figure among many.
type Figure = fn(&GatewayFigures) -> u64;

struct Gateway {
    reports: Vec<(Counter, Figure)>,
    waiting: Gauge,
    unacknowledged: Gauge,
    available: Gauge,
    grpc: Gauge,
    cancelled: Gauge,
}

impl Neighbours {
    pub(crate) fn new(meters: &Meters, has_gateway: bool) -> Self {
        Self {
            connected: meters.gauge("broker_connected"),
            blocked: meters.gauge("broker_blocked"),
            reconnects: meters.counter("broker_reconnects_total", &[]),
            confirms: meters.counter("publish_confirms_total", &[]),
            returns: meters.counter("publish_returns_total", &[]),
            rejects: meters.counter("publish_rejects_total", &[]),
            gateway: has_gateway.then(|| Gateway::new(meters)),
        }
    }

    pub(crate) fn observe_broker(&self, state: Option<&BrokerState>, counters: Counters) {
        let is = |yes: bool| f64::from(yes);
        self.connected.set(is(matches!(
            state,
            Some(BrokerState::Connected | BrokerState::Blocked { .. })
        )));
        self.blocked
            .set(is(matches!(state, Some(BrokerState::Blocked { .. }))));
        self.reconnects.absolute(counters.reconnects);
        self.confirms.absolute(counters.confirmed);
        self.returns.absolute(counters.returned);
        self.rejects.absolute(counters.refused);
    }

    pub(crate) fn observe_gateway(&self, figures: GatewayFigures) {
        if let Some(gateway) = &self.gateway {
            for (counter, read) in &gateway.reports {
                counter.absolute(read(&figures));
            }
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            gateway.waiting.set(count(figures.waiting));
            gateway.unacknowledged.set(count(figures.unacknowledged));
            gateway.available.set(f64::from(!figures.away));
            gateway.grpc.set(f64::from(figures.grpc));
            gateway.cancelled.set(count(figures.cancelled));
        }
    }
}

impl Gateway {
    fn new(meters: &Meters) -> Self {
        let report = |kind, outcome, read: Figure| {
            let labels = [("kind", kind), ("outcome", outcome)];
            (meters.counter("gateway_reports_total", &labels), read)
        };
        Self {
            reports: vec![
                report("progress", "sent", |it| it.progress_sent),
                report("progress", "refused", |it| it.progress_refused),
                report("progress", "failed", |it| it.progress_failed),
                report("progress", "dropped", |it| it.progress_dropped),
                report("child", "sent", |it| it.children_sent),
                report("child", "dropped", |it| it.children_lost),
                report("final", "sent", |it| it.finals_accepted),
                report("final", "refused", |it| it.finals_unknown),
                report("final", "dropped", |it| it.finals_dropped),
                report("final", "returned", |it| it.finals_returned),
            ],
            waiting: meters.gauge("gateway_reports_waiting"),
            unacknowledged: meters.gauge("gateway_reports_unacknowledged"),
            available: meters.gauge("gateway_available"),
            grpc: meters.gauge("gateway_grpc"),
            cancelled: meters.gauge("gateway_cancelled_envelopes"),
        }
    }
}
