//! The end actors: `happy-end` and `error-end`, where every envelope comes to rest.
//!
//! What it is: [`EndHandler`], a native handler on the runtime protocol, which stores the whole envelope and answers
//! `[{}]`; [`serve_end_actor`] puts it behind a socket, where a sidecar in end-actor mode calls it.
//! What it is not: it reports nothing to a gateway (its sidecar does) and decides nothing about retries.
//!
//! Start reading at [`EndHandler`]. The rules are in contract data-plane §9.

mod handler;
mod serve;

pub use asya_objects::End;
pub use handler::{EndHandler, Ended, Observer};
pub use serve::serve_end_actor;
