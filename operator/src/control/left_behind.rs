//! A Deployment that a Go operator left running when its actor became another kind of workload (O-30). It has no label of
//! ours, so that no watch tells of it. Here it gets one; that it is not wanted any more is then seen as with any other
//! object, once the workload that takes its place exists (contract operator §7.4).

use super::adoption;
use super::reconcile::{Controller, is_ours};
use super::view::ObjectKey;
use super::work_queue::Key;
use crate::desired::Kind;
use crate::resource::Actor;

impl Controller {
    /// Marks such a Deployment of an actor whose workload is to be a `kind` and does not exist yet. The Go operator made
    /// no other kinds.
    pub(super) async fn mark_left_behind(
        &self,
        key: &Key,
        actor: &Actor,
        kind: Kind,
    ) -> Result<(), kube::Error> {
        if kind == Kind::Deployment {
            return Ok(());
        }
        let place = ObjectKey {
            kind: Kind::Deployment,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        };
        let Some(live) = self.applier.find(&place).await? else {
            return Ok(());
        };
        if live.actor.is_none() && is_ours(actor, &live.body()) {
            self.applier
                .merge(&place, &adoption::mark(actor, actor.generation))
                .await?;
        }
        Ok(())
    }
}
