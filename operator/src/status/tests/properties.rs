//! What holds for whatever is seen.

use asya_manifest::WorkloadKind;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::fixtures::{actor, at, counts, fails, holds, pod, seen};
use crate::resource::Actor;
use crate::status::{Observation, Status, WorkloadCounts, assess, events, reassess_after};

const PODS: [&str; 16] = [
    "ready",
    "starting",
    "accepted",
    "runtime_crash_loop",
    "sidecar_crash_loop",
    "image_pull_back_off",
    "unschedulable",
    "creating_containers",
    "missing_secret",
    "oom_killed_waiting",
    "oom_killed_running",
    "evicted",
    "failed",
    "succeeded",
    "deleting",
    "native_sidecar_crash_loop",
];

fn any_actor() -> impl Strategy<Value = Actor> {
    let kinds = prop_oneof![
        Just(WorkloadKind::Deployment),
        Just(WorkloadKind::StatefulSet),
        Just(WorkloadKind::Job)
    ];
    (any::<bool>(), kinds, 0..10_u8, 1..4_i64).prop_map(|(scaling, kind, deleting, generation)| {
        let mut actor = actor(scaling, kind);
        actor.is_deleting = deleting == 0;
        actor.generation = generation;
        actor
    })
}

prop_compose! {
    fn any_counts()(
        ready in 0..4_u32,
        total in 0..4_u32,
        desired in 0..4_u32,
        updated in 0..4_u32,
        flags in any::<[bool; 3]>(),
        created in 0..1200_i64,
        unavailable in proptest::option::of(0..1200_i64),
        trouble in proptest::option::weighted(0.1, Just("quota".to_owned())),
    ) -> WorkloadCounts {
        WorkloadCounts {
            updated,
            is_observed: flags[0] || flags[1],
            is_stalled: flags[1] && flags[2],
            created: at("12:00:00") + SignedDuration::from_secs(created),
            unavailable_since: unavailable.map(|seconds| at("12:00:00") + SignedDuration::from_secs(seconds)),
            trouble,
            ..counts(ready, total, desired)
        }
    }
}

prop_compose! {
    fn any_observation()(
        counts in proptest::option::weighted(0.9, any_counts()),
        pods in proptest::collection::vec(proptest::sample::select(&PODS[..]), 0..5),
        transport in 0..10_u8,
        workload in 0..10_u8,
        scaling in 0..10_u8,
        scaler_desired in proptest::option::of(0..4_u32),
    ) -> Observation {
        Observation {
            transport: if transport == 0 { fails("QueueError", "refused") } else { holds("TransportValidated") },
            workload: match workload {
                0 => fails("ValidationError", "bad"),
                1 => fails("ReconcileError", "bad"),
                _ => holds("WorkloadCreated"),
            },
            scaling: (scaling > 1).then(|| {
                if scaling == 2 { fails("Conflict", "bad") } else { holds("ScaledObjectCreated") }
            }),
            counts,
            pods: pods.iter().map(|name| pod(name)).collect(),
            scaler_desired,
            ..seen(0, 0, 0)
        }
    }
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0..2_400_000_i64).prop_map(|millis| at("12:00:00") + SignedDuration::from_millis(millis))
}

proptest! {
    #[test]
    fn looking_again_changes_nothing(
        actor in any_actor(),
        earlier in any_observation(),
        seen in any_observation(),
        now in any_time(),
    ) {
        let previous = assess(&actor, &Status::default(), &earlier, at("11:59:00"));
        let first = assess(&actor, &previous, &seen, now);
        prop_assert_eq!(&assess(&actor, &previous, &seen, now), &first, "equal inputs, equal outputs");
        prop_assert_eq!(&assess(&actor, &first, &seen, now), &first);
        prop_assert!(events(&first, &first).is_empty());
        let stored: Status = serde_json::from_value(serde_json::to_value(&first).unwrap()).unwrap();
        prop_assert_eq!(&stored, &first, "what is stored is what was shown");
    }

    #[test]
    fn time_changes_what_is_shown_exactly_when_it_was_said_to(
        actor in any_actor(),
        seen in any_observation(),
        now in any_time(),
    ) {
        let mut now = now;
        let mut shown = assess(&actor, &Status::default(), &seen, now);
        for _ in 0..60 {
            let Some(wait) = reassess_after(&actor, &shown, &seen, now) else {
                let far = now + SignedDuration::from_hours(24 * 365);
                prop_assert_eq!(&assess(&actor, &shown, &seen, far), &shown, "nothing was said to change");
                return Ok(());
            };
            let then = now + SignedDuration::try_from(wait).unwrap();
            prop_assert!(then > now);
            let just_before = then - SignedDuration::from_nanos(1);
            prop_assert_eq!(&assess(&actor, &shown, &seen, just_before), &shown, "before {}", then);
            let half_way = now + (then.duration_since(now)) / 2;
            prop_assert_eq!(&assess(&actor, &shown, &seen, half_way), &shown, "before {}", then);
            let next = assess(&actor, &shown, &seen, then);
            prop_assert_ne!(&next, &shown, "at {}", then);
            (shown, now) = (next, then);
        }
    }

    #[test]
    fn conditions_are_fresh_and_keep_their_time_until_they_flip(
        actor in any_actor(),
        earlier in any_observation(),
        seen in any_observation(),
        now in any_time(),
    ) {
        let previous = assess(&actor, &Status::default(), &earlier, at("11:59:00"));
        let status = assess(&actor, &previous, &seen, now);
        let mut kinds: Vec<_> = status.conditions.iter().map(|condition| &condition.kind).collect();
        kinds.sort();
        kinds.dedup();
        prop_assert_eq!(kinds.len(), status.conditions.len(), "keyed by type");
        for condition in &status.conditions {
            prop_assert_eq!(condition.observed_generation, Some(actor.generation));
            prop_assert!(!condition.reason.is_empty() && !condition.message.is_empty());
            let before = previous.conditions.iter().find(|before| before.kind == condition.kind);
            let is_same = before.is_some_and(|before| before.status == condition.status);
            let is_kept = before.is_some_and(|before| before.last_transition_time == condition.last_transition_time);
            prop_assert_eq!(is_same, is_kept, "{}", condition.kind);
        }
        prop_assert_eq!(status.observed_generation, Some(actor.generation));
    }

    #[test]
    fn the_order_of_pods_does_not_matter(
        actor in any_actor(),
        seen in any_observation(),
        now in any_time(),
    ) {
        let mut reversed = seen.clone();
        reversed.pods.reverse();
        prop_assert_eq!(
            assess(&actor, &Status::default(), &seen, now),
            assess(&actor, &Status::default(), &reversed, now)
        );
    }
}
