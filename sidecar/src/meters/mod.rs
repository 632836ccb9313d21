//! What is counted on the way of a message.
//!
//! What it is: handles of the `metrics` facade, made once, so that counting costs no text and no lookup by labels.
//! Without an installed recorder they do nothing. What it is not: it exposes nothing; that is the program's business.

mod destinations;
mod table;

use std::time::Duration;

use asya_runtime_protocol::v2::Gone;
use asya_transport::{Delivery, QueueName};
use metrics::{Counter, Gauge, Histogram, Label};

use crate::ledger::{CallOutcome, Stage};
use crate::plan::{Kind, Reason, Verdict};
use crate::publishing::Outcome;
use crate::sidecar::Snapshot;
use destinations::{Destinations, MessageType};

pub use table::{METRICS, Metric, MetricKind};

/// What the names of metrics begin with unless somebody says otherwise.
pub const NAMESPACE: &str = "asya_actor";

/// The metrics of one sidecar.
#[derive(Debug)]
pub struct Meters {
    received: Counter,
    redelivered: Counter,
    receiving: Histogram,
    received_bytes: Histogram,
    success: Counter,
    empty_response: Counter,
    end_consumed: Counter,
    failed: Failed,
    runtime_errors: RuntimeErrors,
    retried: Counter,
    returned: Counter,
    cancelled: Counter,
    dead_lettered: Counter,
    processing: Histogram,
    execution: Histogram,
    destinations: Destinations,
    gauges: Gauges,
    maker: Maker,
}

#[derive(Debug)]
struct Failed {
    parse: Counter,
    validation: Counter,
    route_mismatch: Counter,
    runtime: Counter,
    routing: Counter,
    error_queue: Counter,
    condemned: Counter,
    expired: Counter,
}

#[derive(Debug)]
struct RuntimeErrors {
    execution: Counter,
    timeout: Counter,
    connection: Counter,
    handler: Counter,
}

#[derive(Debug)]
struct Gauges {
    active: Gauge,
    stages: Vec<(Stage, Gauge)>,
    bytes: Gauge,
    credit: Gauge,
    runtime_ready: Gauge,
    workers: Gauge,
    workers_ready: Gauge,
    calls: Gauge,
    queue_found: Gauge,
}

/// Registers metrics under a namespace.
#[derive(Debug, Clone)]
struct Maker {
    namespace: String,
}

impl Maker {
    fn name(&self, name: &str) -> String {
        debug_assert!(
            METRICS.iter().any(|metric| metric.name == name),
            "{name} is in the table"
        );
        format!("{}_{name}", self.namespace)
    }

