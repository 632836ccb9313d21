//! What a sidecar costs per delivery beyond the queue and the socket: its actors, ledger, parsing and routing.
//!
//! Taken from the rounds of [`hop`](super::hop): sidecar minus bare loop with socket, once with a single message in
//! flight (what a delivery waits longer) and once saturated (what it takes from the throughput). Processor time is
//! that of the whole process, so the difference is what the sidecar adds.

use anyhow::Result;

use super::hop::{Comparisons, Shape, middle};
use crate::figures::{Row, median};
use crate::meter::Sample;

/// The name of this section.
pub const SECTION: &str = "overhead";

/// The rows of this section.
pub async fn measure(hops: &mut Comparisons<'_>) -> Result<Vec<Row>> {
    let best = hops.best_slots(256).await?;
    let mut rows = Vec::new();
    for (credit, slots) in [(1, 1), (32, 1), (256, best)] {
        let shape = Shape { credit, slots };
        let compared = hops.get(shape).await?;
        let added = |of: fn(&Sample) -> f64| {
            let rounds = compared.sidecar.iter().zip(&compared.socket);
            median(rounds.map(|(sidecar, socket)| of(sidecar) - of(socket)))
        };
        let mut row =
            |name: &str, value: f64| rows.push(Row::alone(SECTION, format!("{shape}: {name}"), value, "us"));
        row("time per delivery", middle(&compared.sidecar, Sample::period));
        row("  of it added by the tree", added(Sample::period));
        row(
            "processor time per delivery",
            middle(&compared.sidecar, |sample| sample.processor),
        );
        row("  of it added by the tree", added(|sample| sample.processor));
    }
    Ok(rows)
}
