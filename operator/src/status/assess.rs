//! The status as a whole, and when time alone changes it.

use std::time::Duration;

use asya_manifest::WorkloadKind;
use jiff::Timestamp;
use serde_json::Value;

use super::census::Census;
use super::conditions::Verdicts;
use super::health::{Complaint, turning_points};
use super::overall::{Facts, Replicas, complaint_of_all, complaint_of_workload, degraded_at};
use super::scale::Scale;
use super::time::{STARTUP, STUCK, after, age, text};
use super::{Observation, ScaledObjectReference, State, Status, Verdict};
use crate::resource::{Actor, AsyncActor};

/// The status to show, from the one shown before and what was seen now. Equal inputs give equal outputs, and nothing
/// changes in what is shown merely because time passed, except as contract operator §11.5 says.
pub fn assess(actor: &Actor, previous: &Status, seen: &Observation, now: Timestamp) -> Status {
    Subject::of(actor).assess(previous, seen, now)
}

/// As [`assess`], for an actor whose `spec` cannot be read: `seen.workload` says why.
pub fn assess_unreadable(
    object: &AsyncActor,
    previous: &Status,
    seen: &Observation,
    now: Timestamp,
) -> Status {
    Subject::of_unreadable(object).assess(previous, seen, now)
}

/// When time alone will change what [`assess`] shows, so that the controller looks again then; `None` if never.
/// `shown` is what [`assess`] gave for `seen` before or at `now`.
pub fn reassess_after(actor: &Actor, shown: &Status, seen: &Observation, now: Timestamp) -> Option<Duration> {
    let subject = Subject::of(actor);
    let mut points: Vec<_> = subject
        .turning_points(shown, seen, now)
        .into_iter()
        .filter(|point| *point > now)
        .collect();
    points.sort_unstable();
    points.dedup();
    let first = points
        .into_iter()
        .find(|point| subject.assess(shown, seen, *point) != *shown)?;
    Some(age(now, first))
}

/// What of an actor matters for its status.
struct Subject<'a> {
    name: &'a str,
    namespace: &'a str,
    generation: i64,
    is_deleting: bool,
    is_scaled: bool,
    /// Whether KEDA makes Jobs of it: then nothing but its pods can be counted.
    has_scaled_jobs: bool,
}

impl<'a> Subject<'a> {
    fn of(actor: &'a Actor) -> Self {
        let is_scaled = actor.spec.scaling.enabled;
        Self {
            name: &actor.name,
            namespace: &actor.namespace,
            generation: actor.generation,
            is_deleting: actor.is_deleting,
            is_scaled,
            has_scaled_jobs: is_scaled && actor.spec.workload.effective_kind() == WorkloadKind::Job,
        }
    }

    fn of_unreadable(object: &'a AsyncActor) -> Self {
        let metadata = &object.metadata;
        Self {
            name: metadata.name.as_deref().unwrap_or_default(),
            namespace: metadata.namespace.as_deref().unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            is_deleting: metadata.deletion_timestamp.is_some(),
            is_scaled: object.spec.pointer("/scaling/enabled").and_then(Value::as_bool) == Some(true),
            has_scaled_jobs: false,
        }
    }

    fn replicas(&self, seen: &Observation, census: &Census) -> Replicas {
        let Some(counts) = &seen.counts else {
            return Replicas {
                is_observed: true,
                ..Replicas::default()
            };
        };
        if self.has_scaled_jobs {
            let living = census.living();
            return Replicas {
                ready: census.ready,
                total: living,
                desired: living,
                updated: living,
                is_observed: true,
            };
        }
        // An autoscaler cannot lift a workload from zero: its number is a stale one then.
        let wanted = seen
            .scaler_desired
            .filter(|wanted| *wanted > 0 && counts.desired > 0);
        Replicas {
            ready: counts.ready,
            total: counts.total,
            desired: wanted.filter(|_| self.is_scaled).unwrap_or(counts.desired),
            updated: counts.updated,
            is_observed: counts.is_observed,
        }
    }

    /// What keeps the workload from working, pods included.
    fn complaint(
        &self,
        seen: &Observation,
        replicas: Replicas,
        census: &Census,
        scale: &Scale,
        now: Timestamp,
    ) -> Option<Complaint> {
        let counts = seen.counts.as_ref()?;
        if let Some(complaint) = complaint_of_all(replicas, census) {
            return Some(complaint);
        }
        if let Some(trouble) = &counts.trouble
            && replicas.ready < replicas.desired
        {
            return Some(complaint_of_workload(trouble.clone()));
        }
        let since = self.podless_since(seen, replicas, census, scale)?;
        (now >= since).then(|| {
            let text = format!(
                "no pods found, {} wanted: their controller makes none",
                replicas.desired
            );
            complaint_of_workload(text)
        })
    }

    /// From when on it is an error that there is no pod at all; `None` if there is one, or none is wanted.
    fn podless_since(
        &self,
        seen: &Observation,
        replicas: Replicas,
        census: &Census,
        scale: &Scale,
    ) -> Option<Timestamp> {
        let counts = seen.counts.as_ref()?;
        let is_podless = replicas.desired > 0 && replicas.total == 0 && census.living() == 0;
        if !is_podless || !counts.is_observed || self.has_scaled_jobs {
            return None;
        }
        match (counts.unavailable_since, scale.last) {
            (Some(since), _) => Some(after(since, STUCK)),
            // It had pods, and does not say since when it has none: it may just be waking up.
            (None, Some(_)) => None,
            (None, None) => Some(after(counts.created, STARTUP)),
        }
    }

