//! The supervision tree of one sidecar: who supervises whom, in which order, with which budget.
//!
//! ```text
//! root                     rest_for_one   10 restarts / 60 s, then the sidecar ends with the cause
//!  ├─ runtime              one_for_one    2 × slots + 3 / 30 s
//!  │    ├─ probe           finds the runtime, keeps the session with it
//!  │    └─ slot 0..n       grows with the workers that a runtime announces
//!  ├─ publisher
//!  ├─ router
//!  ├─ lane                 one_for_all    5 / 30 s: consumer and acker share the fate of a broker channel
//!  │    ├─ acker
//!  │    └─ consumer
//!  └─ reaper
//! ```
//!
//! Order is dependency: when the runtime side melts down, everything that feeds it restarts too and nothing is
//! pulled meanwhile. A single actor that fails under the root costs a restart of those after it, which is cheap:
//! what they had in hand is in the ledger.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use tokio::task::JoinHandle;

use crate::actors::acker::Acker;
use crate::actors::consumer::Consumer;
use crate::actors::probe::Probe;
use crate::actors::publisher::Publisher;
use crate::actors::reaper::Reaper;
use crate::actors::router::Router;
use crate::actors::slot::Slot;
use crate::actors::{Duty, Member};
use crate::context::Context;
use crate::ledger::Holder;
use crate::supervision::{Child, Exit, Policy, Strategy, Supervisor, SupervisorArguments, SupervisorMessage};

/// How much each slot adds to the budget of restarts on the side of the runtime.
const RESTARTS_PER_SLOT: usize = 2;

/// Starts the whole tree.
pub(crate) async fn start(
    context: &Arc<Context>,
) -> Result<(ActorRef<SupervisorMessage>, JoinHandle<()>), SpawnErr> {
    let arguments = supervisor(context, "root", Strategy::RestForOne, budget(10, 60), |context| {
        vec![
            runtime(context),
            holder("publisher", context, Holder::Publisher, Publisher::new),
            holder("router", context, Holder::Router, Router::new),
            lane(context),
            member("reaper", context, Reaper::new),
        ]
    });
    Actor::spawn(None, Supervisor, arguments).await
}

fn runtime(context: &Arc<Context>) -> Child {
    let slots = context.slots.load(Ordering::Relaxed);
    let policy = budget(RESTARTS_PER_SLOT * slots + 3, 30);
    subtree(context, "runtime", Strategy::OneForOne, policy, |context| {
        let slots = context.slots.load(Ordering::Relaxed);
        let mut children = vec![member("probe", context, Probe::new)];
        children.extend((0..slots).map(|index| {
            let slot = move |context| Slot::new(context, index);
            holder(format!("slot {index}"), context, Holder::Slot(index), slot)
        }));
        children
    })
}

fn lane(context: &Arc<Context>) -> Child {
    subtree(context, "lane", Strategy::OneForAll, budget(5, 30), |context| {
        vec![
            holder("acker", context, Holder::Acker, Acker::new),
            member("consumer", context, Consumer::new),
        ]
    })
}

const fn budget(max_restarts: usize, window_seconds: u64) -> Policy {
    Policy {
        max_restarts,
        window: Duration::from_secs(window_seconds),
        initial_delay: Duration::from_millis(50),
        max_delay: Duration::from_secs(5),
    }
}

fn supervisor(
    context: &Arc<Context>,
    name: &'static str,
    strategy: Strategy,
    mut policy: Policy,
    children: impl Fn(&Arc<Context>) -> Vec<Child> + Send + Sync + 'static,
) -> SupervisorArguments {
    policy.max_restarts *= context.budget_factor;
    if context.budget_factor > 1 {
        policy.max_delay = Duration::from_millis(1);
    }
    let on_meltdown: Arc<dyn Fn(String) + Send + Sync> = if name == "root" {
        let context = Arc::clone(context);
        Arc::new(move |cause| context.fatal.raise(cause))
    } else {
        Arc::new(|cause| tracing::error!(%cause, "a part of the sidecar gave up"))
    };
    SupervisorArguments {
        name,
        strategy,
        policy,
        children: {
            let context = Arc::clone(context);
            Arc::new(move || children(&context))
        },
        budget_per_child: RESTARTS_PER_SLOT * context.budget_factor,
        on_restart: {
            let context = Arc::clone(context);
            Arc::new(move |child| {
                context.restarts.fetch_add(1, Ordering::Relaxed);
                context.meters.restarted(child);
            })
        },
        on_meltdown,
    }
}

/// A supervisor below the root.
fn subtree(
    context: &Arc<Context>,
    name: &'static str,
    strategy: Strategy,
    policy: Policy,
    children: impl Fn(&Arc<Context>) -> Vec<Child> + Send + Sync + 'static,
) -> Child {
    let context = Arc::clone(context);
    let children = Arc::new(children);
    child(name, move || {
        let children = Arc::clone(&children);
        let children = move |context: &Arc<Context>| children(context);
        (Supervisor, supervisor(&context, name, strategy, policy, children))
    })
}

/// An actor that takes work out of the ledger: a crash of its own is charged to the work that it held.
fn holder<D: Duty>(
    name: impl Into<String>,
    context: &Arc<Context>,
    holder: Holder,
    duty: impl Fn(Arc<Context>) -> D + Send + Sync + 'static,
) -> Child {
    let charged = Arc::clone(context);
    let on_exit = Arc::new(move |exit: &Exit| {
        if matches!(exit, Exit::Failed(_)) {
            charged.ledger.charge(holder);
        }
    });
    Child {
        on_exit,
        ..member(name, context, duty)
    }
}

/// An actor that does a duty.
fn member<D: Duty>(
    name: impl Into<String>,
    context: &Arc<Context>,
    duty: impl Fn(Arc<Context>) -> D + Send + Sync + 'static,
) -> Child {
    let context = Arc::clone(context);
    child(name, move || (Member::<D>::default(), duty(Arc::clone(&context))))
}

fn child<A: Actor>(
    name: impl Into<String>,
    make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
) -> Child {
    let start = Arc::new(move |parent: ActorCell| {
        let (actor, arguments) = make();
        let started: futures::future::BoxFuture<'static, Result<ActorCell, SpawnErr>> =
            Box::pin(async move {
                let (started, _) = Actor::spawn_linked(None, actor, arguments, parent).await?;
                Ok(started.get_cell())
            });
        started
    });
    Child {
        name: name.into(),
        start,
        on_exit: Arc::new(|_: &Exit| {}),
    }
}

/// Stops the tree in reverse order and waits for it.
pub(crate) async fn stop(
    root: &ActorRef<SupervisorMessage>,
    handle: JoinHandle<()>,
) -> Result<(), ActorProcessingErr> {
    root.stop(None);
    handle.await.map_err(Into::into)
}
