//! The figures of a run: which envelopes are still open, what each actor has done and how long it took. No I/O.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use asya_runtime_protocol::RawJson;
use asya_sidecar::{Event, FinalReport, FinalStatus};

use super::recent::{Recent, Times};
use super::told::Told;

/// Envelopes of either end that are kept to be shown one by one: good and bad.
const KEPT: (usize, usize) = (8, 20);

/// What one actor has done since the start.
#[derive(Debug, Clone, Default)]
pub(crate) struct ActorFigures {
    /// Envelopes in the handler. A set, since a call may be begun again after its slot was restarted.
    running: HashSet<String>,
    /// Calls that ended well.
    pub(crate) done: usize,
    /// Envelopes that failed here.
    pub(crate) failed: usize,
    /// Failed runs that are followed by another.
    pub(crate) retried: usize,
    /// How long the calls took, those that failed included.
    pub(crate) times: Times,
    /// What was told last about a call under way, and the envelope of that.
    told: Option<(String, Told)>,
    /// Envelopes of this run in the handler that have brought children already. The first item of a generator has the
    /// id of its input, and may come to its end while others are still to be made.
    yielding: HashSet<String>,
}

impl ActorFigures {
    /// Handler calls under way.
    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// What the handler told last, while that call is under way.
    pub(super) fn told(&self) -> Option<&Told> {
        self.told.as_ref().map(|(_, told)| told)
    }

    /// The call with envelope `id` has ended. True if it was under way.
    fn ended(&mut self, id: &str) -> bool {
        self.told.take_if(|(about, _)| about == id);
        self.yielding.remove(id);
        self.running.remove(id)
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

/// The envelopes that have come to one of the two ends.
#[derive(Debug, Default)]
pub(crate) struct Ended {
    count: usize,
    kept: VecDeque<Finished>,
}

impl Ended {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Some of them, in the order of their ends.
    pub(crate) fn kept(&self) -> impl ExactSizeIterator<Item = &Finished> {
        self.kept.iter()
    }
}

/// Which envelopes count.
#[derive(Debug)]
enum Scope {
    /// Those of this run; true while open. The first to end are kept.
    Run(HashMap<String, bool>),
    /// All; these have ended lately. The last to end are kept.
    Everything(Recent<()>),
}

/// See the module documentation.
#[derive(Debug)]
pub(crate) struct Tracker {
    actors: BTreeMap<String, ActorFigures>,
    scope: Scope,
    open_count: usize,
    failed_at: Recent<String>,
    stored: Recent<String>,
    good: Ended,
    bad: Ended,
    /// Envelopes that ended here and belong to an earlier run.
    others: usize,
}

impl Tracker {
    /// A tracker of one run, which takes for its own what it has sent.
    pub(crate) fn of_run() -> Self {
        Self::new(Scope::Run(HashMap::new()))
    }

    /// A tracker that takes every envelope for its own, as `asya up` does. It does not grow with their number.
    pub(crate) fn of_everything() -> Self {
        Self::new(Scope::Everything(Recent::default()))
    }

    fn new(scope: Scope) -> Self {
        Self {
            actors: BTreeMap::new(),
            scope,
            open_count: 0,
            failed_at: Recent::default(),
            stored: Recent::default(),
            good: Ended::default(),
            bad: Ended::default(),
            others: 0,
        }
    }

    /// An envelope of this run is about to be sent.
    pub(crate) fn sent(&mut self, id: &str) {
        if let Scope::Run(open) = &mut self.scope
            && !open.contains_key(id)
        {
            open.insert(id.to_owned(), true);
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
                figures.ended(id);
                figures.done += 1;
                figures.times.push(*took);
            }
            Event::Retrying { took, .. } => {
                figures.ended(id);
                figures.retried += 1;
                figures.times.push(*took);
            }
            Event::Failed { took, .. } => {
                if figures.ended(id) {
                    figures.times.push(*took);
                }
                figures.failed += 1;
                self.failed_at.insert(id, actor.to_owned());
            }
            Event::Cancelled { .. } => {
                figures.ended(id);
            }
            Event::Partial { .. } | Event::Noted { .. } => {
                figures.told = Told::of(event).map(|told| (id.to_owned(), told));
            }
            Event::Child { id, parent_id } => {
                if matches!(&self.scope, Scope::Run(open) if open.contains_key(parent_id)) {
                    if figures.running.contains(parent_id) {
                        figures.yielding.insert(parent_id.clone());
                    }
                    self.sent(id);
                }
            }
        }
    }

    /// The result of envelope `id` was stored at `place`.
    pub(crate) fn stored(&mut self, id: &str, place: String) {
        self.stored.insert(id, place);
    }

    /// An end actor has the final word about an envelope. True if it belongs to this run and had none yet.
    pub(crate) fn finish(&mut self, report: &FinalReport) -> bool {
        match &mut self.scope {
            Scope::Everything(ended) => {
                if !ended.insert(&report.id, ()) {
                    return false; // A repeat changes no final state.
                }
            }
            Scope::Run(open) => match open.get_mut(&report.id) {
                Some(open) if *open => {
                    *open = false;
                    self.open_count -= 1;
                }
                Some(_) => return false,
                None => {
                    self.others += 1;
                    return false;
                }
            },
        }
        let is_bad = report.status == FinalStatus::Failed;
        let own = self.failed_at.get(&report.id).cloned();
        // An item of a fan-out fails under its own id, at the actor where its parent did.
        let failed_at = own.or_else(|| self.failed_parent(&report.id));
        let finished = Finished {
            id: report.id.clone(),
            status: report.status,
            failed_at: failed_at.filter(|_| is_bad),
            error: one_line(report),
            stored: self.stored.get(&report.id).cloned(),
        };
        let (ended, room) = if is_bad {
            (&mut self.bad, KEPT.1)
        } else {
            (&mut self.good, KEPT.0)
        };
        ended.count += 1;
        if ended.kept.len() < room {
            ended.kept.push_back(finished);
        } else if matches!(self.scope, Scope::Everything(_)) {
            ended.kept.pop_front();
            ended.kept.push_back(finished);
        }
        true
    }

    fn failed_parent(&self, id: &str) -> Option<String> {
        let (parent, _) = id.rsplit_once('-')?;
        self.failed_at.get(parent).cloned()
    }

    /// Whether every envelope of this run, children included, has come to its end.
    pub(crate) fn is_over(&self) -> bool {
        self.open_count == 0 && self.actors.values().all(|actor| actor.yielding.is_empty())
    }

    /// Envelopes of this run that have not come to their end.
    pub(crate) fn open(&self) -> usize {
        self.open_count
    }

    /// How many have.
    pub(crate) fn finished(&self) -> usize {
        self.good.count + self.bad.count
    }

    /// How many of them failed.
    pub(crate) fn failed(&self) -> usize {
        self.bad.count
    }

    /// Those that came to `happy-end`.
    pub(crate) fn good(&self) -> &Ended {
        &self.good
    }

    /// Those that came to `error-end`.
    pub(crate) fn bad(&self) -> &Ended {
        &self.bad
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
mod tests;
