//! The restartable actors of one sidecar, one file each. They hold no message that is not also in the ledger.
//!
//! What all of them do alike is here: each is a [`Duty`], and [`Member`] makes an actor of it.

pub(crate) mod acker;
pub(crate) mod consumer;
pub(crate) mod probe;
pub(crate) mod publisher;
pub(crate) mod reaper;
pub(crate) mod router;
pub(crate) mod slot;

use std::marker::PhantomData;

use futures::FutureExt as _;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::context::{Doorbell, Fault};

/// What an actor of the tree understands. None of these carries work: that is in the ledger.
pub(crate) enum Message {
    /// Look for work.
    Look,
    /// Stop taking in new messages for good: the tree drains.
    Pause,
    /// A task that the actor depends on has ended.
    Broken(String),
    /// End as a test demands.
    Inject(Fault),
}

/// The work of one kind of actor, and its state. It is made anew for each incarnation, and takes back from the ledger
/// what the one before had in hand.
pub(crate) trait Duty: Send + Sync + 'static {
    /// The bell by which others wake this actor.
    fn door(&self) -> &Doorbell;

    /// Called once the actor can be woken.
    fn started(&mut self, _myself: &ActorRef<Message>) {}

    /// Looks for work and does it. An error ends this incarnation; what is expected to fail is no error here.
    fn look(
        &mut self,
        myself: &ActorRef<Message>,
    ) -> impl Future<Output = Result<(), ActorProcessingErr>> + Send;

    /// Stops taking in new messages.
    fn pause(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// The actor that does a [`Duty`].
pub(crate) struct Member<D>(PhantomData<fn() -> D>);

impl<D> Default for Member<D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<D: Duty> Actor for Member<D> {
    type Msg = Message;
    type State = D;
    type Arguments = D;

    async fn pre_start(&self, _: ActorRef<Message>, duty: D) -> Result<D, ActorProcessingErr> {
        Ok(duty)
    }

    async fn post_start(&self, myself: ActorRef<Message>, duty: &mut D) -> Result<(), ActorProcessingErr> {
        duty.door().connect(myself.clone());
        duty.started(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        duty: &mut D,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Look => {
                duty.door().answered();
                duty.look(&myself).await
            }
            Message::Pause => {
                duty.pause().await;
                Ok(())
            }
            Message::Broken(cause) => Err(cause.into()),
            Message::Inject(fault) => fault.strike(),
        }
    }
}

/// Starts a task that an actor depends on: how it fails, the actor fails. It ends with the actor.
fn spawn_pump(
    tasks: &mut JoinSet<()>,
    myself: &ActorRef<Message>,
    pump: impl Future<Output = Result<(), ActorProcessingErr>> + Send + 'static,
) {
    let myself = myself.clone();
    tasks.spawn(async move {
        let cause = match std::panic::AssertUnwindSafe(pump).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the pump panicked".into(),
        };
        // Nobody to tell means that the actor is ending already.
        let _told = myself.cast(Message::Broken(cause));
    });
}

/// Removes finished tasks of an actor; one that failed or panicked fails its owner, so that its work is recovered.
fn collect(tasks: &mut JoinSet<Result<(), ActorProcessingErr>>) -> Result<(), ActorProcessingErr> {
    while let Some(ended) = tasks.try_join_next() {
        match ended {
            Ok(result) => result?,
            Err(error) => return Err(format!("a task of this actor ended: {error}").into()),
        }
    }
    Ok(())
}
