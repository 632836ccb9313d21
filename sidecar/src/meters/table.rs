//! The metrics by name: the single source for registering, for buckets, and for the page `docs/sidecar.md`.

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Without the namespace.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// Whether the original has it too (contract data-plane §11).
    pub is_contract: bool,
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by these upper bounds.
    Histogram(&'static [f64]),
}

impl MetricKind {
    /// The word of the text format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// Time in the handler: up to half an hour, since the longest call takes five minutes by default and may take more.
const HANDLING: MetricKind = MetricKind::Histogram(&[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0,
]);
const RECEIVING: MetricKind = MetricKind::Histogram(&[
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0,
]);
const SENDING: MetricKind =
    MetricKind::Histogram(&[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0]);
const SIZE: MetricKind = MetricKind::Histogram(&[1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]);

const fn contract(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
        is_contract: true,
    }
}

const fn ours(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        is_contract: false,
        ..contract(name, kind, labels, help)
    }
}

use MetricKind::{Counter, Gauge};

/// Every metric of a sidecar.
pub static METRICS: &[Metric] = &[
    contract(
        "messages_received_total",
        Counter,
        &["queue", "transport"],
        "Messages taken from the queue",
    ),
    contract(
        "messages_processed_total",
        Counter,
        &["queue", "status"],
        "Messages done, all they led to confirmed; status: success, empty_response, end_consumed",
    ),
    contract(
        "messages_sent_total",
        Counter,
        &["destination_queue", "message_type"],
        "Messages sent and confirmed; message_type: routing, happy_end, error_end",
    ),
    contract(
        "messages_failed_total",
        Counter,
        &["queue", "reason"],
        "Messages that failed here; reason: parse_error, validation_error, route_mismatch, runtime_error, \
         routing_error, error_queue_send_failed",
    ),
    contract(
        "runtime_errors_total",
        Counter,
        &["queue", "error_type"],
        "Calls of the runtime without a good answer; error_type: execution_error, timeout, connection, handler",
    ),
    contract(
        "active_messages",
        Gauge,
        &[],
        "Messages between their call of the runtime and their settlement",
    ),
    contract(
        "processing_duration_seconds",
        HANDLING,
        &["queue"],
        "From the call of the runtime until everything is confirmed",
    ),
    contract(
        "runtime_execution_duration_seconds",
        HANDLING,
        &["queue"],
        "One call of the runtime",
    ),
    contract(
        "queue_receive_duration_seconds",
        RECEIVING,
        &["queue", "transport"],
        "One pull from the queue, which may bring several messages, waiting included",
    ),
    contract(
        "queue_send_duration_seconds",
        SENDING,
        &["destination_queue", "transport"],
        "One publish until its confirm",
    ),
    contract(
        "envelope_size_bytes",
        SIZE,
        &["direction"],
        "Bytes of a message; direction: received, sent",
    ),
    ours(
        "messages_redelivered_total",
        Counter,
        &["queue"],
        "Messages received that had been delivered before",
    ),
    ours(
        "messages_retried_total",
        Counter,
        &["queue"],
        "Runs that failed and are repeated later",
    ),
    ours(
        "messages_returned_total",
        Counter,
        &["queue"],
        "Messages of an end actor put back to be tried again",
    ),
    ours(
        "messages_cancelled_total",
        Counter,
        &["queue"],
        "Messages that ended here because the gateway says that nobody wants their envelope",
    ),
    ours(
        "messages_dead_lettered_total",
        Counter,
        &["queue"],
        "Messages sent to the dead-letter queue",
    ),
    ours(
        "messages_condemned_total",
        Counter,
        &["queue"],
        "Messages that failed for crashing what handled them",
    ),
    ours(
        "messages_expired_total",
        Counter,
        &["queue"],
        "Messages whose deadline had passed when they came",
    ),
    ours(
        "deliveries_in_hand",
        Gauge,
        &["stage"],
        "Unsettled deliveries by stage",
    ),
    ours(
        "deliveries_in_hand_bytes",
        Gauge,
        &[],
        "Bytes of all unsettled deliveries",
    ),
    ours("credit", Gauge, &[], "Deliveries that may be unsettled now"),
    ours("runtime_ready", Gauge, &[], "1 while the runtime takes calls"),
    ours(
        "runtime_workers",
        Gauge,
        &[],
        "Workers that the runtime has announced; 0 while it speaks protocol v1",
    ),
    ours(
        "runtime_workers_ready",
        Gauge,
        &[],
        "Workers of the runtime that take requests",
    ),
    ours(
        "runtime_calls_in_flight",
        Gauge,
        &[],
        "Messages that the runtime runs now, without those that were only written ahead",
    ),
    ours(
        "runtime_workers_ended_total",
        Counter,
        &["cause"],
        "Workers of the runtime that ended: oom, killed (by the runtime), signal, exit",
    ),
    ours(
        "queue_found",
        Gauge,
        &[],
        "1 while the actor's own queue is known to be there",
    ),
    ours(
        "tree_restarts_total",
        Counter,
        &["part"],
        "Parts of the sidecar that ended and were started again",
    ),
    ours(
        "broker_connected",
        Gauge,
        &[],
        "1 while both connections to the broker work",
    ),
    ours(
        "broker_blocked",
        Gauge,
        &[],
        "1 while the broker takes no messages for want of memory or disk",
    ),
    ours(
        "broker_reconnects_total",
        Counter,
        &[],
        "Connections lost and established again",
    ),
    ours(
        "publish_confirms_total",
        Counter,
        &[],
        "Messages that the broker confirmed",
    ),
    ours(
        "publish_returns_total",
        Counter,
        &[],
        "Messages that came back because no queue took them",
    ),
    ours(
        "publish_rejects_total",
        Counter,
        &[],
        "Messages that the broker refused",
    ),
    ours(
        "gateway_reports_total",
        Counter,
        &["kind", "outcome"],
        "Reports to the gateway; kind: progress, child, final; outcome: sent, refused, failed, dropped, returned",
    ),
    ours(
        "gateway_reports_waiting",
        Gauge,
        &[],
        "Reports that wait to be sent",
    ),
    ours(
        "gateway_reports_unacknowledged",
        Gauge,
        &[],
        "Reports on the gRPC stream that the gateway has not acknowledged",
    ),
    ours(
        "gateway_available",
        Gauge,
        &[],
        "0 while the gateway is taken for away",
    ),
    ours(
        "gateway_grpc",
        Gauge,
        &[],
        "1 while reports go over gRPC, 0 while they go over HTTP",
    ),
    ours(
        "gateway_cancelled_envelopes",
        Gauge,
        &[],
        "Envelopes that the gateway has cancelled, as far as they are remembered",
    ),
];
