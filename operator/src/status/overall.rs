//! The overall value: one word for everything (contract operator §11.4).
//!
//! The rows of the contract's table, top to bottom, with what the table leaves open:
//! - A manifest that breaks a rule is `WorkloadError` before anything else about the actor, since nothing else is tried.
//! - `Creating` says that it is too early to call the absence of a ready pod an error. What has failed for certain
//!   (a pod that cannot pull its image, a queue that cannot be made) is told at once, not after the startup window.
//! - A Job that has done its work naps: the table speaks of workloads that never end.
//! - `Updating` is not shown for the instant between a change of `spec.replicas` and its controller's look at it.
//! - `Degraded` needs pods that have been unready for as long as the number of ready pods has not changed, so that ten
//!   new pods of an actor that has been at three for days are `ScalingUp`; an actor that never had a ready pod is
//!   degraded when its startup window is over; and a rollout without progress within its deadline is degraded, too.

use jiff::Timestamp;

use super::census::Census;
use super::health::{Ailment, Complaint};
use super::scale::Scale;
use super::time::{DEGRADED, STARTUP, after};
use super::{State, Verdict, WorkloadCounts};

/// The reason of `WorkloadReady` for a manifest that breaks a rule.
pub(super) const VALIDATION_ERROR: &str = "ValidationError";

/// Numbers of pods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Replicas {
    pub(super) ready: u32,
    pub(super) total: u32,
    pub(super) desired: u32,
    pub(super) updated: u32,
    /// Whether the numbers are about what the workload was told last.
    pub(super) is_observed: bool,
}

impl Replicas {
    /// Whether pods of an older template are there, or will be replaced as soon as their controller looks.
    pub(super) fn is_updating(&self) -> bool {
        self.updated < self.total || (!self.is_observed && self.total == self.desired && self.total > 0)
    }
}

/// What the word follows from.
pub(super) struct Facts<'a> {
    pub(super) is_deleting: bool,
    pub(super) is_scaled: bool,
    pub(super) transport: &'a Verdict,
    pub(super) workload: &'a Verdict,
    pub(super) scaling: Option<&'a Verdict>,
    /// What ails the pods so much that the actor does not work.
    pub(super) complaint: Option<&'a Complaint>,
    pub(super) replicas: Replicas,
    /// What the workload says of itself; `None` if there is none.
    pub(super) counts: Option<&'a WorkloadCounts>,
    pub(super) census: &'a Census,
    pub(super) scale: &'a Scale,
    pub(super) now: Timestamp,
}

impl Facts<'_> {
    /// The word, and why.
    pub(super) fn judge(&self) -> (State, String) {
        if self.is_deleting {
            return (State::Terminating, "the actor is being deleted".to_owned());
        }
        self.error().unwrap_or_else(|| self.progress())
    }

    /// What has failed for certain.
    fn error(&self) -> Option<(State, String)> {
        let is_invalid = !self.workload.holds && self.workload.reason == VALIDATION_ERROR;
        if is_invalid {
            return Some((State::WorkloadError, self.workload.message.clone()));
        }
        if !self.transport.holds {
            return Some((State::TransportError, self.transport.message.clone()));
        }
        if let Some(complaint) = self.complaint {
            return Some((complaint.ailment.state(), complaint.text.clone()));
        }
        if !self.workload.holds {
            return Some((State::WorkloadError, self.workload.message.clone()));
        }
        if let Some(scaling) = self.scaling.filter(|scaling| !scaling.holds) {
            return Some((State::ScalingError, scaling.message.clone()));
        }
        None
    }

    /// How far the pods are.
    fn progress(&self) -> (State, String) {
        let Replicas {
            ready,
            total,
            desired,
            ..
        } = self.replicas;
        if self.is_starting() {
            return (State::Creating, "no pod is ready yet".to_owned());
        }
        if self.counts.is_some_and(|counts| counts.is_complete) {
            return (State::Napping, "the Job is complete".to_owned());
        }
        if desired == 0 && self.is_scaled && self.census.failing == 0 {
            return (State::Napping, "no pod is needed".to_owned());
        }
        let ready_of = |number| format!("{ready} of {number} pods are ready");
        let is_stalled = self.counts.is_some_and(|counts| counts.is_stalled);
        if is_stalled && ready.min(self.replicas.updated) < desired {
            let message = format!("the rollout makes no progress: {}", ready_of(desired));
            return (State::Degraded, message);
        }
        if self.replicas.is_updating() {
            return (State::Updating, "pods are being replaced".to_owned());
        }
        if total < desired {
            return (State::ScalingUp, ready_of(desired));
        }
        if total > desired {
            return (State::ScalingDown, format!("{total} pods, {desired} needed"));
        }
        if ready < total {
            let state = if self.is_degraded() {
                State::Degraded
            } else {
                State::ScalingUp
            };
            return (state, ready_of(total));
        }
        if ready == desired && (desired > 0 || !self.is_scaled) {
            return (State::Running, ready_of(desired));
        }
        let message = format!("{ready} of {total} pods are ready, {desired} needed");
        (State::Unknown, message)
    }

    fn is_starting(&self) -> bool {
        let Some(WorkloadCounts { created, .. }) = self.counts else {
            return true;
        };
        let was_ready = self.replicas.ready > 0 || self.scale.last.is_some_and(|last| last >= *created);
        let is_wanted = self.replicas.desired > 0 || self.replicas.total > 0;
        is_wanted && !was_ready && self.now < after(*created, STARTUP)
    }

    fn is_degraded(&self) -> bool {
        degraded_at(self.replicas, self.scale, self.census, self.counts).is_some_and(|at| self.now >= at)
    }
}

/// When an actor with unready pods becomes degraded; `None` if never.
pub(super) fn degraded_at(
    replicas: Replicas,
    scale: &Scale,
    census: &Census,
    counts: Option<&WorkloadCounts>,
) -> Option<Timestamp> {
    let since = match scale.last {
        Some(last) => last,
        None if replicas.ready == 0 => counts?.created,
        None => return None,
    };
    let since = census.unready_since.map_or(since, |unready| unready.max(since));
    Some(after(since, DEGRADED))
}

/// What ails the pods so much that the actor does not work as it should.
///
/// One ailing pod of a hundred is no reason to call the actor broken: at least every tenth pod that is wanted must ail,
/// and pods must be missing because of it; or pods are being replaced and every new one fails.
pub(super) fn complaint_of_all(replicas: Replicas, census: &Census) -> Option<Complaint> {
    let ailing = census.ailing();
    let steady = replicas.ready.saturating_sub(census.shaky);
    let is_lacking = steady < replicas.desired && u64::from(ailing) * 10 >= u64::from(replicas.desired);
    let is_stuck_update =
        replicas.updated < replicas.total && replicas.updated > 0 && census.failing >= replicas.updated;
    if ailing == 0 || replicas.desired == 0 || !(is_lacking || is_stuck_update) {
        return None;
    }
    census.main_complaint()
}

/// A complaint that is about no pod.
pub(super) fn complaint_of_workload(text: String) -> Complaint {
    Complaint::new(Ailment::Other, text)
}
