//! Tells the gateway what is seen of every actor (`ActorStatus` of `asya/status/v1`).

use crate::resource::AsyncActor;
use crate::status::Status;

/// What the controller tells of actors; cheap to call, never waits. Implementations keep the newest of each actor.
pub trait Observer: Send + Sync + 'static {
    /// The whole present state of one actor.
    fn observed(&self, actor: &AsyncActor, status: &Status);
    /// An actor is gone.
    fn deleted(&self, namespace: &str, name: &str);
    /// Every actor that exists has been told once since this process leads.
    fn synced(&self);
}

/// Nobody is told.
#[derive(Debug, Default, Clone, Copy)]
pub struct Nobody;

impl Observer for Nobody {
    fn observed(&self, _: &AsyncActor, _: &Status) {}
    fn deleted(&self, _: &str, _: &str) {}
    fn synced(&self) {}
}
