//! What ails one pod, judged from what kubelet reports (contract operator §11.2, §11.3).
//!
//! Restarts: a container that was restarted more than [`MOST_RESTARTS`] times ails its pod, even while it runs in
//! between, until it has run for ten minutes without a crash. Then it has recovered, however often it was restarted
//! before; kubelet forgets its own back-off after the same time.

use jiff::Timestamp;

use super::time::{STEADY, STUCK, after};
use super::{Container, Pod, State};

/// Restarts beyond this number are too many.
const MOST_RESTARTS: u32 = 5;
/// Longest quotation of what somebody else says.
const LONGEST: usize = 300;

/// What ails a pod, in the order of the contract's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ailment {
    /// No node takes it.
    Unschedulable,
    /// An image.
    Image,
    /// The user's container crashes.
    Runtime,
    /// Our container crashes.
    Sidecar,
    /// A volume.
    Volume,
    /// A `ConfigMap` or `Secret`.
    Config,
    /// Anything else.
    Other,
}

impl Ailment {
    /// The state of an actor whose pods ail so.
    pub(super) const fn state(self) -> State {
        match self {
            Self::Unschedulable => State::PendingResources,
            Self::Image => State::ImagePullError,
            Self::Runtime => State::RuntimeError,
            Self::Sidecar => State::SidecarError,
            Self::Volume => State::VolumeError,
            Self::Config => State::ConfigError,
            Self::Other => State::WorkloadError,
        }
    }
}

/// What ails a pod, and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) ailment: Ailment,
    pub(super) text: String,
}

impl Complaint {
    pub(super) fn new(ailment: Ailment, text: String) -> Self {
        Self { ailment, text }
    }
}

/// How one pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Health {
    /// Deleted, ended well, or failed so long ago that it does not matter any more.
    Over,
    /// Ready; with a complaint if it crashed a short while ago and not for the first time.
    Ready(Option<Complaint>),
    /// Neither ready nor failing.
    Pending,
    /// Failing.
    Failing(Complaint),
}

/// Judges a pod.
pub(super) fn examine(pod: &Pod, now: Timestamp) -> Health {
    match pod.phase.as_str() {
        _ if pod.is_deleting => Health::Over,
        "Succeeded" => Health::Over,
        "Failed" if now >= after(failed_at(pod), STEADY) => Health::Over,
        "Failed" => Health::Failing(failed(pod)),
        _ if pod.is_ready() => Health::Ready(crash(pod, now)),
        _ => complaint(pod, now).map_or(Health::Pending, Health::Failing),
    }
}

/// The times at which the judgement of this pod may change by itself.
pub(super) fn turning_points(pod: &Pod) -> impl Iterator<Item = Timestamp> {
    let crashes = pod
        .containers
        .iter()
        .filter(|container| container.restarts > MOST_RESTARTS)
        .filter_map(quiet_since)
        .map(|at| after(at, STEADY));
    let failed = (pod.phase == "Failed").then(|| after(failed_at(pod), STEADY));
    let stuck = sandbox_since(pod).map(|since| after(since, STUCK));
    crashes.chain(failed).chain(stuck)
}

impl Pod {
    /// Whether it has waited so long for its sandbox or its volumes that kubelet's events should be asked why, and
    /// nobody has yet (`notes`).
    pub fn is_stuck(&self, now: Timestamp) -> bool {
        let is_waiting = sandbox_since(self).is_some_and(|since| now >= after(since, STUCK));
        !self.is_deleting && self.notes.is_empty() && is_waiting
    }
}

fn complaint(pod: &Pod, now: Timestamp) -> Option<Complaint> {
    pod.containers
        .iter()
        .find_map(|container| waiting(pod, container))
        .or_else(|| crash(pod, now))
        .or_else(|| unschedulable(pod))
        .or_else(|| unready_by_text(pod))
        .or_else(|| stuck(pod, now))
}

fn crash(pod: &Pod, now: Timestamp) -> Option<Complaint> {
    pod.containers
        .iter()
        .find_map(|container| crashing(pod, container, now))
}

/// A container that waits for something that will not come by itself.
fn waiting(pod: &Pod, container: &Container) -> Option<Complaint> {
    let (reason, message) = container.waiting.as_ref()?;
    let (pod, name) = (&pod.name, &container.name);
    let quoted = || format!("container {name} of pod {pod}: {reason}: {}", quote(message));
    match reason.as_str() {
        "ImagePullBackOff"
        | "ErrImagePull"
        | "ErrImageNeverPull"
        | "InvalidImageName"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => {
            // Kubelet takes turns between trying and waiting; what is shown should not.
            let reason = if reason == "ErrImagePull" {
                "ImagePullBackOff"
            } else {
                reason
            };
            let image = &container.image;
            let text = format!("container {name} of pod {pod}: {reason}: image {image:?} cannot be pulled");
            Some(Complaint::new(Ailment::Image, text))
        }
        "CrashLoopBackOff" | "RunContainerError" | "PostStartHookError" => {
            Some(crash_complaint(pod, container, reason))
        }
        "CreateContainerConfigError" => Some(Complaint::new(Ailment::Config, quoted())),
        "CreateContainerError" => Some(Complaint::new(Ailment::Other, quoted())),
        _ => None,
    }
}

/// A container that crashed a short while ago and not for the first time.
fn crashing(pod: &Pod, container: &Container, now: Timestamp) -> Option<Complaint> {
    let has_succeeded = container.is_over && container.last_exit.as_ref().is_some_and(|exit| exit.code == 0);
    if container.restarts <= MOST_RESTARTS || has_succeeded {
        return None;
    }
    if quiet_since(container).is_some_and(|at| now >= after(at, STEADY)) {
        return None;
    }
    Some(crash_complaint(&pod.name, container, "crashed"))
}

