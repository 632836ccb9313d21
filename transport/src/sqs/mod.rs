//! Amazon SQS: administration of queues. Consuming and publishing are not here yet.
//!
//! What it is: making, comparing, tagging, counting and deleting queues for an operator ([`SqsKeeper`]). What it is not:
//! a [`Transport`](crate::Transport); that half will share [`SqsOptions`] and the client made from them.
//!
//! Every request goes to the endpoint of the options, also when the service answers with queue URLs on another host.

mod client;
mod error;
mod keeper;
mod options;
mod redrive;

pub use keeper::{DeadLetter, SqsKeeper, Wanted};
pub use options::{SqsOptions, StaticKeys};
