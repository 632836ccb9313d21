//! What one actor is to the controller, before anything is asked or written: refused, or sound with its transport.
//! Pure.

use serde_json::Value;

use super::events::Note;
use crate::queues::DeletionPolicy;
use crate::registry::{Broker, Registry, Transport};
use crate::resource::{Actor, AsyncActor};

/// Longest queue name of SQS.
const SQS_NAME: usize = 80;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement<'a> {
    /// The manifest breaks rules (contract operator §5); nothing is tried until it changes.
    Invalid(String),
    /// The transport cannot be used; nothing is tried until manifest or registry change.
    NoTransport(String),
    /// Ready to be made.
    Sound(&'a Transport),
}

/// Judges an actor whose `spec` could be read.
pub(super) fn judge<'a>(object: &AsyncActor, actor: &Actor, registry: &'a Registry) -> Judgement<'a> {
    let problems = asya_manifest::check_object(&actor.name, &object.spec);
    if !problems.is_empty() {
        return Judgement::Invalid(problems.join("\n"));
    }
    let transport = match registry.find(&actor.spec.transport) {
        Ok(transport) => transport,
        Err(error) => return Judgement::NoTransport(error.to_string()),
    };
    match queue_name_problem(transport, actor) {
        Some(problem) => Judgement::Invalid(problem),
        None => Judgement::Sound(transport),
    }
}

/// What is odd about a manifest that is honoured all the same: fields that nothing reads (contract operator §1.5), and
/// pods that are killed before one call can end (rulings 27).
pub(super) fn advice(object: &AsyncActor, actor: &Actor) -> Vec<Note> {
    let mut notes: Vec<Note> = asya_manifest::ineffective_fields(&object.spec)
        .into_iter()
        .map(|path| {
            Note::warning(
                "IneffectiveField",
                format!("{path}: nothing reads this field; remove it"),
            )
        })
        .collect();
    let processing = actor.spec.processing_timeout().as_secs();
    if let Some(grace) = actor.spec.timeout.graceful_shutdown
        && grace > 0
        && u64::from(grace) < processing
    {
        let text = format!(
            "spec.timeout.gracefulShutdown: pods are killed after {grace} s, but one call may take {processing} s \
             (spec.timeout.processing), so that calls may be cut off and made again; remove the field, or set at least \
             {}",
            processing + 30
        );
        notes.push(Note::warning("GracePeriodTooShort", text));
    }
    notes
}

/// SQS takes fewer names than Kubernetes (contract operator §1.6).
fn queue_name_problem(transport: &Transport, actor: &Actor) -> Option<String> {
    let Broker::Sqs(_) = transport.broker else {
        return None;
    };
    let name = transport.queue_name(&actor.namespace, &actor.name);
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    if name.len() > SQS_NAME {
        Some(format!(
            "metadata.name: the queue name {name:?} is longer than {SQS_NAME} characters; SQS takes no longer ones"
        ))
    } else if name.trim_end_matches(".fifo").chars().all(is_allowed) {
        None
    } else {
        Some(format!(
            "metadata.name: the queue name {name:?} has other characters than letters, digits, `-` and `_`; SQS takes no \
             others"
        ))
    }
}

/// When the queue goes with its actor (rulings 12): the annotation, else the field, else only if empty. Read from the
/// raw object, so that an actor whose `spec` cannot be read can be deleted.
pub(super) fn deletion_policy(object: &AsyncActor) -> DeletionPolicy {
    let annotations = object.metadata.annotations.as_ref();
    let annotation = annotations
        .and_then(|all| all.get("asya.sh/queue-deletion-policy"))
        .map(String::as_str);
    let field = object
        .spec
        .pointer("/queue/deletionPolicy")
        .and_then(Value::as_str);
    match annotation.or(field) {
        Some("Delete") => DeletionPolicy::Delete,
        Some("Retain") => DeletionPolicy::Retain,
        _ => DeletionPolicy::DeleteIfEmpty,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{advice, deletion_policy};
    use crate::queues::DeletionPolicy;
    use crate::resource::{Actor, AsyncActor};

    #[test]
    fn what_does_nothing_and_what_kills_calls_is_told() {
        let reasons = |fields: serde_json::Value| {
            let mut spec = json!({"transport": "t", "workload": {"template": {}}});
            for (key, value) in fields.as_object().unwrap() {
                spec[key] = value.clone();
            }
            let object = AsyncActor {
                spec,
                ..AsyncActor::default()
            };
            let actor = Actor::read(&object).unwrap();
            advice(&object, &actor)
                .into_iter()
                .map(|note| (note.is_warning, note.reason))
                .collect::<Vec<_>>()
        };
        assert_eq!(reasons(json!({})), []);
        assert_eq!(
            reasons(json!({"timeout": {"processing": 30, "gracefulShutdown": 30}})),
            []
        );
        assert_eq!(reasons(json!({"timeout": {"gracefulShutdown": 0}})), []);
        assert_eq!(
            reasons(json!({"timeout": {"processing": 31, "gracefulShutdown": 30}, "socket": {"path": "/x"}})),
            [
                (true, "IneffectiveField".to_owned()),
                (true, "GracePeriodTooShort".to_owned())
            ]
        );
    }

    #[test]
    fn the_annotation_wins_over_the_field_and_nonsense_deletes_nothing() {
        let object = |annotation: Option<&str>, field: Option<&str>| {
            let mut object = AsyncActor {
                spec: json!({"queue": {"deletionPolicy": field}}),
                ..AsyncActor::default()
            };
            object.metadata.annotations = annotation
                .map(|value| [("asya.sh/queue-deletion-policy".to_owned(), value.to_owned())].into());
            object
        };
        for (annotation, field, policy) in [
            (None, None, DeletionPolicy::DeleteIfEmpty),
            (None, Some("Delete"), DeletionPolicy::Delete),
            (Some("Retain"), Some("Delete"), DeletionPolicy::Retain),
            (Some("delete!"), Some("Delete"), DeletionPolicy::DeleteIfEmpty),
        ] {
            assert_eq!(
                deletion_policy(&object(annotation, field)),
                policy,
                "{annotation:?} {field:?}"
            );
        }
    }
}
