//! What a pass says of an actor that it refuses. Pure.

use kube::ResourceExt as _;

use crate::resource::{Actor, AsyncActor, UnreadableSpec};
use crate::status::{Status, Verdict};

/// The queue is another actor's.
pub(super) fn conflict(message: String) -> Verdict {
    Verdict {
        holds: false,
        reason: "QueueNameConflict",
        message,
    }
}

/// The manifest breaks rules.
pub(super) fn invalid(problems: &str) -> Verdict {
    Verdict {
        holds: false,
        reason: "ValidationError",
        message: problems.to_owned(),
    }
}

/// What is wrong with a spec that cannot be read: the rules that it breaks, which name places, say more than the reader.
pub(super) fn unreadable(object: &AsyncActor, error: &UnreadableSpec) -> String {
    let problems = asya_manifest::check_object(&object.name_any(), &object.spec);
    if problems.is_empty() {
        error.to_string()
    } else {
        problems.join("\n")
    }
}

/// Nothing is written for a reason that stands in another condition.
pub(super) fn waiting(message: &str) -> Verdict {
    Verdict {
        holds: false,
        reason: "ReconcileError",
        message: message.to_owned(),
    }
}

/// The transport cannot be used.
pub(super) fn no_transport(problem: &str) -> Verdict {
    Verdict {
        holds: false,
        reason: "InvalidTransport",
        message: problem.to_owned(),
    }
}

/// Nothing speaks against the transport; its queue was not asked for.
pub(super) fn transport_known() -> Verdict {
    Verdict {
        holds: true,
        reason: "TransportValidated",
        message: "the transport is known".to_owned(),
    }
}

/// A refused actor keeps the scaler that it has.
pub(super) fn previous_scaling(actor: &Actor, previous: &Status) -> Option<Verdict> {
    let condition = previous
        .conditions
        .iter()
        .find(|condition| condition.kind == "ScalingReady");
    let holds = condition.is_some_and(|condition| condition.status == "True");
    actor.spec.scaling.enabled.then(|| Verdict {
        holds,
        reason: if holds {
            "ScaledObjectCreated"
        } else {
            "ReconcileError"
        },
        message: "nothing is written while the actor is refused".to_owned(),
    })
}
