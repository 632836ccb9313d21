//! The conditions that a status shows (contract operator §11.1).

use jiff::Timestamp;

use super::time;
use super::{Condition, State, Verdict};

/// The types of conditions that this program writes.
pub mod kinds {
    /// Transport, queue and broker.
    pub const TRANSPORT: &str = "TransportReady";
    /// Manifest, workload and pods.
    pub const WORKLOAD: &str = "WorkloadReady";
    /// The autoscaler; only while scaling is on.
    pub const SCALING: &str = "ScalingReady";
    /// The older name of [`SCALING`].
    pub const SCALER: &str = "ScalerReady";
    /// Everything together.
    pub const READY: &str = "Ready";
}

/// What the conditions follow from.
pub(super) struct Verdicts<'a> {
    pub(super) transport: &'a Verdict,
    /// Pods included.
    pub(super) workload: &'a Verdict,
    pub(super) scaling: Option<&'a Verdict>,
    pub(super) state: State,
    /// Whether a pod is ready, or none is needed.
    pub(super) is_served: bool,
    pub(super) message: &'a str,
}

impl Verdicts<'_> {
    /// `true conditions / expected conditions`.
    pub(super) fn summary(&self) -> String {
        let verdicts = [Some(self.transport), Some(self.workload), self.scaling];
        let expected = verdicts.iter().flatten().count();
        let holding = verdicts.iter().flatten().filter(|verdict| verdict.holds).count();
        format!("{holding}/{expected}")
    }

    /// All conditions: ours in a fixed order, then those of others.
    pub(super) fn show(&self, previous: &[Condition], generation: i64, now: Timestamp) -> Vec<Condition> {
        let all_hold =
            self.transport.holds && self.workload.holds && self.scaling.is_none_or(|scaling| scaling.holds);
        let ready = Verdict {
            holds: all_hold && self.is_served && self.state.is_ready(),
            reason: self.state.as_str(),
            message: self.message.to_owned(),
        };
        let ours = [
            (kinds::TRANSPORT, Some(self.transport)),
            (kinds::WORKLOAD, Some(self.workload)),
            (kinds::SCALING, self.scaling),
            (kinds::SCALER, self.scaling),
            (kinds::READY, Some(&ready)),
        ];
        let shown = ours
            .iter()
            .filter_map(|(kind, verdict)| Some(show(previous, kind, (*verdict)?, generation, now)));
        let is_foreign = |condition: &&Condition| ours.iter().all(|(kind, _)| condition.kind != *kind);
        shown.chain(previous.iter().filter(is_foreign).cloned()).collect()
    }
}

/// One condition: everything is fresh but the time, which is that of the last flip.
fn show(previous: &[Condition], kind: &str, verdict: &Verdict, generation: i64, now: Timestamp) -> Condition {
    let status = if verdict.holds { "True" } else { "False" };
    let since = previous
        .iter()
        .find(|condition| condition.kind == kind && condition.status == status)
        .map(|condition| condition.last_transition_time.clone())
        .filter(|since| time::parse(since).is_some());
    Condition {
        kind: kind.into(),
        status: status.into(),
        reason: verdict.reason.into(),
        message: verdict.message.clone(),
        last_transition_time: since.unwrap_or_else(|| time::text(now)),
        observed_generation: Some(generation),
    }
}
