//! How long operations take, and how many fail.

use std::time::Instant;

use crate::store::Result;

/// Records one operation under the name of its method.
pub(super) async fn measured<T>(operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let begun = Instant::now();
    let outcome = work.await;
    metrics::histogram!("asya_gateway_store_duration_seconds", "operation" => operation)
        .record(begun.elapsed().as_secs_f64());
    if outcome.is_err() {
        metrics::counter!("asya_gateway_store_errors_total", "operation" => operation).increment(1);
    }
    outcome
}
