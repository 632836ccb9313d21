//! Every envelope that was sent, and what has become of it.

use std::collections::HashMap;
use std::fmt;

use super::arrived::Arrived;

/// The texts that stand for a runtime which ended with a message in its hands, over protocol v1 (contract data-plane
/// §7.4) and over v2: the one error that a killed runtime may leave behind while no retries are configured.
const RUNTIME_ENDED: [&str; 2] = ["failed to read response from runtime", "worker_died"];

/// The count at the end of a test. Built up by looking at each message of the end queues.
#[derive(Debug, Default)]
pub struct Tally {
    sent: usize,
    /// By number of the envelope: how often it came, and the fingerprint of the first.
    happy: HashMap<usize, (usize, u64)>,
    /// By number of the envelope, too.
    failed: HashMap<usize, Vec<Arrived>>,
    /// Envelopes that came to happy-end twice and differ, or whose payload is not what was sent.
    damaged: Vec<String>,
    /// Messages that belong to no envelope that was sent.
    strangers: Vec<Arrived>,
    duplicates: usize,
}

impl Tally {
    pub(super) fn of(sent: usize) -> Self {
        Self {
            sent,
            ..Self::default()
        }
    }

    /// A message came to happy-end.
    pub(super) fn happy(&mut self, arrived: &Arrived) {
        let Some(number) = self.number(arrived) else {
            return;
        };
        if !is_intact(arrived, number) {
            self.damaged
                .push(format!("{:.200}", String::from_utf8_lossy(&arrived.body)));
        }
        let print = arrived.fingerprint();
        let (times, first) = self.happy.entry(number).or_insert((0, print));
        *times += 1;
        self.duplicates += usize::from(*times > 1);
        if *first != print {
            self.damaged.push(format!(
                "{}: two that differ ({:?})",
                arrived.id(),
                arrived.message_id
            ));
        }
    }

    /// A message came to error-end or to a dead-letter queue.
    pub(super) fn failed(&mut self, arrived: &Arrived) {
        if let Some(number) = self.number(arrived) {
            self.failed.entry(number).or_default().push(arrived.clone());
        }
    }

    fn number(&mut self, arrived: &Arrived) -> Option<usize> {
        let id = arrived.id();
        let number = id.strip_prefix("e-").and_then(|number| number.parse().ok());
        let number = number.filter(|number| *number < self.sent);
        if number.is_none() {
            self.strangers.push(arrived.clone());
        }
        number
    }

    /// Whether every envelope has come to an end.
    pub(super) fn is_complete(&self) -> bool {
        self.lost().is_empty()
    }

    /// Envelopes that came nowhere.
    pub fn lost(&self) -> Vec<usize> {
        let is_lost = |number: &usize| !self.happy.contains_key(number) && !self.failed.contains_key(number);
        (0..self.sent).filter(is_lost).collect()
    }

    /// Messages that came to happy-end once more.
    pub fn duplicates(&self) -> usize {
        self.duplicates
    }

    /// Envelopes that came to happy-end.
    pub fn results(&self) -> usize {
        self.happy.len()
    }

    /// Messages in error-end because a runtime ended with them in its hands.
    pub fn interrupted(&self) -> usize {
        self.failures().filter(|failure| is_interrupted(failure)).count()
    }

    /// Everything else in error-end and the dead-letter queues: healthy messages that were condemned.
    pub fn condemned(&self) -> Vec<&Arrived> {
        self.failures()
            .filter(|failure| !is_interrupted(failure))
            .collect()
    }

    /// What came twice and differs, or is not what was sent.
    pub fn damaged(&self) -> &[String] {
        &self.damaged
    }

    /// Messages that nobody sent.
    pub fn strangers(&self) -> &[Arrived] {
        &self.strangers
    }

    fn failures(&self) -> impl Iterator<Item = &Arrived> {
        self.failed.values().flatten()
    }

    /// Fails unless nothing is lost, damaged or condemned, and no more than so many came twice.
    pub fn assert_sound(&self, most_duplicates: usize) {
        let sound = self.lost().is_empty()
            && self.damaged.is_empty()
            && self.strangers.is_empty()
            && self.condemned().is_empty()
            && self.duplicates <= most_duplicates;
        assert!(sound, "{self}\nat most {most_duplicates} duplicates are allowed");
    }

    /// As [`assert_sound`](Self::assert_sound), and every envelope came to happy-end.
    pub fn assert_all_done(&self, most_duplicates: usize) {
        self.assert_sound(most_duplicates);
        assert_eq!(self.results(), self.sent, "{self}");
    }
}

/// Whether everything that was sent is still there (see [`envelope`](super::envelope)).
fn is_intact(arrived: &Arrived, number: usize) -> bool {
    let envelope = arrived.envelope();
    envelope["payload"]["number"].as_u64() == u64::try_from(number).ok()
        && envelope["headers"]["trace"] == format!("t-{number}")
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = |numbers: &[usize]| numbers[..numbers.len().min(10)].to_vec();
        let lost = self.lost();
        writeln!(
            formatter,
            "{} sent, {} done, {} lost {:?}, {} duplicates, {} interrupted",
            self.sent,
            self.results(),
            lost.len(),
            first(&lost),
            self.duplicates,
            self.interrupted()
        )?;
        for damaged in self.damaged.iter().take(10) {
            writeln!(formatter, "damaged: {damaged}")?;
        }
        for condemned in self.condemned().into_iter().take(10) {
            writeln!(
                formatter,
                "condemned: {} ({:?}): {}",
                condemned.id(),
                condemned.message_id,
                condemned.error()
            )?;
        }
        for stranger in self.strangers.iter().take(10) {
            writeln!(
                formatter,
                "stranger: {:.200}",
                String::from_utf8_lossy(&stranger.body)
            )?;
        }
        Ok(())
    }
}

fn is_interrupted(failure: &Arrived) -> bool {
    let error = failure.error();
    RUNTIME_ENDED.iter().any(|text| error.starts_with(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn arrived(message_id: &str, body: &str) -> Arrived {
        Arrived {
            message_id: Some(message_id.into()),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn every_kind_of_harm_is_counted_as_what_it_is() {
        let mut tally = Tally::of(6);
        let good = |number| {
            arrived(
                "x",
                &format!(
                    r#"{{"id":"e-{number}","headers":{{"trace":"t-{number}"}},"payload":{{"number":{number}}}}}"#
                ),
            )
        };
        tally.happy(&good(0));
        tally.happy(&good(1));
        tally.happy(&good(1));
        tally.happy(&Arrived {
            message_id: None,
            ..good(0)
        });
        tally.happy(&arrived("x", r#"{"id":"e-2","payload":{"number":3}}"#));
        let error = |number, text| {
            arrived(
                "x",
                &format!(r#"{{"id":"e-{number}","payload":{{"error":"{text}"}}}}"#),
            )
        };
        tally.failed(&error(3, "failed to read response from runtime: EOF"));
        tally.failed(&error(4, "unroutable"));
        tally.failed(&arrived("x", "no json"));
        assert_eq!(tally.lost(), [5]);
        assert_eq!(
            (tally.results(), tally.duplicates(), tally.interrupted()),
            (3, 2, 1)
        );
        assert_eq!((tally.damaged().len(), tally.condemned().len()), (2, 1));
        assert_eq!(tally.strangers().len(), 1);
        assert!(!tally.is_complete());
    }
}
