//! All pods of an actor together: how many are how, and what ails most of them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Pod;
use super::health::{Ailment, Complaint, Health, examine};

/// The pods of an actor, counted.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub(super) ready: u32,
    /// Neither ready nor failing.
    pub(super) pending: u32,
    pub(super) failing: u32,
    /// Ready for now, and known to crash.
    pub(super) shaky: u32,
    /// Since when a pod that is not ready has not been; of all of them the longest.
    pub(super) unready_since: Option<Timestamp>,
    /// What ails failing and shaky pods.
    ailments: BTreeMap<Ailment, Ailing>,
}

/// The pods with one ailment.
#[derive(Debug)]
struct Ailing {
    pods: u32,
    /// The first of their names: whose complaint is shown must not depend on the order in which they were seen.
    name: String,
    complaint: Complaint,
}

impl Census {
    pub(super) fn take(pods: &[Pod], now: Timestamp) -> Self {
        let mut census = Self::default();
        for pod in pods {
            census.count(pod, examine(pod, now));
        }
        census
    }

    fn count(&mut self, pod: &Pod, health: Health) {
        let complaint = match health {
            Health::Over => return,
            Health::Ready(complaint) => {
                self.ready += 1;
                self.shaky += u32::from(complaint.is_some());
                complaint
            }
            Health::Pending => {
                self.pending += 1;
                self.note_unready(pod);
                None
            }
            Health::Failing(complaint) => {
                self.failing += 1;
                self.note_unready(pod);
                Some(complaint)
            }
        };
        if let Some(complaint) = complaint {
            self.note(pod, complaint);
        }
    }

    fn note_unready(&mut self, pod: &Pod) {
        let since = unready_since(pod);
        self.unready_since = Some(self.unready_since.map_or(since, |earlier| earlier.min(since)));
    }

    fn note(&mut self, pod: &Pod, complaint: Complaint) {
        let Some(known) = self.ailments.get_mut(&complaint.ailment) else {
            let first = Ailing {
                pods: 1,
                name: pod.name.clone(),
                complaint,
            };
            self.ailments.insert(first.complaint.ailment, first);
            return;
        };
        known.pods += 1;
        if (&pod.name, &complaint.text) < (&known.name, &known.complaint.text) {
            known.name.clone_from(&pod.name);
            known.complaint = complaint;
        }
    }

    /// Pods that are there: neither deleted nor ended.
    pub(super) fn living(&self) -> u32 {
        self.ready + self.pending + self.failing
    }

    /// Pods with a complaint.
    pub(super) fn ailing(&self) -> u32 {
        self.failing + self.shaky
    }

    /// What ails most of the ailing pods; of equally frequent ailments the first of the contract's table, so that the
    /// answer does not depend on the order of pods.
    pub(super) fn main_complaint(&self) -> Option<Complaint> {
        let (_, most) = self
            .ailments
            .iter()
            .max_by_key(|(ailment, ailing)| (ailing.pods, std::cmp::Reverse(**ailment)))?;
        let mut complaint = most.complaint.clone();
        if most.pods > 1 {
            complaint.text = format!("{} (and {} more like it)", complaint.text, most.pods - 1);
        }
        Some(complaint)
    }
}

/// Since when a pod that is not ready has not been.
fn unready_since(pod: &Pod) -> Timestamp {
    let ready = pod.condition("Ready").filter(|ready| !ready.holds);
    ready.and_then(|ready| ready.since).unwrap_or(pod.created)
}
