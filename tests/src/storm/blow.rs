//! What strikes, and when: decided by the seed alone, before anything runs.

use std::time::Duration;

use crate::chance::Chance;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL for the sidecar of this pod.
    Sidecar(usize),
    /// SIGKILL for the runtime of this pod.
    Runtime(usize),
    /// SIGKILL for both programs of this pod, as when a node dies.
    Pod(usize),
    /// The broker closes all connections.
    Connections,
    /// SIGKILL for the broker, which is started again.
    Broker,
}

/// A fault and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    /// It strikes once so many envelopes have ended,
    pub(super) ended: u64,
    /// and this has passed, so that it does not always strike when we have just looked.
    pub(super) after: Duration,
    pub(super) blow: Blow,
}

/// `kills` faults, `broker_kills` of them against the broker, spread over the work on `envelopes`.
pub(super) fn plan(chance: &mut Chance, envelopes: usize, kills: usize, broker_kills: usize) -> Vec<Planned> {
    let mut blows: Vec<_> = (0..kills)
        .map(|number| {
            if number < broker_kills {
                Blow::Broker
            } else {
                other_than_broker(chance)
            }
        })
        .collect();
    // Shuffled: the broker's are not the first.
    for last in (1..blows.len()).rev() {
        blows.swap(last, chance.below(last + 1));
    }
    // The last tenth of the work is left for the last blow to be survived in.
    let stretch = envelopes * 9 / 10;
    let count = blows.len().max(1);
    let at = |number: usize, chance: &mut Chance| {
        let (from, to) = (stretch * number / count, stretch * (number + 1) / count);
        u64::try_from(from + chance.below((to - from).max(1))).unwrap_or(u64::MAX)
    };
    blows
        .into_iter()
        .enumerate()
        .map(|(number, blow)| Planned {
            ended: at(number, chance).max(1),
            after: Duration::from_millis(20).mul_f64(chance.next()),
            blow,
        })
        .collect()
}

fn other_than_broker(chance: &mut Chance) -> Blow {
    let pod = chance.below(super::ROUTE.len());
    match chance.below(100) {
        0..45 => Blow::Sidecar(pod),
        45..80 => Blow::Runtime(pod),
        80..90 => Blow::Pod(pod),
        _ => Blow::Connections,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_blows_strike_in_order_before_the_work_is_done() {
        let draw = |seed| plan(&mut Chance::new(seed), 5_000, 200, 20);
        let blows = draw(3);
        assert_eq!(blows, draw(3));
        assert_ne!(blows, draw(4));
        assert_eq!(blows.len(), 200);
        assert!(blows.is_sorted_by_key(|blow| blow.ended));
        assert!(blows.iter().all(|blow| (1..4_500).contains(&blow.ended)));
        let of_broker = |blow: &&Planned| blow.blow == Blow::Broker;
        assert_eq!(blows.iter().filter(of_broker).count(), 20);
        for kind in [
            Blow::Sidecar(1),
            Blow::Runtime(2),
            Blow::Pod(0),
            Blow::Connections,
        ] {
            assert!(blows.iter().any(|blow| blow.blow == kind), "{kind:?}");
        }
    }
}
