//! Errors of the core as statuses of gRPC. What a store says goes to the log, not to callers.

use asya_gateway_store::StoreError;
use tonic::Status;

use super::token::TokenError;
use crate::core::LookupError;

/// The store did not do what a client asked for.
pub(super) fn store(error: &StoreError) -> Status {
    match error {
        StoreError::Unavailable(cause) => {
            tracing::warn!(%cause, "the store is not available");
            Status::unavailable("the store is not available; try again")
        }
        StoreError::Broken(_) | StoreError::Schema(_) => {
            tracing::error!(%error, "the store failed");
            Status::internal("the store failed; the gateway's log says why")
        }
    }
}

/// The store did not take reports. They must come again, whatever the reason (`EnvelopeStatus.Report`).
pub(super) fn report(error: &StoreError) -> Status {
    tracing::warn!(%error, "reports could not be stored; they are asked for again");
    Status::unavailable("the store did not take the reports; send them again")
}

/// Nothing can be said about an envelope.
pub(super) fn lookup(error: &LookupError) -> Status {
    match error {
        LookupError::Unknown => Status::not_found("no such envelope"),
        LookupError::HistoryGone => Status::out_of_range(
            "after_cursor: the history does not reach back that far; start without a cursor",
        ),
        LookupError::Store(error) => store(error),
    }
}

/// A token leads nowhere.
pub(super) fn token(field: &str, error: TokenError) -> Status {
    Status::invalid_argument(format!("{field}: {error}"))
}

/// The gateway ends a stream because it stops.
pub(super) fn closing() -> Status {
    Status::unavailable("the gateway is shutting down; reconnect")
}