    fn counter(&self, name: &str, labels: &[(&'static str, &str)]) -> Counter {
        metrics::counter!(self.name(name), owned(labels))
    }

    fn gauge(&self, name: &str, labels: &[(&'static str, &str)]) -> Gauge {
        metrics::gauge!(self.name(name), owned(labels))
    }

    fn histogram(&self, name: &str, labels: &[(&'static str, &str)]) -> Histogram {
        metrics::histogram!(self.name(name), owned(labels))
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<Label> {
    labels
        .iter()
        .map(|(key, value)| Label::new(*key, (*value).to_owned()))
        .collect()
}

impl Meters {
    /// Registers the metrics of `actor` on a transport of that name, with what is installed as recorder now.
    #[must_use]
    pub fn new(namespace: &str, actor: &str, transport: &str) -> Self {
        let maker = Maker {
            namespace: namespace.to_owned(),
        };
        let queue = ("queue", actor);
        let both = [queue, ("transport", transport)];
        let counter = |name| maker.counter(name, &[queue]);
        let processed = |status| maker.counter("messages_processed_total", &[queue, ("status", status)]);
        Self {
            received: maker.counter("messages_received_total", &both),
            redelivered: counter("messages_redelivered_total"),
            receiving: maker.histogram("queue_receive_duration_seconds", &both),
            received_bytes: maker.histogram("envelope_size_bytes", &[("direction", "received")]),
            success: processed("success"),
            empty_response: processed("empty_response"),
            end_consumed: processed("end_consumed"),
            failed: Failed::new(&maker, queue),
            runtime_errors: RuntimeErrors::new(&maker, queue),
            retried: counter("messages_retried_total"),
            returned: counter("messages_returned_total"),
            cancelled: counter("messages_cancelled_total"),
            dead_lettered: counter("messages_dead_lettered_total"),
            processing: maker.histogram("processing_duration_seconds", &[queue]),
            execution: maker.histogram("runtime_execution_duration_seconds", &[queue]),
            destinations: Destinations::new(maker.clone(), transport),
            gauges: Gauges::new(&maker),
            maker,
        }
    }

    /// A pull has brought these messages.
    pub(crate) fn received(&self, took: Duration, messages: &[Delivery]) {
        self.receiving.record(took);
        for message in messages {
            self.received.increment(1);
            self.received_bytes.record(size(message.body.len()));
            if message.deliveries > 1 {
                self.redelivered.increment(1);
            }
        }
    }

    /// A call of the runtime has ended after `took`.
    pub(crate) fn called(&self, took: Duration, outcome: &CallOutcome) {
        self.execution.record(took);
        let errors = &self.runtime_errors;
        match outcome {
            CallOutcome::Reply(_) | CallOutcome::Cancelled | CallOutcome::Revoked => {}
            CallOutcome::Timeout | CallOutcome::SlotStuck | CallOutcome::Expired => {
                errors.timeout.increment(1);
            }
            CallOutcome::Unread(_) => errors.connection.increment(1),
            CallOutcome::Broken(_)
            | CallOutcome::Died(_)
            | CallOutcome::Unusable(_)
            | CallOutcome::SlotCrashed => {
                errors.execution.increment(1);
            }
        }
    }

    /// A worker of the runtime has ended.
    pub(crate) fn worker_gone(&self, gone: &Gone) {
        let cause = match gone {
            Gone { oom: true, .. } => "oom",
            Gone { killed: true, .. } => "killed",
            Gone { signal: Some(_), .. } => "signal",
            _ => "exit",
        };
        self.maker
            .counter("runtime_workers_ended_total", &[("cause", cause)])
            .increment(1);
    }

    /// The runtime could not be reached, or did not read the request.
    pub(crate) fn not_reached(&self) {
        self.runtime_errors.connection.increment(1);
    }

    /// The runtime answered that the handler failed.
    pub(crate) fn handler_failed(&self) {
        self.runtime_errors.handler.increment(1);
    }

    /// A message was published and confirmed.
    pub(crate) fn sent(&self, sent: &Sent<'_>) {
        let message_type = match sent.kind {
            Kind::Routing => MessageType::Routing,
            Kind::HappyEnd => MessageType::HappyEnd,
            Kind::ErrorEnd => MessageType::ErrorEnd,
            Kind::DeadLetter => {
                self.dead_lettered.increment(1);
                return;
            }
            Kind::Retry => return,
        };
        // The original names the end actors without prefix where it sends there by itself (contract §11).
        let is_bare = sent.kind == Kind::ErrorEnd || sent.is_cut_short;
        let queue = if is_bare {
            sent.queue.actor()
        } else {
            sent.queue.as_str()
        };
        self.destinations
            .sent(message_type, queue, size(sent.bytes), sent.took);
    }

    /// An error envelope could not be sent at the first try.
    pub(crate) fn error_queue_failed(&self) {
        self.failed.error_queue.increment(1);
    }

    /// Everything that a message led to is confirmed, `took` after its call of the runtime began.
    pub(crate) fn done(&self, outcome: Outcome<'_>, took: Duration) {
        self.processing.record(took);
        match outcome {
            Outcome::Diverted => self.failed.routing.increment(1),
            Outcome::Unreported => self.returned.increment(1),
            Outcome::Cancelled => self.cancelled.increment(1),
            Outcome::Planned(verdict) => match verdict {
                Verdict::Success { outputs: 0 } => self.empty_response.increment(1),
                Verdict::Success { .. } => self.success.increment(1),
                Verdict::Consumed => self.end_consumed.increment(1),
                Verdict::Failed { reason, .. } => self.failed.count(*reason),
                Verdict::Retried { .. } => self.retried.increment(1),
                Verdict::Returned => self.returned.increment(1),
                Verdict::Cancelled { .. } => self.cancelled.increment(1),
            },
        }
    }

    /// A part of the tree is started again.
    pub(crate) fn restarted(&self, part: &str) {
        // Slots are numbered; one label for all of them is enough.
        let part = part.split(' ').next().unwrap_or(part);
        self.maker
            .counter("tree_restarts_total", &[("part", part)])
            .increment(1);
    }

    /// A counter of the table that is somebody else's to count, for example the broker's or the gateway's.
    pub fn counter(&self, name: &str, labels: &[(&'static str, &str)]) -> Counter {
        self.maker.counter(name, labels)
    }

    /// A gauge of the table that is somebody else's to set.
    pub fn gauge(&self, name: &str) -> Gauge {
        self.maker.gauge(name, &[])
    }

    /// Sets what is measured rather than counted. Call it before the metrics are read.
    pub fn observe(&self, snapshot: &Snapshot) {
        let gauges = &self.gauges;
        let count = |stage: &Stage| snapshot.stages.get(stage).copied().unwrap_or_default();
        let mut active = 0;
        for (stage, gauge) in &gauges.stages {
            gauge.set(size(count(stage)));
            if !matches!(stage, Stage::Arrived | Stage::Ready) {
                active += count(stage);
            }
        }
        gauges.active.set(size(active));
        gauges.bytes.set(size(snapshot.bytes_held));
        gauges.credit.set(size(snapshot.credit));
        gauges.runtime_ready.set(f64::from(snapshot.runtime_ready));
        gauges.workers.set(size(snapshot.workers));
        gauges.workers_ready.set(size(snapshot.workers_ready));
        gauges.calls.set(size(snapshot.calls));
        gauges
            .queue_found
            .set(f64::from(snapshot.queue == crate::QueueState::Found));
    }
}

/// A message that was published and confirmed.
pub(crate) struct Sent<'a> {
    pub(crate) kind: Kind,
    pub(crate) queue: &'a QueueName,
    /// The runtime answered with nothing, which ends the route early.
    pub(crate) is_cut_short: bool,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
}

impl Failed {
    fn new(maker: &Maker, queue: (&'static str, &str)) -> Self {
        let because = |reason| maker.counter("messages_failed_total", &[queue, ("reason", reason)]);
        Self {
            parse: because("parse_error"),
            validation: because("validation_error"),
            route_mismatch: because("route_mismatch"),
            runtime: because("runtime_error"),
            routing: because("routing_error"),
            error_queue: because("error_queue_send_failed"),
            condemned: maker.counter("messages_condemned_total", &[queue]),
            expired: maker.counter("messages_expired_total", &[queue]),
        }
    }

    /// The label values are the original's; what it does not know counts as the nearest, and on its own.
    fn count(&self, reason: Reason) {
        match reason {
            Reason::Parse => self.parse.increment(1),
            Reason::Validation => self.validation.increment(1),
            Reason::RouteMismatch => self.route_mismatch.increment(1),
            Reason::Runtime => self.runtime.increment(1),
            Reason::Deadline => {
                self.validation.increment(1);
                self.expired.increment(1);
            }
            Reason::Poison => {
                self.runtime.increment(1);
                self.condemned.increment(1);
            }
        }
    }
}

impl RuntimeErrors {
    fn new(maker: &Maker, queue: (&'static str, &str)) -> Self {
        let of = |error_type| maker.counter("runtime_errors_total", &[queue, ("error_type", error_type)]);
        Self {
            execution: of("execution_error"),
            timeout: of("timeout"),
            connection: of("connection"),
            handler: of("handler"),
        }
    }
}

impl Gauges {
    fn new(maker: &Maker) -> Self {
        let stage = |stage: Stage| {
            let gauge = maker.gauge("deliveries_in_hand", &[("stage", stage.as_str())]);
            (stage, gauge)
        };
        Self {
            active: maker.gauge("active_messages", &[]),
            stages: Stage::ALL.map(stage).into(),
            bytes: maker.gauge("deliveries_in_hand_bytes", &[]),
            credit: maker.gauge("credit", &[]),
            runtime_ready: maker.gauge("runtime_ready", &[]),
            workers: maker.gauge("runtime_workers", &[]),
            workers_ready: maker.gauge("runtime_workers_ready", &[]),
            calls: maker.gauge("runtime_calls_in_flight", &[]),
            queue_found: maker.gauge("queue_found", &[]),
        }
    }
}

/// As metrics carry numbers; above 2^53 some precision is lost, and nothing here is so large.
#[expect(clippy::cast_precision_loss, reason = "said above")]
const fn size(count: usize) -> f64 {
    count as f64
}
