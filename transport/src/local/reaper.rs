//! Gives back the leases of owners that died.

use rusqlite::{Connection, TransactionBehavior};
use tracing::debug;

use super::BoxError;
use super::owner::Owner;
use super::store;

/// Looks for dead owners, ends their leases and removes their lock files. Returns how many leases there were.
pub(super) fn give_back_leases_of_the_dead(
    connection: &mut Connection,
    owner: &Owner,
) -> Result<usize, BoxError> {
    let mut leases = 0;
    for dead in owner.dead()? {
        leases += give_back(connection, &dead.id)?;
        debug!(owner = dead.id, leases, "found an owner that ended");
        dead.bury()?;
    }
    Ok(leases)
}

/// Ends leases whose owner has no lock file at all, as in a queue file that was copied without its directory. A
/// living owner has its file before its first lease and until after its last one.
pub(super) fn give_back_leases_of_the_unknown(
    connection: &mut Connection,
    owner: &Owner,
) -> rusqlite::Result<()> {
    for id in store::owners(connection)? {
        if !owner.knows(&id) {
            let leases = give_back(connection, &id)?;
            debug!(owner = id, leases, "found leases without an owner");
        }
    }
    Ok(())
}

fn give_back(connection: &mut Connection, id: &str) -> rusqlite::Result<usize> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let leases = store::give_all_back(&transaction, id)?;
    transaction.commit()?;
    Ok(leases)
}
