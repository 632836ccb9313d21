//! The actor that starts children in order, restarts them by [`Policy`] and stops them in reverse order.
//!
//! It does no I/O and calls nobody: a busy supervisor is a late restart. When its budget is spent it fails, which
//! ends its remaining children and hands the decision to the supervisor above it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};

use super::policy::{Decision, Exit, History, Policy, Strategy};

/// How long a stopping child may take before it is killed. Children await no network in their handlers, except a
/// slot that waits for its runtime, and a slot has nothing to finish once the tree stops.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// Starts one child linked to the supervisor whose cell it is given.
pub(crate) type StartChild =
    Arc<dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync>;

/// One supervised actor.
#[derive(Clone)]
pub(crate) struct Child {
    /// Name for logs.
    pub(crate) name: String,
    /// Called for the first start and for every restart.
    pub(crate) start: StartChild,
    /// Called with each exit of this child before anything is restarted, for example to charge a message.
    pub(crate) on_exit: Arc<dyn Fn(&Exit) + Send + Sync>,
}

/// What a supervisor is made of.
pub(crate) struct SupervisorArguments {
    /// Name for logs.
    pub(crate) name: &'static str,
    /// Who shares whose fate.
    pub(crate) strategy: Strategy,
    /// Restart budget of all children together.
    pub(crate) policy: Policy,
    /// In dependency order: later ones need earlier ones. Asked anew when this supervisor is to grow.
    pub(crate) children: Arc<dyn Fn() -> Vec<Child> + Send + Sync>,
    /// By how much the budget grows with each child that is added later.
    pub(crate) budget_per_child: usize,
    /// Told the name of each child that is to be started again, for counting.
    pub(crate) on_restart: Arc<dyn Fn(&str) + Send + Sync>,
    /// Told why this supervisor gave up, in one line, before it fails.
    pub(crate) on_meltdown: Arc<dyn Fn(String) + Send + Sync>,
}

/// See the module documentation.
pub(crate) struct Supervisor;

/// What a supervisor can be told.
pub(crate) enum SupervisorMessage {
    /// A delay has passed: start every child that is not running.
    StartMissing,
    /// There may be more children than before: start those.
    Grow,
}

/// State of a [`Supervisor`].
pub(crate) struct SupervisorState {
    arguments: SupervisorArguments,
    children: Vec<Child>,
    running: Vec<Option<ActorCell>>,
    history: History,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let children = (arguments.children)();
        let mut state = SupervisorState {
            running: vec![None; children.len()],
            children,
            arguments,
            history: History::default(),
        };
        for index in 0..state.running.len() {
            let child = &state.children[index];
            state.running[index] = Some((child.start)(myself.get_cell()).await?);
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::StartMissing => state.start_missing(&myself).await,
            SupervisorMessage::Grow => {
                state.grow();
                state.start_missing(&myself).await
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, exit) = match event {
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                let killed = reason.as_deref() == Some("killed");
                (cell, if killed { Exit::Killed } else { Exit::Stopped })
            }
            SupervisionEvent::ActorFailed(cell, error) => (cell, Exit::Failed(error.to_string())),
            _ => return Ok(()),
        };
        let id = cell.get_id();
        let Some(index) = state
            .running
            .iter()
            .position(|child| child.as_ref().is_some_and(|cell| cell.get_id() == id))
        else {
            return Ok(()); // A sibling that this supervisor itself retired.
        };
        state.running[index] = None;
        state.child_exited(index, &exit, &myself).await
    }

    async fn post_stop(
        &self,
        _: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        for index in (0..state.running.len()).rev() {
            if let Some(cell) = state.running[index].take() {
                retire(&cell, false).await;
            }
        }
        Ok(())
    }
}

impl SupervisorState {
    fn grow(&mut self) {
        let all = (self.arguments.children)();
        let added = all.len().saturating_sub(self.children.len());
        self.children.extend(all.into_iter().skip(self.running.len()));
        self.running.resize(self.children.len(), None);
        self.arguments.policy.max_restarts += added * self.arguments.budget_per_child;
    }

    async fn child_exited(
        &mut self,
        index: usize,
        exit: &Exit,
        myself: &ActorRef<SupervisorMessage>,
    ) -> Result<(), ActorProcessingErr> {
        let name = self.children[index].name.clone();
        tracing::warn!(supervisor = self.arguments.name, child = %name, ?exit, "actor ended, restarting it");
        (self.children[index].on_exit)(exit);
        for sibling in self.arguments.strategy.affected(index, self.running.len()).rev() {
            if let Some(cell) = self.running[sibling].take() {
                retire(&cell, true).await;
                (self.children[sibling].on_exit)(&Exit::Killed);
            }
        }
        match self.decide(&name, exit)? {
            None => self.start_missing(myself).await,
            Some(delay) => {
                myself.send_after(delay, || SupervisorMessage::StartMissing);
                Ok(())
            }
        }
    }

    /// `None` = restart now, `Some` = after this delay; an error ends this supervisor.
    fn decide(&mut self, child: &str, exit: &Exit) -> Result<Option<Duration>, ActorProcessingErr> {
        (self.arguments.on_restart)(child);
        match self
            .history
            .decide(&self.arguments.policy, Instant::now(), jitter())
        {
            Decision::RestartNow => Ok(None),
            Decision::RestartAfter(delay) => Ok(Some(delay)),
            Decision::Escalate => {
                let Policy {
                    max_restarts, window, ..
                } = self.arguments.policy;
                let cause = format!(
                    "{child} under {} ended again after {max_restarts} restarts in {} s: {exit:?}",
                    self.arguments.name,
                    window.as_secs()
                );
                (self.arguments.on_meltdown)(cause.clone());
                Err(cause.into())
            }
        }
    }

    async fn start_missing(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
    ) -> Result<(), ActorProcessingErr> {
        for index in 0..self.running.len() {
            if self.running[index].is_some() {
                continue;
            }
            let child = self.children[index].clone();
            match (child.start)(myself.get_cell()).await {
                Ok(cell) => self.running[index] = Some(cell),
                Err(error) => {
                    let exit = Exit::SpawnFailed(error.to_string());
                    tracing::warn!(supervisor = self.arguments.name, child = %child.name, ?exit, "actor did not start");
                    let delay = self.decide(&child.name, &exit)?.unwrap_or_default();
                    myself.send_after(delay, || SupervisorMessage::StartMissing);
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Ends a child and waits for it. `at_once` kills it; otherwise it may finish the handler it is in.
async fn retire(cell: &ActorCell, at_once: bool) {
    if !at_once && cell.stop_and_wait(None, Some(STOP_PATIENCE)).await.is_ok() {
        return;
    }
    // An actor that has already ended reports an error here, which is what we want to know.
    let _ended = cell.kill_and_wait(Some(STOP_PATIENCE)).await;
}

/// A cheap spread in 0..1 for restart delays; quality does not matter here.
fn jitter() -> f64 {
    let nanos = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.subsec_nanos());
    f64::from(nanos % 1_000) / 1_000.0
}
