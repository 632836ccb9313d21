//! Which changes of a status are worth a Kubernetes Event (contract operator §11.6).

use super::conditions::kinds;
use super::{Condition, State, Status};

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// For information.
    Normal,
    /// Somebody should look.
    Warning,
}

/// An event that should be recorded on the actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventNote {
    /// Normal or warning.
    pub kind: EventKind,
    /// One word in camel case.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// The events for a change of status: warnings for conditions that do not hold any more or for another reason,
/// `WorkloadCreated` and `ScaledObjectCreated` for references that are new, `ScaledToZero`, and `StatusChanged` for the
/// overall value. Numbers and texts that change alone are no event, and equal statuses give none.
///
/// What only the one who does it knows (`QueueCreated`, `QueueRecreated`, `QueueDeleted`, `QueueRetained`,
/// `WorkloadUpdated`, `DeletionBlocked`) is recorded by the controller itself.
pub fn events(previous: &Status, next: &Status) -> Vec<EventNote> {
    let mut notes = Vec::new();
    for kind in [kinds::TRANSPORT, kinds::WORKLOAD, kinds::SCALING] {
        notes.extend(condition_event(previous, next, kind));
    }
    if let Some(workload) = &next.workload_ref
        && previous.workload_ref.as_ref() != Some(workload)
    {
        let message = format!("{} {} is there", workload.kind, workload.name);
        notes.push(normal("WorkloadCreated", message));
    }
    if let Some(scaler) = &next.scaled_object_ref
        && previous.scaled_object_ref.is_none()
    {
        notes.push(normal(
            "ScaledObjectCreated",
            format!("the autoscaler {} is there", scaler.name),
        ));
    }
    notes.extend(state_events(previous, next));
    notes
}

fn condition_event(previous: &Status, next: &Status, kind: &str) -> Option<EventNote> {
    let now = find(next, kind).filter(|condition| condition.status == "False")?;
    let before = find(previous, kind);
    let is_known = before.is_some_and(|before| before.status == "False" && before.reason == now.reason);
    // Pods may fail in one way after another under one reason: the overall value tells them apart.
    let is_same = previous.status == next.status || now.reason != "PodsNotHealthy";
    if is_known && is_same {
        return None;
    }
    let reason = match (kind, now.reason.as_str()) {
        (_, "ValidationError") => "ValidationError",
        (_, "PodsNotHealthy") => "PodsNotHealthy",
        (kinds::TRANSPORT, "InvalidTransport") => "InvalidTransport",
        (kinds::TRANSPORT, "QueueNameConflict") => "QueueNameConflict",
        (kinds::TRANSPORT, _) => "QueueError",
        (kinds::SCALING, _) => "ScalingError",
        _ => "WorkloadError",
    };
    Some(EventNote {
        kind: EventKind::Warning,
        reason,
        message: now.message.clone(),
    })
}

fn state_events(previous: &Status, next: &Status) -> Vec<EventNote> {
    let (before, Some(now)) = (
        previous.status.as_deref().unwrap_or_default(),
        next.status.as_deref(),
    ) else {
        return Vec::new();
    };
    if before == now {
        return Vec::new();
    }
    let why = find(next, kinds::READY).map_or("", |ready| ready.message.as_str());
    let message = match before {
        "" => format!("{now}: {why}"),
        before => format!("{before} -> {now}: {why}"),
    };
    let mut notes = vec![normal("StatusChanged", message)];
    let had_pods =
        previous.total_replicas.unwrap_or_default() > 0 || previous.desired_replicas.unwrap_or_default() > 0;
    if State::parse(now) == Some(State::Napping) && had_pods {
        notes.push(normal(
            "ScaledToZero",
            "no messages wait: no pod is needed".to_owned(),
        ));
    }
    notes
}

fn find<'a>(status: &'a Status, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|condition| condition.kind == kind)
}

fn normal(reason: &'static str, message: String) -> EventNote {
    EventNote {
        kind: EventKind::Normal,
        reason,
        message,
    }
}
