//! Who is stuck: a pure judgement from what the tree shows once a second.
//!
//! An actor is stuck when there is work for it, nothing outside holds it up, and it has not done a step for long. A
//! long call of the handler is none of that (it has its own time limit, which the reaper enforces), nor is a broker
//! or a runtime that is away: restarting the sidecar would not mend those.

use asya_sidecar::{Snapshot, Stage, Steps};

/// What is known about the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broker {
    /// It takes and gives messages.
    Works,
    /// It is away, or takes no messages for now.
    Away,
}

/// An actor, and how it is judged.
struct Rule {
    actor: &'static str,
    /// Its steps so far.
    steps: fn(&Steps) -> u64,
    /// Whether it has work that it could do.
    has_work: fn(&Snapshot, Broker) -> bool,
    /// Seconds without a step that are still good.
    bound: u32,
}

const RULES: [Rule; 5] = [
    Rule {
        actor: "router",
        steps: |steps| steps.router,
        has_work: |snapshot, _| count(snapshot, Stage::Arrived) + count(snapshot, Stage::Routing) > 0,
        bound: 60,
    },
    Rule {
        actor: "slot",
        steps: |steps| steps.slots,
        has_work: |snapshot, _| {
            let waits = count(snapshot, Stage::Ready) > 0 && count(snapshot, Stage::Running) == 0;
            waits && snapshot.runtime_ready && !snapshot.draining
        },
        bound: 60,
    },
    Rule {
        actor: "publisher",
        steps: |steps| steps.publisher,
        has_work: |snapshot, broker| {
            let held = usize::try_from(snapshot.steps.held).unwrap_or(usize::MAX);
            count(snapshot, Stage::Publishing) > held && broker == Broker::Works
        },
        bound: 120,
    },
    Rule {
        actor: "acker",
        steps: |steps| steps.acker,
        has_work: |snapshot, broker| count(snapshot, Stage::Settling) > 0 && broker == Broker::Works,
        bound: 120,
    },
    Rule {
        actor: "reaper",
        steps: |steps| steps.reaper,
        has_work: |_, _| true,
        bound: 60,
    },
];

fn count(snapshot: &Snapshot, stage: Stage) -> usize {
    snapshot.stages.get(&stage).copied().unwrap_or_default()
}

/// Remembers since when each actor has not done a step.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// Steps at the last look, and how many looks ago they changed. Looks, not time: a process that was stopped for an
    /// hour has done nothing wrong.
    actors: [(u64, u32); RULES.len()],
    /// Seconds that publishing may take longer than usual, because final reports are waited for.
    patience: u32,
}

impl Watch {
    /// For a publisher that may wait `patience` seconds for a final report.
    pub(crate) fn new(patience: u32) -> Self {
        Self {
            patience,
            ..Self::default()
        }
    }

    /// Takes a look, once a second; names who is stuck.
    pub(crate) fn look(&mut self, snapshot: &Snapshot, broker: Broker) -> Vec<String> {
        let mut stuck = Vec::new();
        for (rule, (steps, looks)) in RULES.iter().zip(&mut self.actors) {
            let now = (rule.steps)(&snapshot.steps);
            if now != *steps || !(rule.has_work)(snapshot, broker) {
                (*steps, *looks) = (now, 0);
                continue;
            }
            *looks = looks.saturating_add(1);
            let patience = if rule.actor == "publisher" {
                self.patience
            } else {
                0
            };
            if *looks > rule.bound.saturating_add(patience) {
                stuck.push(format!(
                    "the {} has work and has done nothing for {looks} s",
                    rule.actor
                ));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use asya_sidecar::QueueState;

    use super::*;

    /// A tree that holds one message in `stage`, at its n-th look; the reaper lives.
    fn snapshot(stage: Stage, look: u64) -> Snapshot {
        Snapshot {
            runtime_ready: true,
            workers: 0,
            workers_ready: 0,
            calls: 0,
            stages: HashMap::from([(stage, 1)]),
            credits_taken: 1,
            credit: 1,
            bytes_held: 1,
            restarts: 0,
            queue: QueueState::Found,
            steps: Steps {
                reaper: look,
                ..Steps::default()
            },
            draining: false,
        }
    }

    /// Whom a watch finds stuck that sees the same for ten minutes.
    fn stuck_after_all(change: impl Fn(&mut Snapshot, u64), stage: Stage, broker: Broker) -> Vec<String> {
        let mut watch = Watch::default();
        let mut stuck = Vec::new();
        for look in 1..=600 {
            let mut seen = snapshot(stage, look);
            change(&mut seen, look);
            stuck = watch.look(&seen, broker);
        }
        stuck
    }

    #[test]
    fn whoever_has_work_and_does_nothing_is_stuck() {
        for (stage, actor) in [
            (Stage::Arrived, "router"),
            (Stage::Routing, "router"),
            (Stage::Ready, "slot"),
            (Stage::Publishing, "publisher"),
            (Stage::Settling, "acker"),
        ] {
            let stuck = stuck_after_all(|_, _| {}, stage, Broker::Works);
            assert_eq!(stuck.len(), 1, "{stage:?}: {stuck:?}");
            assert!(stuck[0].contains(actor), "{stuck:?}");
        }
        let stuck = stuck_after_all(|seen, _| seen.steps.reaper = 7, Stage::Running, Broker::Works);
        assert!(stuck.len() == 1 && stuck[0].contains("reaper"), "{stuck:?}");
    }

    #[test]
    fn what_is_outside_of_the_sidecar_is_no_reason() {
        let nobody = Vec::<String>::new();
        assert_eq!(
            stuck_after_all(|_, _| {}, Stage::Running, Broker::Works),
            nobody,
            "a long call"
        );
        assert_eq!(
            stuck_after_all(|_, _| {}, Stage::Publishing, Broker::Away),
            nobody
        );
        assert_eq!(stuck_after_all(|_, _| {}, Stage::Settling, Broker::Away), nobody);
        let away = |seen: &mut Snapshot, _| seen.runtime_ready = false;
        assert_eq!(stuck_after_all(away, Stage::Ready, Broker::Works), nobody);
        let behind = |seen: &mut Snapshot, _| {
            seen.stages.insert(Stage::Running, 1);
        };
        assert_eq!(
            stuck_after_all(behind, Stage::Ready, Broker::Works),
            nobody,
            "behind a long call"
        );
        let held = |seen: &mut Snapshot, _| seen.steps.held = 1;
        assert_eq!(stuck_after_all(held, Stage::Publishing, Broker::Works), nobody);
        let retries = |seen: &mut Snapshot, look| seen.steps.publisher = look / 10;
        assert_eq!(
            stuck_after_all(retries, Stage::Publishing, Broker::Works),
            nobody,
            "error-end is missing"
        );
    }

    #[test]
    fn a_step_ends_the_suspicion() {
        let mut watch = Watch::default();
        for look in 1..=100 {
            watch.look(&snapshot(Stage::Arrived, look), Broker::Works);
        }
        let mut seen = snapshot(Stage::Arrived, 101);
        assert_eq!(watch.look(&seen, Broker::Works).len(), 1);
        seen.steps.router = 1;
        assert!(watch.look(&seen, Broker::Works).is_empty());
    }
}
