//! What the core counts. Names are those of `docs/gateway.md`; everything starts with `asya_gateway_`.

use asya_gateway_store::{Applied, Created, OutboxDepth, Outcome, StoreError};
use chrono::{DateTime, Utc};
use metrics::{counter, gauge};

/// Who brought a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportSource {
    /// A sidecar or crew over HTTP.
    Http,
    /// A sidecar's stream.
    Grpc,
    /// The gateway itself: deadlines, cancellations.
    Gateway,
}

impl ReportSource {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Gateway => "gateway",
        }
    }
}

pub(super) fn submit(tool: &str, result: &'static str) {
    counter!("asya_gateway_submits_total", "tool" => tool.to_owned(), "result" => result).increment(1);
}

pub(super) fn publish(result: &'static str) {
    counter!("asya_gateway_publishes_total", "result" => result).increment(1);
}

fn report(source: ReportSource, result: &'static str, by: u64) {
    if by > 0 {
        counter!("asya_gateway_reports_total", "source" => source.as_str(), "result" => result).increment(by);
    }
}

/// What came of the registration of a child, which is a report, too.
pub(super) fn child(source: ReportSource, outcome: &Result<Created, StoreError>) {
    let result = match outcome {
        Ok(Created::New(_)) => "changed",
        Ok(Created::Existing(_)) => "nothing",
        Ok(Created::Conflict(_)) => "conflict",
        Err(_) => "error",
    };
    report(source, result, 1);
}

/// What came of reports; `asked` is how many there were.
pub(super) fn reports(source: ReportSource, outcome: &Result<Vec<Applied>, StoreError>, asked: u64) {
    let count = |result, by| report(source, result, by);
    let Ok(applied) = outcome else {
        return count("error", asked);
    };
    let (mut changed, mut nothing, mut unknown) = (0, 0, 0);
    for one in applied {
        match one {
            Applied::Changed { .. } => changed += 1,
            Applied::Nothing { .. } => nothing += 1,
            Applied::Unknown => unknown += 1,
        }
    }
    count("changed", changed);
    count("nothing", nothing);
    count("unknown", unknown);
}

pub(super) fn finished(outcome: Outcome) {
    counter!("asya_gateway_envelopes_finished_total", "outcome" => outcome.as_str()).increment(1);
}

pub(super) fn tool_reload(result: &'static str) {
    counter!("asya_gateway_tool_reloads_total", "result" => result).increment(1);
}

pub(super) fn outbox(depth: OutboxDepth, now: DateTime<Utc>) {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float; 2^53 messages are none"
    )]
    gauge!("asya_gateway_outbox_waiting").set(depth.waiting as f64);
    let age = depth
        .oldest
        .map_or(0.0, |oldest| (now - oldest).as_seconds_f64().max(0.0));
    gauge!("asya_gateway_outbox_oldest_seconds").set(age);
}

pub(super) fn leads(leads: bool) {
    gauge!("asya_gateway_leads").set(if leads { 1.0 } else { 0.0 });
}

/// One watcher, counted as long as it lives.
#[derive(Debug)]
pub(super) struct Watching(&'static str);

impl Watching {
    pub(super) fn new(kind: &'static str) -> Self {
        gauge!("asya_gateway_watchers", "kind" => kind).increment(1.0);
        Self(kind)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        gauge!("asya_gateway_watchers", "kind" => self.0).decrement(1.0);
    }
}
