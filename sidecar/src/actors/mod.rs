//! The restartable actors of one sidecar, one file each. They hold no message that is not also in the ledger.

pub(crate) mod acker;
pub(crate) mod consumer;
pub(crate) mod probe;
pub(crate) mod publisher;
pub(crate) mod reaper;
pub(crate) mod router;
pub(crate) mod slot;

use ractor::ActorProcessingErr;
use tokio::task::JoinSet;

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
