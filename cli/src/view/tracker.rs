//! The figures of a run: which envelopes are still open, what each actor has done and how long it took. No I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use asya_runtime_protocol::RawJson;
use asya_sidecar::{Event, FinalReport, FinalStatus};

/// What one actor has done since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActorFigures {
    /// Envelopes in the handler. A set, since a call may be begun again after its slot was restarted.
    running: HashSet<String>,
    /// Calls that ended well.
    pub(crate) done: usize,
    /// Envelopes that failed here.
    pub(crate) failed: usize,
    /// How long the calls took, those that failed included.
    pub(crate) times: Vec<Duration>,
}

impl ActorFigures {
    /// Handler calls under way.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }
}

/// An envelope that has come to its end.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// Its id.
    pub(crate) id: String,
    /// Good or bad.
    pub(crate) status: FinalStatus,
    /// The actor at which it failed, as far as known.
    pub(crate) failed_at: Option<String>,
    /// What went wrong, in one line.
    pub(crate) error: Option<String>,
    /// Where it is stored, once known.
    pub(crate) stored: Option<String>,
}

/// See the module documentation.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    actors: BTreeMap<String, ActorFigures>,
    /// Envelopes of this run: true while open.
    open: HashMap<String, bool>,
    open_count: usize,
    failed_at: HashMap<String, String>,
    stored: HashMap<String, String>,
    finished: Vec<Finished>,
    /// Envelopes that ended here and belong to an earlier run.
    others: usize,
    adopts_all: bool,
}

impl Tracker {
    /// A tracker that takes every envelope for its own, as `asya up` does.
    pub(crate) fn of_everything() -> Self {
        Self {
            adopts_all: true,
            ..Self::default()
        }
    }

    /// An envelope of this run is about to be sent.
    pub(crate) fn sent(&mut self, id: &str) {
        if !self.open.contains_key(id) {
            self.open.insert(id.to_owned(), true);
            self.open_count += 1;
        }
    }

    /// Something happened to envelope `id` at `actor`.
    pub(crate) fn progress(&mut self, actor: &str, id: &str, event: &Event) {
        let figures = self.actors.entry(actor.to_owned()).or_default();
        match event {
            Event::Received { .. } => {}
            Event::Processing => {
                figures.running.insert(id.to_owned());
            }
            Event::Completed { took, .. } => {
                figures.running.remove(id);
                figures.done += 1;
                figures.times.push(*took);
            }
            Event::Failed { took, .. } => {
                if figures.running.remove(id) {
                    figures.times.push(*took);
                }
                figures.failed += 1;
                self.failed_at.insert(id.to_owned(), actor.to_owned());
            }
            Event::Child { id, parent_id } => {
                if self.open.contains_key(parent_id) {
                    self.sent(id);
                }
            }
        }
    }

    /// The result of envelope `id` was stored at `place`.
    pub(crate) fn stored(&mut self, id: &str, place: String) {
        self.stored.insert(id.to_owned(), place);
    }

    /// An end actor has the final word about an envelope. True if it belongs to this run and had none yet.
    pub(crate) fn finish(&mut self, report: &FinalReport) -> bool {
        if self.adopts_all {
            self.sent(&report.id);
        }
        match self.open.get_mut(&report.id) {
            Some(open) if *open => *open = false,
            Some(_) => return false, // A repeat changes no final state.
            None => {
                self.others += 1;
                return false;
            }
        }
        self.open_count -= 1;
        let own = self.failed_at.remove(&report.id);
        // An item of a fan-out fails under its own id, at the actor where its parent did.
        let failed_at = own.or_else(|| self.failed_parent(&report.id));
        self.finished.push(Finished {
            id: report.id.clone(),
            status: report.status,
            failed_at: failed_at.filter(|_| report.status == FinalStatus::Failed),
            error: one_line(report),
            stored: self.stored.remove(&report.id),
        });
        true
    }

    fn failed_parent(&self, id: &str) -> Option<String> {
        let (parent, _) = id.rsplit_once('-')?;
        self.failed_at.get(parent).cloned()
    }

    /// Whether every envelope of this run, children included, has come to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.open_count == 0
    }

    /// Envelopes of this run that have not come to their end.
    pub(crate) fn open(&self) -> usize {
        self.open_count
    }

    /// Those that have, in the order of their ends.
    pub(crate) fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// How many of them failed.
    pub(crate) fn failed(&self) -> usize {
        self.finished
            .iter()
            .filter(|finished| finished.status == FinalStatus::Failed)
            .count()
    }

    /// How many envelopes of earlier runs came to their end meanwhile.
    pub(crate) fn others(&self) -> usize {
        self.others
    }

    /// What each actor has done.
    pub(crate) fn actors(&self) -> &BTreeMap<String, ActorFigures> {
        &self.actors
    }
}

/// The failure in one line: the code, and the human text if the runtime gave one.
fn one_line(report: &FinalReport) -> Option<String> {
    let code = report.error.as_deref()?;
    let details = report
        .error_details
        .clone()
        .and_then(|details| asya_runtime_protocol::RawObject::try_from(details).ok());
    let message = details
        .and_then(|details| details.get("message"))
        .as_ref()
        .and_then(RawJson::to_text);
    let text = message.map_or_else(|| code.to_owned(), |message| format!("{code}: {message}"));
    Some(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn report(id: &str, status: FinalStatus) -> FinalReport {
        FinalReport {
            actor: "happy-end".into(),
            id: id.into(),
            status,
            result: None,
            error: None,
            error_details: None,
            message: Bytes::new(),
        }
    }

    #[test]
    fn a_run_is_over_when_its_envelopes_and_all_their_children_are() {
        let mut tracker = Tracker::default();
        tracker.sent("x");
        let child = |id: &str, parent: &str| Event::Child {
            id: id.into(),
            parent_id: parent.into(),
        };
        tracker.progress("split", "x", &child("x-1", "x"));
        tracker.progress("split", "x", &child("x-1", "x"));
        tracker.progress("again", "x-1", &child("x-1-1", "x-1"));
        assert!(tracker.finish(&report("x", FinalStatus::Succeeded)));
        assert!(tracker.finish(&report("x-1", FinalStatus::Failed)));
        assert!(!tracker.is_over());
        assert!(
            !tracker.finish(&report("x", FinalStatus::Failed)),
            "a repeat changes nothing"
        );
        assert!(tracker.finish(&report("x-1-1", FinalStatus::Succeeded)));
        assert!(tracker.is_over());
        assert_eq!((tracker.finished().len(), tracker.failed()), (3, 1));
    }

    #[test]
    fn envelopes_of_earlier_runs_are_counted_apart() {
        let mut tracker = Tracker::default();
        tracker.sent("x");
        assert!(!tracker.finish(&report("old", FinalStatus::Succeeded)));
        assert_eq!((tracker.others(), tracker.open()), (1, 1));
    }

    #[test]
    fn figures_follow_the_events() {
        let mut tracker = Tracker::default();
        let took = Duration::from_millis(3);
        for id in ["x", "x", "y"] {
            tracker.progress("a", id, &Event::Processing);
        }
        tracker.progress("a", "x", &Event::Completed { took, outputs: 1 });
        let figures = &tracker.actors()["a"];
        assert_eq!((figures.running(), figures.done, figures.failed), (1, 1, 0));
        tracker.progress(
            "a",
            "y",
            &Event::Failed {
                took,
                error: String::new(),
            },
        );
        let figures = &tracker.actors()["a"];
        assert_eq!(
            (
                figures.running(),
                figures.done,
                figures.failed,
                figures.times.len()
            ),
            (0, 1, 1, 2)
        );
    }
}