    fn assess(&self, previous: &Status, seen: &Observation, now: Timestamp) -> Status {
        let census = Census::take(&seen.pods, now);
        let replicas = self.replicas(seen, &census);
        let scale = Scale::follow(previous, int(replicas.ready), now);
        let complaint = self
            .complaint(seen, replicas, &census, &scale, now)
            .filter(|_| seen.workload.holds);
        let workload = complaint
            .as_ref()
            .map_or_else(|| seen.workload.clone(), unhealthy);
        let scaling = seen.scaling.as_ref().filter(|_| self.is_scaled);
        let facts = Facts {
            is_deleting: self.is_deleting,
            is_scaled: self.is_scaled,
            transport: &seen.transport,
            workload: &workload,
            scaling,
            complaint: complaint.as_ref(),
            replicas,
            counts: seen.counts.as_ref(),
            census: &census,
            scale: &scale,
            now,
        };
        let (state, message) = facts.judge();
        let verdicts = Verdicts {
            transport: &seen.transport,
            workload: &workload,
            scaling,
            state,
            is_served: replicas.ready > 0 || replicas.desired == 0,
            message: &message,
        };
        let shown = Status {
            conditions: verdicts.show(&previous.conditions, self.generation, now),
            ready_summary: Some(verdicts.summary()),
            ..self.words(previous, seen, state)
        };
        with_scale(with_counters(shown, seen, replicas, &census), &scale, now)
    }

    /// What is neither a condition nor a number.
    fn words(&self, previous: &Status, seen: &Observation, state: State) -> Status {
        let has_scaler = seen.scaling.as_ref().is_some_and(|scaling| scaling.holds);
        let scaler = ScaledObjectReference {
            name: self.name.to_owned(),
            namespace: self.namespace.to_owned(),
        };
        let transport = if seen.transport.holds { "Ready" } else { "NotReady" };
        Status {
            status: Some(state.as_str().to_owned()),
            phase: Some(state.as_str().to_owned()),
            observed_generation: Some(self.generation),
            transport_status: Some(transport.to_owned()),
            workload_ref: seen.workload_reference.clone(),
            // While the scaler cannot be written, one that was there is there still.
            scaled_object_ref: match (self.is_scaled, has_scaler) {
                (false, _) => None,
                (true, true) => Some(scaler),
                (true, false) => previous.scaled_object_ref.clone(),
            },
            queue_ref: seen.queue_reference.clone(),
            scaling_mode: Some(if self.is_scaled { "KEDA" } else { "Manual" }.to_owned()),
            ..Status::default()
        }
    }

    /// The times at which a part of the judgement may change by itself.
    fn turning_points(&self, shown: &Status, seen: &Observation, now: Timestamp) -> Vec<Timestamp> {
        let census = Census::take(&seen.pods, now);
        let replicas = self.replicas(seen, &census);
        let scale = Scale::follow(shown, int(replicas.ready), now);
        let counts = seen.counts.as_ref();
        let mut points: Vec<_> = seen.pods.iter().flat_map(turning_points).collect();
        points.extend(counts.map(|counts| after(counts.created, STARTUP)));
        points.extend(scale.next_text(now));
        points.extend(degraded_at(replicas, &scale, &census, counts));
        points.extend(self.podless_since(seen, replicas, &census, &scale));
        points
    }
}

/// What the condition of the workload says of ailing pods.
fn unhealthy(complaint: &Complaint) -> Verdict {
    Verdict {
        holds: false,
        reason: "PodsNotHealthy",
        message: complaint.text.clone(),
    }
}

fn with_counters(shown: Status, seen: &Observation, replicas: Replicas, census: &Census) -> Status {
    let has_workload = seen.counts.is_some();
    let if_there = |number: u32| has_workload.then(|| int(number));
    let processing = seen.queue.and_then(|depth| depth.processing);
    Status {
        replicas: if_there(replicas.ready),
        ready_replicas: if_there(replicas.ready),
        total_replicas: if_there(replicas.total),
        desired_replicas: if_there(replicas.desired),
        pending_replicas: if_there(census.pending),
        failing_pods: if_there(census.failing),
        ready_replicas_summary: Some(format!("{}/{}", replicas.ready, replicas.total)),
        replicas_summary: Some(format!("{}/{}", replicas.ready, replicas.desired)),
        queued_messages: seen.queue.map(|depth| int(depth.queued)),
        processing_messages: processing.map(int),
        ..shown
    }
}

fn with_scale(shown: Status, scale: &Scale, now: Timestamp) -> Status {
    Status {
        last_scale_time: scale.last.map(text),
        last_scale_direction: (!scale.direction.is_empty()).then(|| scale.direction.clone()),
        last_scale_formatted: Some(scale.text(now)),
        ..shown
    }
}

/// The status holds 32 bits with a sign.
fn int(number: impl TryInto<i32>) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}
