//! A RabbitMQ node of the benches' own, and the ways to move messages on it that are compared.
//!
//! What it is: a [`Node`] with three queues, filled anew for each round; [`bare`], the least that moves messages with
//! the same guarantees; [`sidecar`], the real program; and [`Child`], any program whose speed is looked at from
//! outside. What it is not: it knows nothing about tables and rounds, and it never touches a broker that was there.
//!
//! Start reading at [`Node::rate`]: every party is measured by what the broker counts in the queue it fills.

pub mod bare;
mod child;
mod echo;
mod node;
mod process;
pub mod sidecar;

pub use child::Child;
pub use echo::Echo;
pub use node::{Kind, NEXT, Node, STEP, address_of};
pub use process::{Processor, Usage};
