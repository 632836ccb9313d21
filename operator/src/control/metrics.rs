//! Figures of the controller under the names that dashboards of Go controllers use (contract operator §3.3).
//!
//! Figures about actors and requests are not made here but by [`crate::program`].

use std::time::Duration;

use metrics::{counter, gauge, histogram};

const NAME: &str = "asyncactor";

/// How a pass ended, as `controller_runtime_reconcile_total` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Result {
    /// Nothing more to do.
    Success,
    /// It failed and is tried again.
    Error,
    /// Done, and another look follows after a while.
    RequeueAfter,
}

/// A pass is over.
pub(super) fn reconciled(result: Result, took: Duration) {
    let word = match result {
        Result::Success => "success",
        Result::Error => "error",
        Result::RequeueAfter => "requeue_after",
    };
    counter!("controller_runtime_reconcile_total", "controller" => NAME, "result" => word).increment(1);
    if result == Result::Error {
        counter!("controller_runtime_reconcile_errors_total", "controller" => NAME).increment(1);
        counter!("workqueue_retries_total", "name" => NAME).increment(1);
    }
    histogram!("controller_runtime_reconcile_time_seconds", "controller" => NAME).record(took);
    histogram!("workqueue_work_duration_seconds", "name" => NAME).record(took);
}

/// What is known at the start.
pub(super) fn started(concurrency: u16) {
    gauge!("controller_runtime_max_concurrent_reconciles", "controller" => NAME).set(f64::from(concurrency));
}

/// One pass more, or less, is under way.
pub(super) fn active(change: f64) {
    gauge!("controller_runtime_active_workers", "controller" => NAME).increment(change);
}

/// A pass ended by a panic, before it could say how it ended.
pub(super) fn panicked() {
    counter!("controller_runtime_reconcile_total", "controller" => NAME, "result" => "error").increment(1);
    counter!("controller_runtime_reconcile_errors_total", "controller" => NAME).increment(1);
    counter!("workqueue_retries_total", "name" => NAME).increment(1);
    active(-1.0);
}

/// An actor was put on the work queue.
pub(super) fn queued() {
    counter!("workqueue_adds_total", "name" => NAME).increment(1);
}

/// The length of the work queue.
pub(super) fn depth(length: usize) {
    gauge!("workqueue_depth", "name" => NAME).set(u32::try_from(length).map_or(f64::MAX, f64::from));
}

/// How long an actor stood on the work queue.
pub(super) fn waited(time: Duration) {
    histogram!("workqueue_queue_duration_seconds", "name" => NAME).record(time);
}

/// A queue that had existed was missing and has been made again.
pub(super) fn queue_recreated() {
    counter!("asya_operator_queue_recreations_total").increment(1);
}