/// Once there were many crashes, the text is the same whether the container waits or runs for a while.
fn crash_complaint(pod: &str, container: &Container, reason: &str) -> Complaint {
    let what = if container.restarts > MOST_RESTARTS {
        "keeps crashing"
    } else {
        reason
    };
    let name = &container.name;
    let text = format!("container {name} of pod {pod}: {what}{}", history(container));
    Complaint::new(crash_of(name), text)
}

/// Since when a container that crashed has not crashed: its start after the crash or, while it does not run, its end.
fn quiet_since(container: &Container) -> Option<Timestamp> {
    let ended = container.last_exit.as_ref().and_then(|exit| exit.at);
    container.running_since.max(ended)
}

/// Whose fault a crash is.
fn crash_of(container: &str) -> Ailment {
    match container {
        asya_manifest::RUNTIME_CONTAINER => Ailment::Runtime,
        asya_manifest::SIDECAR_CONTAINER => Ailment::Sidecar,
        _ => Ailment::Other,
    }
}

fn history(container: &Container) -> String {
    let restarts = match container.restarts {
        1 => " (restarted once".to_owned(),
        times => format!(" (restarted {times} times"),
    };
    match &container.last_exit {
        Some(exit) if exit.reason.is_empty() => format!("{restarts}, exit code {})", exit.code),
        Some(exit) => format!("{restarts}, {} with exit code {})", exit.reason, exit.code),
        None => format!("{restarts})"),
    }
}

fn unschedulable(pod: &Pod) -> Option<Complaint> {
    let scheduled = pod.condition("PodScheduled")?;
    if scheduled.holds || scheduled.reason != "Unschedulable" {
        return None;
    }
    let text = format!("no node takes pod {}: {}", pod.name, quote(&scheduled.message));
    Some(Complaint::new(Ailment::Unschedulable, text))
}

/// Some kubelets say in `ContainersReady` what others say in events only.
fn unready_by_text(pod: &Pod) -> Option<Complaint> {
    let ready = pod.condition("ContainersReady").filter(|ready| !ready.holds)?;
    let ailment = ailment_of_text(&ready.message)?;
    let text = format!("pod {}: {}", pod.name, quote(&ready.message));
    Some(Complaint::new(ailment, text))
}

/// What a text of kubelet's about volumes and configuration is about.
fn ailment_of_text(message: &str) -> Option<Ailment> {
    let lower = message.to_ascii_lowercase();
    let is_missing = lower.contains("not found") || lower.contains("non-existent config key");
    if is_missing && (lower.contains("configmap") || lower.contains("secret")) {
        return Some(Ailment::Config);
    }
    let is_volume = message.contains("MountVolume") || message.contains("AttachVolume");
    is_volume.then_some(Ailment::Volume)
}

/// A pod that has a node and whose containers cannot even start.
fn stuck(pod: &Pod, now: Timestamp) -> Option<Complaint> {
    let since = sandbox_since(pod)?;
    if now < after(since, STUCK) {
        return None;
    }
    let Pod { name, notes, .. } = pod;
    let Some(note) = notes.first() else {
        let text = format!(
            "pod {name} has waited for its volumes and network for over a minute; `kubectl describe pod {name}` tells why"
        );
        return Some(Complaint::new(Ailment::Other, text));
    };
    let ailment = match (ailment_of_text(&note.message), note.reason.as_str()) {
        (Some(ailment), _) => ailment,
        (None, "FailedMount" | "FailedAttachVolume" | "FailedMapVolume") => Ailment::Volume,
        (None, _) => Ailment::Other,
    };
    let text = format!("pod {name}: {}: {}", note.reason, quote(&note.message));
    Some(Complaint::new(ailment, text))
}

/// Since when a scheduled pod waits for its sandbox and volumes; `None` if it does not.
fn sandbox_since(pod: &Pod) -> Option<Timestamp> {
    let is_scheduled = pod
        .condition("PodScheduled")
        .is_none_or(|scheduled| scheduled.holds);
    let sandbox = pod.condition("PodReadyToStartContainers")?;
    let is_waiting = !sandbox.holds && is_scheduled && matches!(pod.phase.as_str(), "Pending" | "Running");
    is_waiting.then(|| sandbox.since.unwrap_or(pod.created))
}

fn failed(pod: &Pod) -> Complaint {
    let culprit = pod
        .containers
        .iter()
        .find(|container| container.last_exit.as_ref().is_some_and(|exit| exit.code != 0));
    let text = match (pod.reason.as_str(), culprit) {
        ("", Some(container)) => format!(
            "pod {} is in Failed phase: container {}{}",
            pod.name,
            container.name,
            history(container)
        ),
        ("", None) => format!("pod {} is in Failed phase", pod.name),
        (reason, _) => format!("pod {} is in Failed phase: {reason}", pod.name),
    };
    let ailment = match (pod.reason.as_str(), culprit) {
        ("", Some(container)) => crash_of(&container.name),
        _ => Ailment::Other,
    };
    Complaint::new(ailment, text)
}

/// When a pod of phase `Failed` ended, as nearly as it says.
fn failed_at(pod: &Pod) -> Timestamp {
    let exits = pod
        .containers
        .iter()
        .filter_map(|container| container.last_exit.as_ref().and_then(|exit| exit.at));
    let conditions = pod.conditions.iter().filter_map(|condition| condition.since);
    exits.chain(conditions).max().unwrap_or(pod.created)
}

fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
