//! Deterministic identities, so that a repeated delivery produces the same messages (rulings 3, 7, 9).

use uuid::Uuid;

/// Namespace of the ids that are derived from messages without one.
const FALLBACK: Uuid = Uuid::from_u128(0x0490_2472_2ad4_4101_8685_ae5a_50b8_120b);

/// The id of item `index` of a fan-out of envelope `id`, which has finished `step` hops.
///
/// Item 0 keeps the id. At the first split of an id the others are `<id>-<index>` (contract §7.1); at a later split
/// of the same id (`already_split`) they are `<id>-<index>.<step>`. Distinct within a tree as long as `step` grows
/// with every hop, and the same again when a hop is repeated.
///
/// ```
/// # use asya_runtime_protocol::child_id;
/// assert_eq!(child_id("x", 0, 4, true), "x");
/// assert_eq!(child_id("x", 2, 4, false), "x-2");
/// assert_eq!(child_id("x", 2, 4, true), "x-2.4");
/// ```
pub fn child_id(id: &str, index: usize, step: u64, already_split: bool) -> String {
    match (index, already_split) {
        (0, _) => id.to_owned(),
        (_, false) => format!("{id}-{index}"),
        (_, true) => format!("{id}-{index}.{step}"),
    }
}

/// The identity of one published message: `<envelope id>/<step>/<attempt>/<index>` (ruling 3).
///
/// `step` counts finished hops, `attempt` the runs of this hop (from 1), `index` the item of a fan-out (from 0).
pub fn message_id(id: &str, step: u64, attempt: u32, index: usize) -> String {
    format!("{id}/{step}/{attempt}/{index}")
}

/// An id for a message that brought none: `UUIDv5` over queue, broker message id and body, so that every delivery of
/// the same message gets the same one (ruling 9).
pub fn fallback_id(queue: &str, broker_message_id: Option<&str>, body: &[u8]) -> String {
    let within_queue = Uuid::new_v5(&FALLBACK, queue.as_bytes());
    let within_message = match broker_message_id {
        Some(id) => Uuid::new_v5(&within_queue, id.as_bytes()),
        None => within_queue,
    };
    Uuid::new_v5(&within_message, body).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_name_envelope_hop_run_and_item() {
        assert_eq!(message_id("e", 3, 1, 0), "e/3/1/0");
    }

    #[test]
    fn a_fallback_id_depends_on_queue_message_and_body_alone() {
        let id = fallback_id("asya-a", Some("m1"), b"x");
        assert_eq!(id, fallback_id("asya-a", Some("m1"), b"x"));
        assert_eq!(Uuid::parse_str(&id).unwrap().get_version_num(), 5);
        for other in [
            fallback_id("asya-b", Some("m1"), b"x"),
            fallback_id("asya-a", Some("m2"), b"x"),
            fallback_id("asya-a", None, b"x"),
            fallback_id("asya-a", Some("m1"), b"y"),
        ] {
            assert_ne!(id, other);
        }
    }

    #[test]
    fn the_namespace_of_fallback_ids_never_changes() {
        assert_eq!(
            fallback_id("q", None, b""),
            "e83452d7-a991-5584-a94a-35cc3f912e76"
        );
    }
}
