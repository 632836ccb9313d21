//! Object storage for what pipelines leave behind.
//!
//! What it is: a typed layer over the `object_store` crate. [`Results`] keeps one object per finished envelope,
//! under keys that can be told from the envelope's id, in a directory (cargo feature `fs`) or a bucket (`s3`).
//! What it is not: it knows no envelopes, no queues and no retries; callers pass the [`Facts`] that a key is made of
//! and decide what a failure means.
//!
//! Start reading at [`Results::put_result`]. How ids become names is in [`key`], how a body is laid out in [`indent`].

#[cfg(not(any(feature = "fs", feature = "s3")))]
compile_error!("asya-objects needs a place for objects: enable the feature `fs` or `s3`");

pub mod key;

mod indent;
mod location;
mod results;

pub use indent::indent;
pub use key::{End, Facts};
#[cfg(feature = "s3")]
pub use location::{Bucket, Keys};
pub use location::{Durability, OpenError};
pub use results::{Results, StoreError, StoredObject};
